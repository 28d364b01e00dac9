"""To be written: what evaluation/ is for, in one line."""
