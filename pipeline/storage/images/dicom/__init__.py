"""DICOM files and folders: which of them are scans, and their values on their grid.

This room may import errors and `pipeline.storage.images.geometry`. pydicom and highdicom are
imported when a file is read; `content` needs neither, because a plan asks it, too.

- `content`: which files are DICOM, and may hold slices, by their first bytes.
- `series`: which files of a folder form an image series, and what else lies there.
- `planes`: slices and frames as planes, and the grid that they lie on.
- `volume`: a series as one array: decoded, rescaled, in spatial order.
- `segmentation`: a segmentation as a label on its image's grid.
- `new_segmentation`: a mask as a segmentation that refers to its series.
"""
