"""Files that are damaged, or are no single 3D image, are refused in one line."""

import gzip
import re
import struct

import nibabel
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import read_geometry, read_volume, write_volume

GRID = Geometry((5, 6, 7), (3.0, 0.7, 0.5))


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".mha", ".raw", ".nrrd", ".zraw"])
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.98])
def test_truncated_files_are_refused_in_one_line(tmp_path, values, suffix, keep, capfd):
    path = tmp_path / ("image.mhd" if "raw" in suffix else f"image{suffix}")
    write_volume(path, values, GRID, compress=suffix != ".raw")
    cut = tmp_path / f"image{suffix}"
    content = cut.read_bytes()
    cut.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(PipelineError) as caught:
        read_volume(path)
    assert "image" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_gzip_with_a_flipped_bit_or_too_little_in_it_is_refused(tmp_path, values):
    path = tmp_path / "image.nii.gz"
    write_volume(path, values, GRID)
    whole = path.read_bytes()
    content = bytearray(whole)
    content[-6] ^= 1  # in the checksum
    path.write_bytes(content)
    with pytest.raises(PipelineError, match="truncated or damaged"):
        read_volume(path)
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-10]))  # which ITK misses
    with pytest.raises(PipelineError, match=r"found \d+ bytes of data, expected \d+"):
        read_volume(path)


def test_missing_files_and_text_are_named(tmp_path, values):
    with pytest.raises(PipelineError, match="not there"):
        read_volume(tmp_path / "none.nii.gz")
    with pytest.raises(PipelineError, match="not there"):
        read_geometry(tmp_path / "none.nii.gz")
    (tmp_path / "notes.nrrd").write_text("not an image")
    with pytest.raises(PipelineError, match="no NRRD header"):
        read_volume(tmp_path / "notes.nrrd")
    path = tmp_path / "scan.mhd"
    write_volume(path, values, GRID, compress=False)
    (tmp_path / "scan.raw").unlink()
    with pytest.raises(PipelineError, match=r"scan\.raw is missing"):
        read_volume(path)


@pytest.mark.parametrize(("shape", "dimension"), [((4, 5), "2D"), ((4, 5, 6, 2), "4D")])
def test_other_dimensions_are_named(tmp_path, shape, dimension):
    path = tmp_path / "image.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), path)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=f"a {dimension} image.*, expected (one )?3D"):
            read(path)


@pytest.mark.parametrize("step", [0.0, -0.5, np.nan])
@pytest.mark.parametrize("suffix", [".nii", ".mhd"])
def test_a_spacing_that_no_image_can_have_is_refused(tmp_path, step, suffix):
    path = tmp_path / f"image{suffix}"
    write_volume(path, np.ones(GRID.shape, np.int16), GRID)
    if suffix == ".mhd":
        header = path.read_text("utf-8")
        path.write_text(re.sub("(ElementSpacing =) [^ ]+", rf"\1 {step}", header), "utf-8")
    else:
        content = path.read_bytes()  # pixdim[1], mm along x, has bytes 80 to 83
        path.write_bytes(content[:80] + struct.pack("<f", step) + content[84:])
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=r"spacing \(.*expected all above 0"):
            read(path)
