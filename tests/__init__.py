"""A package, so that pytest puts the repository on the import path, not this folder, whose `tools` is another."""
