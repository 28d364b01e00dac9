"""One check for the grids of all readers."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.images.geometry import Geometry, check_grid
from pipeline.storage.images.volumes import read_geometry, read_volume, write_volume
from tests.pipeline.storage.images.grids import tilted

GRID = Geometry((4, 5, 6), (3.0, 1.0, 1.0))
LEFT_HANDED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
LEAN, UPRIGHT = np.sin(0.01), np.cos(0.01)
SKEWED = (1.0, 0.0, 0.0, 0.0, UPRIGHT, 0.0, 0.0, LEAN, 1.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (4, 5, 7)}, r"voxels \(4, 5, 6\).*expected the \(4, 5, 7\) of its header"),
        ({"spacing": (3.0, -1.0, 1.0)}, r"spacing \(3, -1, 1\) mm.*expected all above 0"),
        ({"spacing": (3.0, np.inf, 1.0)}, "spacing .*expected all above 0"),
        ({"origin": (0.0, np.nan, 0.0)}, r"origin \(0, nan, 0\).*expected numbers"),
        ({"direction": (np.nan, *SKEWED[1:])}, "direction .*expected numbers"),
        ({"direction": (1.01, *LEFT_HANDED[1:])}, r"lengths \(1.01, 1, 1\)"),
        ({"direction": SKEWED}, "sheared grid: angles of 90°, 90°, 89.4°.*expected right angles"),
        ({"direction": (1, 0, 0, 0, 1, 1, 0, 0, 0)}, "in one plane"),
        ({"direction": tilted(0.01).direction}, "leans 0.01°.*source.tilted: resample"),
        ({"direction": tilted(60).direction}, "sheared grid.*resample the image"),
    ],
)
def test_a_grid_that_no_image_can_have_is_refused(change, words):
    with pytest.raises(PipelineError, match=words):
        check_grid(Path("a"), replace(GRID, **change), np.zeros(GRID.shape))


@pytest.mark.parametrize("direction", [LEFT_HANDED, tilted(0.005).direction])
def test_left_handed_and_rounded_axes_are_none_of_them(direction):
    check_grid(Path("a"), replace(GRID, direction=direction), np.zeros(GRID.shape))


NRRD = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 6 5 4
space directions: (1,0,0) (0,1,0) (0,1,3)
endian: little
encoding: raw
space origin: (0,0,0)

"""


def sheared(path: Path) -> Path:
    """A file whose slices lie 1 mm further back from one to the next, 3 mm apart."""
    array = np.arange(120, dtype=np.int16).reshape(4, 5, 6)
    if path.suffix == ".nrrd":
        path.write_bytes(NRRD.encode() + array.tobytes())
    elif path.name.endswith(".nii.gz"):
        image = nibabel.Nifti1Image(array.T, np.diag([-1.0, -1.0, 3.0, 1.0]))
        affine = image.affine.copy()
        affine[1, 2] = -1  # backwards, towards posterior
        if path.name.startswith("qform"):
            image.set_qform(image.affine, 1)
        else:
            image.header.set_qform(None, 0)
        image.header["pixdim"][3] = 10**0.5
        image.set_sform(affine, 1)
        nibabel.save(image, path)
    else:
        step = np.array([3.0, 1.0, 0.0]) / np.sqrt(10)
        direction = (step[0], 0.0, 0.0, step[1], 1.0, 0.0, 0.0, 0.0, 1.0)
        grid = Geometry((4, 5, 6), (10**0.5, 1.0, 1.0), direction=direction)
        write_volume(path, array, grid)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "a.nrrd",
        "a.mha",
        "a.mhd",
        "a.nii.gz",
        "qform.nii.gz",
    ],
)
def test_a_sheared_grid_is_refused_in_every_format_and_read_where_it_is_asked_for(tmp_path, name):
    path = sheared(tmp_path / name)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=r"leans 18\.4° .*source\.tilted: resample"):
            read(path)
    volume = read_volume(path, tilted=True)
    assert volume.geometry == read_geometry(path, tilted=True)
    np.testing.assert_allclose(volume.geometry.axes[:2, 0] * volume.geometry.spacing[0], [3, 1])
    with pytest.raises(PipelineError, match=r"at right angles only; use \.mha"):
        write_volume(tmp_path / "b.nii.gz", volume.array, volume.geometry)
