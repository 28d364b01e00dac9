"""To be written: what plan/ is for, in one line."""
