"""Phantoms: synthetic data sets of known truth, for the demo, for tests and for benchmarks.

They belong to `pipeline.datasets`, and import nothing above it. A fixed seed gives the same bytes
every time, and a case does not depend on how many others there are.

- `phantom`: writes a data set in an adapter's layout, and lists its cases before they exist.
- `head`, `chest`, `heart`: the anatomy and lesions of one case, as arrays.
- `fields`: what they share: grids in mm, random fields, soft shapes, noise, truth.
- `calcium`: the reference and the Agatston score of a heart, computed independently of `grcsf`.
"""
