"""What ITK would skip, guess or obey in a MetaImage header is refused in one line."""

import zlib

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.images.headers import data_files
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.storage.images.formats.written import meta_image


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ElementSpacing": None}, "no ElementSpacing"),
        ({"ElementSpacing": "0.5 0.7"}, "ElementSpacing: '0.5 0.7', expected 3 numbers"),
        ({"ElementSpacing": "0.5,0.7,3"}, "expected 3 numbers"),
        ({"ElementSpacing": "0.5 0.7 ٣"}, "expected 3 numbers"),
        ({"ElementSpacing": "0x1p3 1 1"}, "expected 3 numbers"),
        ({"ElementSpacing": "1_0 1 1"}, "expected 3 numbers"),
        ({"elementspacing": "9 9 9"}, "'elementspacing' in line 8 of the header"),
        ({"  ElementSpacing": "9 9 9"}, "expected ElementSpacing once"),
        ({"Offset": "1 2 3", "Position": "4 5 6"}, "'Position' in line .*, expected Offset once"),
        ({"ElementByteOrderMSB": "True"}, "'ElementByteOrderMSB' in line"),
        ({"Offset": "nan 0 0"}, "expected finite numbers"),
        ({"TransformMatrix": "1 0 0 0 1 0"}, "expected 9 numbers"),
        ({"DimSize": "7 6 0"}, "whole numbers above 0"),
        ({"DimSize": "7 6 5.5"}, "whole numbers above 0"),
        ({"DimSize": "7 6 5 2"}, "expected 3 numbers"),
        ({"DimSize": "%s %n 5"}, "expected 3 numbers"),
        ({"DimSize": "9" * 6000 + " 6 5"}, "a header that cannot be read"),
        ({"NDims": "three"}, "NDims: 'three'"),
        ({"ElementType": "MET_LONG"}, "ElementType = MET_LONG, expected one of"),
        ({"ElementType": "%s%s%s"}, "ElementType = %s%s%s, expected one of"),
        ({"ElementNumberOfChannels": "-1"}, "ElementNumberOfChannels: '-1'"),
        ({"ObjectType": "Mesh"}, "ObjectType = Mesh, which is not read"),
        ({"BinaryData": "False"}, "BinaryData = False, which is not read"),
        ({"HeaderSize": "4"}, "HeaderSize = 4, which is not read"),
        ({"Offset": "1\u00a02 3 4"}, r"Offset: '1.xa02 3 4', expected plain text"),
        ({"ElementType": "MET_SHORT\x1b[0m"}, "expected plain text"),
        ({"DistanceUnits": "cm"}, "DistanceUnits = cm, which is not read"),
        ({"ElementToIntensityFunctionSlope": "2"}, "Slope = 2, which is not read, expected 1;"),
        ({"ElementToIntensityFunctionOffset": "-1024"}, "-1024, which is not read, expected 0;"),
    ],
)
def test_headers_that_itk_would_read_wrongly_are_refused(tmp_path, values, changes, words):
    path = meta_image(tmp_path / "a.mha", values.tobytes(), **changes)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=words) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "target",
    [
        "%s%s%s%s",
        "%03d.raw 0 4 1",
        "LIST",
        "LISTED.raw",
        "local",
        "/etc/passwd",
        "../a.raw",
        "a" * 300,
    ],
)
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
@pytest.mark.parametrize("indent", ["", "  "])
def test_data_lie_in_one_file_beside_the_header_or_are_refused(
    tmp_path, values, target, suffix, indent
):
    path = meta_image(tmp_path / f"a{suffix}", values.tobytes(), target)
    header, key, data = path.read_bytes().partition(b"ElementDataFile")
    path.write_bytes(header + indent.encode() + key + data)
    assert data_files(path) == [path]
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match="expected the name of one file beside it"):
            read(path)


@pytest.mark.parametrize("name", ["a.raw", "a b.raw", "Zoë.raw", "localizer.raw", "listed.raw"])
@pytest.mark.parametrize("line", ["{} = {}", "  {} = {}  ", "{} : {}", "{}={}\r"])
@pytest.mark.parametrize("suffix", [".mha", ".mhd"])
def test_a_named_data_file_is_read_and_listed(tmp_path, values, name, line, suffix):
    path = meta_image(tmp_path / f"a{suffix}", b"", "x")
    lines = path.read_text("utf-8").splitlines()[:-1]
    text = "\n".join([*lines, line.format("ElementDataFile", name), ""])
    path.write_bytes(text.encode())
    (tmp_path / name).write_bytes(values.tobytes())
    np.testing.assert_array_equal(read_volume(path).array, values)
    assert data_files(path) == [path, tmp_path / name]


def test_raw_data_are_as_long_as_declared(tmp_path, values):
    for extra in (values.tobytes()[:-1], values.tobytes() + b"1"):
        path = meta_image(tmp_path / "a.mha", extra)
        with pytest.raises(PipelineError, match=r"truncated|more data"):
            read_volume(path)


def test_a_compressed_stream_is_as_long_as_declared(tmp_path, values):
    stream = zlib.compress(values.tobytes())
    fields = {"CompressedData": "True", "CompressedDataSize": str(len(stream))}
    path = meta_image(tmp_path / "a.mha", stream, **fields)
    np.testing.assert_array_equal(read_volume(path).array, values)
    for size in (None, str(len(stream) + 1)):
        meta_image(path, stream, **fields | {"CompressedDataSize": size})
        with pytest.raises(PipelineError, match="CompressedDataSize is wrong"):
            read_volume(path)
    (tmp_path / "a.zraw").write_bytes(stream)
    path = meta_image(tmp_path / "a.mhd", b"", "a.zraw", CompressedData="True")
    np.testing.assert_array_equal(read_volume(path).array, values)
    for other in (values.tobytes()[:-2], values.tobytes() * 100):
        stream = zlib.compress(other)
        meta_image(path, stream, **fields | {"CompressedDataSize": str(len(stream))})
        with pytest.raises(PipelineError, match=r"truncated|more data"):
            read_volume(path)
