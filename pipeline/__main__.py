"""`python -m pipeline` is `grcsf`."""

from pipeline.cli import main

if __name__ == "__main__":  # worker processes import this file, too
    main()
