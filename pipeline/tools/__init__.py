"""To be written: what tools/ is for, in one line."""
