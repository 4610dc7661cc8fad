"""`sweep`: many runs that differ in some flags, a few at a time, on a cluster or on this machine."""
