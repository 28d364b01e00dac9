"""To be written: what store/ is for, in one line."""
