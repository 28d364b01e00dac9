"""To be written: what explain/ is for, in one line."""
