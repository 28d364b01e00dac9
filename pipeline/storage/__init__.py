"""To be written: what storage/ is for, in one line."""
