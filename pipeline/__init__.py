"""The stages: paths in, paths out; each reads and writes stores and calls `grcsf`."""
