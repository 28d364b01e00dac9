"""How the images of a call are called, and that no result takes the place of another file."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

from pipeline.datasets.cases import CASE_NAME, NAME_RULE
from pipeline.errors import PipelineError
from pipeline.storage.images.dicom.content import USUAL as DICOM_SUFFIXES
from pipeline.storage.images.names import image_name


def named_images(images: Sequence[Path]) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Each image by its name without the ending; and the faults of all others by name.

    Images that share a name are at fault, and so are images whose name is no file name.
    """
    named, faults = defaultdict(list), defaultdict(list)
    for image in images:
        name = image_name(image)
        # a folder's name may be a UID
        if image.is_file() and Path(name).suffix.lower() in DICOM_SUFFIXES:
            name = Path(name).stem
        if CASE_NAME.fullmatch(name):
            named[name].append(image)
        else:
            fault = f"{image}: found the name {name!r}, expected {NAME_RULE}; rename it"
            faults[str(image)].append(fault)
    for name, sharing in named.items():
        if len(sharing) > 1:
            listed = " and ".join(map(str, sharing))
            faults[name].append(f"{listed}: all would be called {name}; rename all but one")
    return {name: sharing[0] for name, sharing in named.items() if len(sharing) == 1}, faults


def check_volumes(files: Mapping[str, Path], volumes: Sequence[str]) -> None:
    """Refuse an image whose mask would have the name of another's probability map, or the like."""
    for volume, (name, image) in product(volumes, files.items()):
        if other := files.get(f"{name}-{volume}"):
            raise PipelineError(
                f"{other}: its mask would be called as the {volume} map of {image}; rename it"
            )


def check_apart(files: Mapping[str, Path], output: Path) -> None:
    """Refuse a folder that holds an image, or is one: a mask has its image's name."""
    for image in files.values():
        # Path.resolve raises at links that lead in a circle
        if os.path.realpath(output) in map(os.path.realpath, (image.parent, image)):
            raise PipelineError(
                f"--output: {output} holds the image {image}, which its mask could replace; "
                "choose another folder"
            )
