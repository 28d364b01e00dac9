"""To be written: what trace/ is for, in one line."""
