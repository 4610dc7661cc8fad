"""What the programs share: exit codes, settings, the names in a run directory, and the lines and pipes between them."""
