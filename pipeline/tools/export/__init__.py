"""To be written: what export/ is for, in one line."""
