"""To be written: what check/ is for, in one line."""
