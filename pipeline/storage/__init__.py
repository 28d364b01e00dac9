"""What lies on the disk, and where: images, stores, masks and slices.

This room imports errors and settings; every other room may import it. Only `images` uses SimpleITK
and pydicom, and only `zarr_store` uses zarr. `layout` and `files` need neither them nor numpy,
because a plan imports them, too.

- `layout`: the path of every result, and the table of all results.
- `batches`: batches of cases, and the manifests that they leave.
- `files`: files that appear whole or not at all, JSON, digests and fingerprints.
- `source_notes`: what the files that a stage was given looked like when it read them.
- `images`: images in files: names, formats, DICOM, grids, reading and writing.
- `intensity`: raw intensities → [0, 1], as the networks see them.
- `folders`: what lies beside a manifest, and folders of many cases' stores, by digest.
- `zarr_store`: Zarr stores: written whole, opened, verified.
- `zarr_metadata`: a store's metadata, checked before zarr sees it.
- `zarr_faults`: which faults of a store mean that it may be replaced.
- `residual_store`: residual stores of a case, links into a shared folder among them.
- `masks`: masks of predicted cases: thresholded, read and checked.
- `source_volumes`: image, reference and maps of a case on its source's grid, for viewers.
- `slices`: slices of cases as training batches.
- `roles`: the cases of a subset, and which of them are scored.
"""
