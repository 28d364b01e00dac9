"""What lies on the disk, and where: images, stores, masks and slices.

This room imports errors and settings; every other room may import it. Only `volumes` uses
SimpleITK, only `zarr_store` uses zarr, and only `dicom` uses pydicom. `layout`, `files`,
`image_names` and `image_headers` need neither them nor numpy, because a plan imports them, too.

- `layout`: the path of every result, and the table of all results.
- `files`: files that appear whole or not at all, JSON, digests and fingerprints.
- `source_notes`: what the files that a stage was given looked like when it read them.
- `image_names`: the suffixes of images, and names without them.
- `image_headers`: image files checked before ITK sees them.
- `image_formats`: what `image_headers` calls: a room with a module for each format.
- `geometry`: the grid of an image, and the check that every grid passes.
- `dicom`: DICOM files and folders.
- `source_grid`: from the grid of a file to the one that the stages work on, and back.
- `volumes`: images and masks in files: reading and writing.
- `intensity`: raw intensities → [0, 1], as the networks see them.
- `zarr_store`: Zarr stores: written whole, opened, verified.
- `zarr_metadata`: a store's metadata, checked before zarr sees it.
- `zarr_faults`: which faults of a store mean that it may be replaced.
- `residual_store`: residual stores of a case, links into a shared folder among them.
- `masks`: masks of predicted cases: thresholded, read and checked.
- `slices`: slices of cases as training batches.
- `roles`: the cases of a subset, and which of them are scored.
"""
