"""How image files are called: the suffixes that are read, and the names without them."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii.gz", ".nii")
META_IMAGE = (".mha", ".mhd")
NRRD = (".nrrd",)
SUFFIXES = (*NIFTI, *META_IMAGE, *NRRD)


def looks_like_image(name: str) -> bool:
    """Whether a file of this name would be read as an image; hidden files would not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def without_suffix(name: str) -> str:
    """A name without the suffix of an image, if it has one."""
    ending = next((end for end in SUFFIXES if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def image_name(path: Path) -> str:
    """A file's name without its suffix, and a folder's whole name: a UID holds dots, too."""
    return path.name if path.is_dir() else without_suffix(path.name)
