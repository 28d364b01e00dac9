"""Images in files: what is a scan or a mask, on which grid, read right or refused.

Only `volumes` uses SimpleITK, and only `dicom` uses pydicom. `names`, `headers` and `dicom.content`
need neither them nor numpy, because a plan asks them, too.

- `names`: the suffixes of images, and names without them.
- `geometry`: the grid of an image, and the check that every grid passes.
- `headers`: image files checked before ITK sees them; the one entry to `formats`.
- `formats`: a module for each format's header, and for its data.
- `dicom`: DICOM files and folders.
- `volumes`: images and masks: reading and writing.
- `nifti_bytes`: a volume as a NIfTI file in memory.
- `nearest`: a mask on another grid, by nearest neighbour.
- `source_grid`: from the grid of a file to the one that the stages work on, and back.
"""
