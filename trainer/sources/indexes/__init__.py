"""Side indexes: where the rows of a CSV file and the records of a TFRecord shard begin, found out once and kept."""
