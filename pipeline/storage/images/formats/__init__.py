"""Formats of image files: headers parsed strictly, and every byte of the data accounted for.

Of `pipeline.storage` they import `images.geometry` and `images.names` alone; `images.headers` is
their one entry. What a plan needs of them needs no numpy.

- `image_bytes`: the bytes of a file against what its header promises; streams inflated and checked.
- `channels`: the one 3D image that is meant in a file of several.
- `nifti_header`, `meta_image_header`, `nrrd_header`: what the header of a format says.
- `nifti_image`: grids and voxels of NIfTI files, read without ITK.
- `itk_warnings`: ITK's warnings, looked at rather than shown or switched off.
"""
