"""What others have published, for trainings to use: recipes, and weights to start from.

- `published`: recipes, the keys that each fills in where they are not given.
- `start`: which networks start from whose weights, and where their files are had.
"""
