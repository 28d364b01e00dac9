"""Images come back as they were written, on the grid that an independent reader sees."""

import os

import nibabel
import numpy as np
import pytest
import SimpleITK

from pipeline.errors import PipelineError
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import read_geometry, read_volume, write_volume

SUFFIXES = [".nii.gz", ".nii", ".mha", ".mhd", ".nrrd"]


# turned about all axes
OBLIQUE_XYZ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
OBLIQUE = Geometry(
    (5, 6, 7), (3.0, 0.7, 0.5), (11.0, -20.5, 33.25), tuple(OBLIQUE_XYZ[::-1, ::-1].ravel())
)


def assert_same_grid(grid: Geometry, expected: Geometry) -> None:
    assert grid.shape == expected.shape
    np.testing.assert_allclose(grid.spacing, expected.spacing, rtol=1e-6)
    np.testing.assert_allclose(grid.origin, expected.origin, atol=1e-5)
    np.testing.assert_allclose(grid.direction, expected.direction, atol=1e-6)


def affine_ras(geometry: Geometry) -> np.ndarray:
    """Voxel (i, j, k) to NIfTI's right-anterior-superior mm, from our z, y, x geometry."""
    direction = np.array(geometry.direction).reshape(3, 3)[::-1, ::-1]
    affine = np.eye(4)
    affine[:3, :3] = direction * np.array(geometry.spacing[::-1])
    affine[:3, 3] = geometry.origin[::-1]
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def test_real_grids_agree_with_nibabel(shared_dir):
    folder = shared_dir / "real"
    paths = [
        folder / "nodules" / "Task06_Lung" / "imagesTr" / "lung_001.nii.gz",
        folder / "ct" / "example_ct.nii.gz",
        folder / "ms" / "patient07_mask.nii.gz",
    ]
    for path in paths:
        volume, image = read_volume(path), nibabel.load(path)
        np.testing.assert_allclose(affine_ras(volume.geometry), image.affine, atol=1e-3)
        stored = np.asanyarray(image.dataobj).transpose(2, 1, 0)
        np.testing.assert_array_equal(volume.array, stored)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32, np.float64])
def test_round_trip_keeps_values_dtype_and_grid(tmp_path, values, suffix, dtype):
    array = values.astype(dtype)
    if array.dtype.kind == "f":
        array[0, 1, 2], array[4, 5, 6], array[3, 0, 0] = np.nan, np.inf, -np.inf
    path = tmp_path / f"image{suffix}"
    write_volume(path, array, OBLIQUE)
    volume = read_volume(path)
    assert volume.array.dtype == dtype
    np.testing.assert_array_equal(volume.array, array)
    assert_same_grid(volume.geometry, OBLIQUE)
    assert read_geometry(path) == volume.geometry


@pytest.mark.parametrize("order", "<>")
def test_nibabel_and_we_see_the_same_grid_and_values_in_each_other_s_files(tmp_path, values, order):
    path, affine = tmp_path / "image.nii.gz", affine_ras(OBLIQUE)
    write_volume(path, values, OBLIQUE)
    image = nibabel.load(path)
    np.testing.assert_allclose(image.affine, affine, atol=1e-4)
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).transpose(2, 1, 0), values)
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values.transpose(2, 1, 0), affine, header), path)
    volume = read_volume(path)
    np.testing.assert_allclose(affine_ras(volume.geometry), affine, atol=1e-4)
    np.testing.assert_array_equal(volume.array, values)
    nibabel.save(nibabel.Nifti2Image(values.transpose(2, 1, 0), affine), path)
    with pytest.raises(PipelineError, match="save it as NIfTI-1"):
        read_volume(path)


@pytest.mark.parametrize(("compress", "data"), [(False, "scan.raw"), (True, "scan.zraw")])
def test_mhd_names_its_data_file_and_leaves_nothing_else(tmp_path, values, compress, data):
    path = tmp_path / "scan.mhd"
    write_volume(path, values, OBLIQUE, compress=compress)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["scan.mhd", data]
    assert f"ElementDataFile = {data}" in path.read_text()
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in (path, tmp_path / data):
        file.rename(moved / file.name)
    np.testing.assert_array_equal(read_volume(moved / "scan.mhd").array, values)


def test_a_failed_write_keeps_the_old_file(tmp_path, values, monkeypatch):
    path = tmp_path / "image.nii.gz"
    write_volume(path, values, OBLIQUE)
    before = path.read_bytes()

    def fail(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PipelineError, match="No space left on device"):
        write_volume(path, values + 1, OBLIQUE)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_refuses_a_wrong_shape_and_an_unknown_suffix(tmp_path, values):
    with pytest.raises(PipelineError, match="shape"):
        write_volume(tmp_path / "image.nii.gz", values[1:], OBLIQUE)
    with pytest.raises(PipelineError, match="unknown image suffix"):
        write_volume(tmp_path / "image.png", values, OBLIQUE)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_one_volume_of_a_4d_image(tmp_path, values, suffix, dtype):
    stack = np.stack([values, values + 1, values + 2]).astype(dtype)  # (t, z, y, x)
    if dtype == np.float32:
        stack[1, 0, 0, 0] = np.nan
    path = tmp_path / f"image{suffix}"
    nibabel.save(nibabel.Nifti1Image(stack.T, affine_ras(OBLIQUE)), tmp_path / "first.nii")
    if "nii" in suffix:
        nibabel.save(nibabel.load(tmp_path / "first.nii"), path)
    else:
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "first.nii")), str(path))
        stack[~np.isfinite(stack)] = 0  # as ITK read them
    for channel, wanted in enumerate(stack):
        volume = read_volume(path, channel)
        np.testing.assert_array_equal(volume.array, wanted)
        assert_same_grid(volume.geometry, OBLIQUE)
        assert_same_grid(read_geometry(path, channel), OBLIQUE)
    with pytest.raises(PipelineError, match=r"4D image of 3 volumes, but source\.channel is 3"):
        read_volume(path, 3)


def test_one_channel_of_a_colour_image(tmp_path, values):
    colours = np.stack([values, values + 1], axis=-1)  # (z, y, x, channel)
    path = tmp_path / "colour.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(colours, isVector=True), str(path))
    np.testing.assert_array_equal(read_volume(path, 1).array, values + 1)
    with pytest.raises(PipelineError, match=r"2 values per voxel, but source\.channel is 2"):
        read_volume(path, 2)
    with pytest.raises(PipelineError, match="2 values per voxel"):
        read_geometry(path)
