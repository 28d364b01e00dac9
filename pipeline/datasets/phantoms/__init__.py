"""To be written: what phantoms/ is for, in one line."""
