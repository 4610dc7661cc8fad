"""What training changes, in memory and on the disk: variables, checkpoints, model.keras."""
