"""`grcsf store`: looks at the stores of a configuration, and takes residual maps out.

- `inventory`: lists all stores with size and state, and verifies every chunk (`ls`, `verify`).
- `table`: the list for a terminal and as records.
- `prune`: finds what no configuration needs, and deletes it (`prune`).
- `export`: writes a case's image and maps as NIfTI (`export`).
"""
