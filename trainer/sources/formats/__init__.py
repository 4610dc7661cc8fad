"""The readers, a module a format, and what only they need: columns, decoded groups of rows, mapped arrays."""
