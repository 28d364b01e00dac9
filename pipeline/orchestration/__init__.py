"""To be written: what orchestration/ is for, in one line."""
