"""The runs of an output, or of a folder on this machine: listed, compared, and one of them shown."""
