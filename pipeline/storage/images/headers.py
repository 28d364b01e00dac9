"""Image files checked before ITK sees them: ITK hides damage, guesses, and obeys any header.

One entry to the headers of all formats. It needs no numpy, because a plan lists the files of cases.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError, file_fault
from pipeline.storage.images.formats import meta_image_header, nifti_header, nrrd_header
from pipeline.storage.images.formats.image_bytes import StoredImage, check_data, content_kind
from pipeline.storage.images.names import META_IMAGE, NIFTI, NRRD, SUFFIXES


def is_nifti(path: Path) -> bool:
    """Whether a file is to be read as NIfTI: by its suffix, as ITK and its users do."""
    return path.name.lower().endswith(NIFTI)


def check_format(path: Path) -> None:
    """Refuse a file of a format that is not read; DICOM has a reader of its own.

    Raises:
        PipelineError: the file is no regular one, or of another format or suffix.
    """
    kind = content_kind(path)
    if not path.name.lower().endswith(SUFFIXES):
        found = f"the suffix {path.suffix!r}" + (f", with {kind} in it" if kind else "")
        raise file_fault(path, found, f"{', '.join(SUFFIXES)} or DICOM", "convert it")


def stored_image(path: Path) -> StoredImage | None:
    """What the header of a MetaImage or NRRD file says; None for others.

    Raises:
        PipelineError: the header is missing, unreadable, or says what ITK would read wrongly.
    """
    name = path.name.lower()
    if name.endswith(META_IMAGE):
        return meta_image_header.read_header(path)
    return nrrd_header.read_header(path) if name.endswith(NRRD) else None


def check_complete(path: Path) -> None:
    """Refuse a MetaImage or NRRD file whose data are not exactly those that its header promises.

    Raises:
        PipelineError: the file, or the data file that it names, is empty, cut off, damaged, missing
            or larger than memory.
    """
    if (image := stored_image(path)) is not None:
        check_data(path, image)


def stored_spacing(path: Path) -> tuple[float, ...] | None:
    """Spacing in mm along x, y, z as a file stores it; ITK would put 1 in place of 0 or NaN.

    Raises:
        PipelineError: the header is missing or unreadable.
    """
    image = stored_image(path)
    return image.spacing[:3] if image is not None and image.spacing else None


def stored_shape(path: Path) -> tuple[int, int, int] | None:
    """Voxels (z, y, x) by the header of a NIfTI or MetaImage file, even if the data are truncated.

    Raises:
        PipelineError: the header is missing or unreadable.
    """
    if is_nifti(path):
        sizes = nifti_header.read_header(path).sizes
    elif path.name.lower().endswith(META_IMAGE):
        sizes = meta_image_header.read_header(path).sizes
    else:
        return None
    x, y, z = (*sizes, 1, 1)[:3]
    return z, y, x


def data_files(path: Path) -> list[Path]:
    """The files that hold an image: the file itself, and the one that its header names.

    A faulty header names none: reading the image reports it.
    """
    try:
        image = stored_image(path)
    except PipelineError:
        return [path]
    return [path] if image is None or image.data == path else [path, image.data]
