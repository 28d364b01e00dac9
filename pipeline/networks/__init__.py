"""To be written: what networks/ is for, in one line."""
