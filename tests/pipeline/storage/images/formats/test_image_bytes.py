"""Damaged streams are never read wrongly, hostile ones stay small, and only files are opened."""

import gzip
import os
import resource
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.files import file_digest
from pipeline.storage.images.formats import image_bytes
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import SUFFIXES, read_geometry, read_volume, write_volume
from tests.pipeline.storage.images.formats.written import meta_image, nifti, nrrd

GRID = Geometry((5, 6, 7), (3.0, 0.7, 0.5))


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".zraw", ".nrrd"])
def test_200_flipped_bytes_are_refused_or_read_right(tmp_path, values, suffix):
    path = tmp_path / ("image.mhd" if suffix == ".zraw" else f"image{suffix}")
    write_volume(path, values, GRID)
    grid, data = read_geometry(path), tmp_path / f"image{suffix}"
    whole = data.read_bytes()
    # a number that differs in a header of text is another header; a .nii.gz has all in its stream
    start = {".mha": whole.find(b"LOCAL\n") + 6, ".nrrd": whole.find(b"\n\n") + 2}.get(suffix, 0)
    random, refused = np.random.default_rng(0), 0
    for position in random.integers(start, len(whole), 200):
        flipped = bytearray(whole)
        flipped[position] ^= random.integers(1, 256)
        data.write_bytes(flipped)
        try:
            volume = read_volume(path)
        except PipelineError:
            refused += 1
            continue
        np.testing.assert_array_equal(volume.array, values)
        assert volume.geometry == grid
    assert refused > 180


def bomb(kind: str, path: Path) -> Path:
    """A small file whose stream inflates to 150 MB of zeros, for an image of 420 bytes."""
    zeros, stream = bytes(1 << 20), zlib.compressobj(wbits=31 if kind != ".mha" else 15)
    if kind == ".nii.gz":
        head = nifti(path, np.zeros((5, 6, 7), np.int16)).read_bytes()
        content = stream.compress(head)
    else:
        content = b""
    content += b"".join(stream.compress(zeros) for _ in range(150)) + stream.flush()
    if kind == ".mha":
        size = str(len(content))
        return meta_image(path, content, CompressedData="True", CompressedDataSize=size)
    if kind == ".nrrd":
        return nrrd(path, content, {"encoding": "gzip"})
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", [".nii.gz", ".mha", ".nrrd"])
def test_a_stream_that_inflates_far_beyond_its_header_is_left_at_once(tmp_path, kind):
    path = bomb(kind, tmp_path / f"a{kind}")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(PipelineError, match="more data than its header declares"):
        read_volume(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 75_000  # kB


def huge(suffix: str, path: Path) -> Path:
    """A header of 32767³ voxels before a few bytes of data."""
    sizes = "32767 32767 32767"
    if suffix in (".mha", ".mhd"):
        return meta_image(path, bytes(999), DimSize=sizes)
    if suffix == ".nrrd":
        return nrrd(path, bytes(999), {"sizes": sizes})
    nifti(path, np.zeros((5, 6, 7), np.int16), dim=[3, 32767, 32767, 32767, 1, 1, 1, 1])
    if suffix == ".nii.gz":
        path.write_bytes(gzip.compress(path.read_bytes()))
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_memory_cannot_hold_is_refused_before_it_is_read(tmp_path, suffix):
    path = huge(suffix, tmp_path / f"a{suffix}")
    with pytest.raises(PipelineError, match=r"declares 70362\.3 GB of voxels, expected at most"):
        read_volume(path)


def test_a_long_stream_ends_where_its_last_block_ends(monkeypatch):
    monkeypatch.setattr(image_bytes, "BLOCK", 1000)
    for size in (1, 999, 1000, 1001, 5000):
        content = bytes(size)
        for stream, compress in (("zlib", zlib.compress), ("gzip", gzip.compress)):
            with open_bytes(compress(content)) as file:
                blocks = image_bytes.inflated(Path("a"), file, stream, 10_000)
                assert b"".join(blocks) == content


def open_bytes(content: bytes):
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as file:
        file.write(content)
    return os.fdopen(reading, "rb")


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["fifo", "device", "loop", "dangling"])
def test_only_regular_files_are_opened(tmp_path, suffix, kind):
    path = tmp_path / f"a{suffix}"
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"device": "/dev/zero", "loop": path}.get(kind, "nothing"))
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=r"not a regular file|not there"):
            read(path)
    with pytest.raises(OSError):  # noqa: PT011
        file_digest(path)


@pytest.mark.parametrize("kind", ["fifo", "device"])
def test_only_a_regular_file_holds_the_data_of_a_header(tmp_path, kind):
    data = tmp_path / "a.raw"
    if kind == "fifo":
        os.mkfifo(data)
    else:
        data.symlink_to("/dev/zero")
    headers = (
        meta_image(tmp_path / "a.mhd", b"", "a.raw"),
        nrrd(tmp_path / "a.nrrd", b"", {"data file": "a.raw"}),
    )
    for path in headers:
        with pytest.raises(PipelineError, match=r"its data file a\.raw is no regular file"):
            read_volume(path)


PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)
NIFTI_PAIR = struct.pack("<i", 348) + bytes(340) + b"ni1\0" + bytes(4)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", PNG, "the suffix '.png', with PNG in it, expected .nii.gz"),
        ("a.tif", b"II*\0" + bytes(200), "the suffix '.tif', with TIFF in it"),
        ("a.vtk", b"# vtk DataFile Version 3.0\n" + bytes(200), "with VTK in it"),
        ("a.hdr", NIFTI_PAIR, "the suffix '.hdr', with NIfTI in it"),
        ("a.img", bytes(400), "the suffix '.img', expected"),
        ("a.gipl", bytes(400), "the suffix '.gipl', expected"),
        ("a", bytes(400), "the suffix '', expected"),
        ("a.nii", NIFTI_PAIR, "one of a pair of files"),
        ("a.nii", PNG.ljust(400), "no NIfTI header, but the content is PNG"),
        ("a.nii", gzip.compress(bytes(4000)).ljust(400), "the content is gzip"),
        ("a.nii.gz", PNG.ljust(400), "no gzip header, but the content is PNG"),
        ("a.mha", NIFTI_PAIR, "no MetaImage header, but the content is NIfTI"),
        ("a.mhd", PNG, "no MetaImage header, but the content is PNG"),
        ("a.nrrd", b"ObjectType = Image\n", "no NRRD header, but the content is MetaImage"),
        ("a.mha", b"NRRD0004\n", "no MetaImage header, but the content is NRRD"),
    ],
)
def test_other_formats_are_refused_with_what_they_are(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError) as caught:
            read(path)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
