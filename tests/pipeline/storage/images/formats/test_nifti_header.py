"""A NIfTI header that contradicts itself is refused; what it says is what is read."""

import struct
import warnings

import nibabel
import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.images.formats.nifti_image import nifti_geometry
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.storage.images.formats.written import AFFINE, nifti

MOVED = AFFINE + np.array([[0, 0, 0, 10.0], *np.zeros((3, 4))])
SHEARED = AFFINE + np.array([[0, 0, 1.0, 0], *np.zeros((3, 4))])
TURN = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
TURNED = np.block([[TURN * [2, 2, 3], np.array([[5], [6], [7]])], [np.zeros((1, 3)), np.ones(1)]])


def in_ras(path):
    """Voxel (i, j, k) to RAS in mm, of our geometry."""
    grid = nifti_geometry(path)
    affine = np.eye(4)
    affine[:3, :3] = np.array(grid.direction).reshape(3, 3)[::-1, ::-1] * grid.spacing[::-1]
    affine[:3, 3] = grid.origin[::-1]
    return np.diag([-1, -1, 1, 1]) @ affine


@pytest.mark.parametrize(
    ("sform", "qform", "codes"),
    [
        (TURNED, None, (0, 1)),
        (None, TURNED, (1, 0)),
        (TURNED, TURNED, (1, 4)),
        (AFFINE, MOVED, (2, 1)),  # the scanner's sform is followed
        (SHEARED, AFFINE, (1, 1)),  # which ITK leaves for the qform
        (SHEARED, None, (0, 1)),  # which ITK does not open
    ],
)
def test_the_sform_places_the_image_and_else_the_qform(tmp_path, values, sform, qform, codes):
    fields = (
        {} if sform is None or sform is not SHEARED else {"pixdim": [1, 2, 2, 10**0.5] + 4 * [1]}
    )
    path = nifti(tmp_path / "a.nii", values, sform, qform, codes, **fields)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(in_ras(path), nibabel.load(path).affine, atol=1e-5)


def test_without_sform_and_qform_the_spacing_counts_alone(tmp_path, values):
    path = nifti(tmp_path / "a.nii", values, None, pixdim=[1, 2, 2.5, 3, 0, 0, 0, 0])
    grid = read_geometry(path)
    assert (grid.spacing, grid.origin) == ((3, 2.5, 2), (0, 0, 0))
    assert grid.direction == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def pixdim(*steps):
    return {"pixdim": [1, *steps, 0, 0, 0, 0]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (pixdim(1, 1, 1), r"sform with voxels of \(2, 2, 3\) mm beside pixdim of \(1, 1, 1\) mm"),
        (pixdim(2, 2.01, 3), "both equal"),
        ({"srow_x": [np.nan, 0, 0, 0]}, "sform with voxels"),
        ({"srow_x": [0, 0, 0, 0]}, "sform with voxels"),
        ({"qform_code": 1, "quatern_b": 2.0}, "a qform that is no rotation"),
        ({"xyzt_units": 5}, "unit 5 of space"),
        ({"datatype": 32, "bitpix": 64}, "data type 32, expected integers or floats"),
        ({"bitpix": 32}, "data type 4 with 32 bits per voxel, expected 16"),
        ({"vox_offset": 100}, "vox_offset 100, expected 352 or more"),
        ({"vox_offset": np.nan}, "vox_offset nan"),
        ({"vox_offset": -np.inf}, "vox_offset -inf"),
        ({"scl_slope": np.inf, "scl_inter": 0}, "scl_slope inf"),
        ({"scl_slope": 2, "scl_inter": np.nan}, "scl_inter nan"),
        ({"scl_slope": 0, "scl_inter": 5}, "scl_slope 0 with scl_inter 5"),
        ({"dim": [3, 7, 6, -5, 1, 1, 1, 1]}, "1 to 7 sizes above 0"),
        ({"dim": [0, 7, 6, 5, 1, 1, 1, 1]}, "1 to 7 sizes above 0"),
        ({"dim": [9, 7, 6, 5, 1, 1, 1, 1]}, "1 to 7 sizes above 0|no NIfTI header"),
        ({"magic": b"ni1"}, "one of a pair of files"),
        ({"magic": b""}, "or ANALYZE"),
        ({"sizeof_hdr": 7}, "no NIfTI header"),
    ],
)
def test_contradictions_and_values_that_none_can_mean_are_refused(tmp_path, values, fields, words):
    path = nifti(tmp_path / "a.nii", values, **fields)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=words) as caught:
            read(path)
        assert "\n" not in str(caught.value)


def test_an_sform_elsewhere_than_the_qform_is_refused_unless_it_is_the_scanner_s(tmp_path, values):
    for other in (MOVED, TURNED):
        path = nifti(tmp_path / "a.nii", values, AFFINE, other, (1, 4))
        nifti(path, values, AFFINE, other, (1, 4), pixdim=[-1, 2, 2, 3, 0, 0, 0, 0])
        with pytest.raises(PipelineError, match="sform and qform place it differently, by up to"):
            read_geometry(path)


@pytest.mark.parametrize(("unit", "scale"), [(0, 1), (1, 1000), (2, 1), (3, 0.001)])
def test_units_of_space_become_millimetres(tmp_path, values, unit, scale):
    path = nifti(tmp_path / "a.nii", values, TURNED, TURNED, xyzt_units=unit)
    grid = read_geometry(path)
    np.testing.assert_allclose(grid.spacing, np.array([3, 2, 2]) * scale, rtol=1e-6)
    np.testing.assert_allclose(grid.origin, np.array([7, -6, -5]) * scale, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize(
    ("slope", "intercept"), [(0.01, -3.3), (2, -1024), (1, 0), (0, 0), (np.nan, np.nan)]
)
def test_scaled_values_are_nibabel_s(tmp_path, values, dtype, slope, intercept):
    stored = values.astype(dtype)
    path = nifti(tmp_path / "a.nii", stored, scl_slope=slope, scl_inter=intercept)
    array = read_volume(path).array
    expected = np.asanyarray(nibabel.load(path).dataobj).T
    np.testing.assert_allclose(array, expected, rtol=1e-6, atol=1e-4)
    same = slope in (1, 0) or np.isnan(slope)
    assert array.dtype == (dtype if same else "f8" if dtype == "f8" else "f4")


def test_colours_and_vectors_need_a_channel(tmp_path, values):
    colours = np.stack([values, values + 1, values + 2], -1).astype(np.uint8)
    fields = {"datatype": 128, "bitpix": 24, "dim": [3, 7, 6, 5, 1, 1, 1, 1]}
    path = nifti(tmp_path / "a.nii", colours, None, **fields, **pixdim(2, 2, 3))
    with pytest.raises(PipelineError, match="3 values per voxel"):
        read_volume(path)
    np.testing.assert_array_equal(read_volume(path, 1).array, colours[..., 1])
    vectors = np.stack([values, values + 1])  # (vector, z, y, x)
    fields = {"dim": [5, 7, 6, 5, 1, 2, 1, 1], "intent_code": 1007}
    path = nifti(tmp_path / "a.nii", vectors, None, **fields, **pixdim(2, 2, 3))
    np.testing.assert_array_equal(read_volume(path, 1).array, values + 1)


def test_the_bytes_after_an_image_are_few(tmp_path, values):
    path = nifti(tmp_path / "a.nii", values)
    with path.open("ab") as file:
        file.write(bytes(1000))
    np.testing.assert_array_equal(read_volume(path).array, values)
    with path.open("ab") as file:
        file.truncate(1 << 22)
    with pytest.raises(PipelineError, match="more data than its header declares"):
        read_volume(path)


def test_a_header_cut_short_and_one_of_nifti_2_are_named(tmp_path):
    path = tmp_path / "a.nii"
    path.write_bytes(struct.pack("<i", 348) + bytes(96))
    with pytest.raises(PipelineError, match="truncated, found 100 bytes of data, expected 352"):
        read_geometry(path)
    path.write_bytes(struct.pack("<i", 540) + bytes(536))
    with pytest.raises(PipelineError, match="save it as NIfTI-1"):
        read_geometry(path)
