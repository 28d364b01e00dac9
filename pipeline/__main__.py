"""`python -m pipeline` is `grcsf`."""

from pipeline.cli import main

main()
