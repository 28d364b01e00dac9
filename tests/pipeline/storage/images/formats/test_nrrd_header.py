"""What ITK would skip, guess or obey in a NRRD header is refused in one line."""

import bz2
import gzip

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.storage.images.headers import data_files
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.storage.images.formats.written import nrrd

NO_SPACE = {"space": None, "space directions": None, "space origin": None}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (NO_SPACE, "no spacing in the header"),
        (NO_SPACE | {"spacings": "nan nan nan"}, r"spacing \(nan, nan, nan\)"),
        (NO_SPACE | {"spacings": "-1 1 2"}, r"spacing \(2, 1, -1\)"),
        (NO_SPACE | {"spacings": "1 2"}, "expected 3 numbers"),
        (NO_SPACE | {"spacings": "1 2 ٣"}, "expected 3 numbers"),
        (NO_SPACE | {"spacings": "1 2 3", "units": '"cm" "cm" "cm"'}, 'expected "mm"'),
        ({"space units": '"cm" "cm" "cm"'}, 'space units: "cm" "cm" "cm", expected "mm"'),
        ({"space directions": "none none none"}, "three vectors"),
        ({"space directions": "(1,0,0) (0,1,0)"}, "three vectors"),
        ({"space directions": "(1,0,0) (0,1,0) (0,0)"}, "expected 3 numbers"),
        ({"space directions": "(nan,nan,nan) (0,1,0) (0,0,1)"}, "expected finite numbers"),
        ({"space origin": "(nan,nan,nan)"}, "expected finite numbers"),
        ({"space": "3D-left-handed"}, "expected LPS, RAS or LAS"),
        ({"sizes": "7 6 -5"}, "whole numbers above 0"),
        ({"sizes": "7 6"}, "expected 3 numbers"),
        ({"dimension": "many"}, "dimension: 'many'"),
        ({"type": "block"}, "type: block, expected a type of numbers"),
        ({"encoding": "ascii"}, "encoding: ascii, expected raw or gzip"),
        ({"encoding": "bz2"}, "encoding: bz2, expected raw or gzip"),
        ({"byte skip": "2"}, "byte skip: 2, expected 0"),
        ({"Sizes": "7 6 5"}, "line 10 of the header"),
        ({" spacings": "1 2 3"}, "line 10 of the header"),
    ],
)
def test_headers_that_itk_would_read_wrongly_are_refused(tmp_path, values, changes, words):
    path = nrrd(tmp_path / "a.nrrd", values.tobytes(), changes)
    for read in (read_geometry, read_volume):
        with pytest.raises(PipelineError, match=words) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("space", "origin"),
    [("left-posterior-superior", (7, 6, 5)), ("RAS", (7, -6, -5)), ("LAS", (7, -6, 5))],
)
def test_the_origin_is_brought_into_itk_s_axes(tmp_path, values, space, origin):
    changes = {"space": space, "space origin": "(5,6,7)", "space units": '"mm" "mm" "mm"'}
    path = nrrd(tmp_path / "a.nrrd", values.tobytes(), changes)
    assert read_geometry(path).origin == origin


@pytest.mark.parametrize("key", ["data file", "datafile", "Data File"])
@pytest.mark.parametrize(
    "target",
    [
        "LIST",
        "x%03d.raw 1 4 1",
        "/etc/passwd",
        "../a.raw",
        "./a.raw",
        "LIST 2",
        "a.raw ",
        "a.raw\t",
    ],
)
def test_data_lie_in_one_file_beside_the_header_or_are_refused(tmp_path, values, key, target):
    path = nrrd(tmp_path / "a.nrrd", values.tobytes(), {key: target})
    assert data_files(path) == [path]
    (tmp_path / "a.raw").write_bytes(values.tobytes())
    with pytest.raises(
        PipelineError, match=r"expected (the name of one file beside it|plain text)"
    ):
        read_geometry(path)


@pytest.mark.parametrize("key", ["data file", "datafile", "Data File"])
def test_a_named_data_file_is_read_and_listed(tmp_path, values, key):
    path = nrrd(tmp_path / "a.nrrd", b"", {key: "a.raw"})
    (tmp_path / "a.raw").write_bytes(values.tobytes())
    np.testing.assert_array_equal(read_volume(path).array, values)
    assert data_files(path) == [path, tmp_path / "a.raw"]


@pytest.mark.parametrize("cut", [slice(0, -1), slice(0, -30)])
def test_streams_hold_what_is_declared(tmp_path, values, cut):
    data = values.tobytes()
    path = nrrd(tmp_path / "a.nrrd", gzip.compress(data), {"encoding": "gzip"})
    np.testing.assert_array_equal(read_volume(path).array, values)
    faulty = (gzip.compress(data)[cut], gzip.compress(data[cut]), gzip.compress(data * 99))
    for stream in (*faulty, bz2.compress(data)):
        nrrd(path, stream, {"encoding": "gzip"})
        with pytest.raises(PipelineError, match=r"truncated|more data"):
            read_volume(path)
    nrrd(path, data + b"1", {})
    with pytest.raises(PipelineError, match="more data"):
        read_volume(path)
