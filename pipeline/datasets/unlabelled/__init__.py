"""Scans that nobody has labelled, to which a trained model is applied.

- `images`: the adapter of a folder with images of any names.
- `scans`: the cases of any layout, their labels left aside.
"""
