"""`grcsf explain`: what the masked passes and the network's units make of single slices.

- `explain`: loads the models, chooses the slices, writes the pictures.
- `view`: computes everything that a picture shows of a slice.
- `picture`: draws it.
"""
