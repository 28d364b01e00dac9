"""To be written: what planning/ is for, in one line."""
