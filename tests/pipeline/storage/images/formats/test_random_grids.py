"""Random grids and values in every format are read back, voxel by voxel, where they lie."""

import tempfile
from pathlib import Path

import nibabel
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.storage.images.volumes import Volume, read_geometry, read_volume
from tests.pipeline.storage.images.formats.written import meta_image, nrrd

TYPES = {"u1": "UCHAR", "i2": "SHORT", "u2": "USHORT", "i4": "INT", "f4": "FLOAT", "f8": "DOUBLE"}
NRRD_TYPES = {"u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int"}
NRRD_TYPES |= {"f4": "float", "f8": "double"}


@st.composite
def images(draw):
    """Values (z, y, x), and the 4×4 matrix from voxel (i, j, k) to LPS in mm."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.tuples(*[st.integers(2, 5)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.1, 10)] * 3))
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]  # a mirror image half of the times
    if draw(st.booleans()):  # along the patient's axes
        rotation = np.eye(3)[random.permutation(3)] * random.choice([-1, 1], 3)
    affine = np.eye(4)
    affine[:3, :3] = rotation * spacing
    affine[:3, 3] = random.uniform(-500, 500, 3)
    dtype = draw(st.sampled_from(list(TYPES)))
    return random.uniform(0, 255, shape).astype(dtype), affine


def assert_read(path: Path, values: np.ndarray, affine: np.ndarray) -> None:
    volume: Volume = read_volume(path)
    grid = volume.geometry
    assert read_geometry(path) == grid
    np.testing.assert_allclose(volume.array, values, rtol=1e-6, atol=1e-3)
    voxels = np.argwhere(np.ones(values.shape))  # (n, 3), each z, y, x
    direction = np.array(grid.direction).reshape(3, 3)
    found = voxels * grid.spacing @ direction.T + grid.origin  # z, y, x in mm
    expected = (voxels[:, ::-1] @ affine[:3, :3].T + affine[:3, 3])[:, ::-1]
    np.testing.assert_allclose(found, expected, atol=1e-3)


@settings(max_examples=60, deadline=None)
@given(
    images(),
    st.sampled_from(["qform", "sform", "both"]),
    st.sampled_from([(1.0, 0.0), (0.5, -1024.0), (3.0, 7.5)]),
    st.sampled_from([".nii", ".nii.gz"]),
    st.sampled_from("<>"),
)
def test_nifti(image, placed, scaling, suffix, order):
    values, affine = image
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(values.dtype)
    written = nibabel.Nifti1Image(values.T, np.diag([-1, -1, 1, 1]) @ affine, header)
    written.set_qform(written.affine, 0 if placed == "sform" else 1)
    written.set_sform(written.affine, 0 if placed == "qform" else 1)
    written.header.set_slope_inter(*scaling)
    stored = np.asarray(values, written.get_data_dtype())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        # nibabel would scale by itself: values are stored as they are
        with nibabel.openers.ImageOpener(path, "wb") as file:
            written.header["vox_offset"] = 352
            file.write(written.header.binaryblock + bytes(4) + stored.tobytes())
        assert_read(path, values.astype(float) * scaling[0] + scaling[1], affine)


@settings(max_examples=40, deadline=None)
@given(images(), st.sampled_from([".mha", ".mhd"]), st.booleans())
def test_meta_image(image, suffix, big):
    values, affine = image
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    fields = {
        "BinaryDataByteOrderMSB": str(big),
        "DimSize": text(values.shape[::-1]),
        "ElementSpacing": text(spacing),
        "Offset": text(affine[:3, 3]),
        "TransformMatrix": text((affine[:3, :3] / spacing).T.ravel()),
        "ElementType": f"MET_{TYPES[values.dtype.str[1:]]}",
    }
    data = values.astype(values.dtype.newbyteorder("><"[not big])).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        local = suffix == ".mha"
        meta_image(path, data if local else b"", "LOCAL" if local else "a.raw", **fields)
        (Path(folder) / "a.raw").write_bytes(data)
        assert_read(path, values, affine)


@settings(max_examples=40, deadline=None)
@given(images(), st.sampled_from(["LPS", "RAS", "LAS"]), st.booleans())
def test_nrrd(image, space, big):
    values, affine = image
    flips = np.array([1 if mine == lps else -1 for mine, lps in zip(space, "LPS", strict=True)])
    axes, origin = flips[:, None] * affine[:3, :3], flips * affine[:3, 3]
    fields = {
        "type": NRRD_TYPES[values.dtype.str[1:]],
        "sizes": text(values.shape[::-1]),
        "endian": "big" if big else "little",
        "space": space,
        "space directions": " ".join(f"({text(axis, ',')})" for axis in axes.T),
        "space origin": f"({text(origin, ',')})",
    }
    data = values.astype(values.dtype.newbyteorder("><"[not big])).tobytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.nrrd"
        assert_read(nrrd(path, data, fields), values, affine)


def text(numbers, sign: str = " ") -> str:
    return sign.join(f"{number!r}" for number in np.asarray(numbers).tolist())
