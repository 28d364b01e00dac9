"""DICOM series are read with each slice's own place and values, or refused in words that fit."""

import math

import highdicom
import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid

from pipeline.errors import PipelineError
from pipeline.storage.images.dicom.volume import dicom_geometry
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.dicom_files import (
    WRITERS,
    both,
    dataset,
    random_values,
    refused,
    upright,
    write_frames,
    write_slices,
)

STORED = random_values()
HU = STORED.astype(int) - 1024


@both
@pytest.mark.parametrize("order", [range(6), range(5, -1, -1), (0, 2, 4, 1, 3, 5)])
def test_slices_and_frames_come_in_the_order_of_space_by_path_or_folder(tmp_path, write, order):
    write(tmp_path, STORED[list(order)], [upright(6)[index] for index in order])
    paths = [tmp_path, tmp_path / "i"] if (tmp_path / "i").exists() else [tmp_path]
    for path in paths:
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.array, HU)
        assert volume.geometry.shape == (6, 8, 9)
        assert volume.geometry.origin == (0.0, -20.0, -10.0)
        np.testing.assert_allclose(volume.geometry.spacing, (3, 1, 1), rtol=1e-12)
        assert read_geometry(path) == volume.geometry


def turn(angles):
    a, b, c = angles
    x = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    y = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    z = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    return x @ y @ z


def rescaled(stored, rescale):
    slopes, intercepts = np.array(rescale, float).T[:, :, None, None]
    return stored * slopes + intercepts


SPACING = st.floats(0.3, 5).map(lambda value: round(value, 3))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    st.sampled_from(list(WRITERS)),
    st.tuples(*[st.floats(-3, 3)] * 3),
    st.permutations(range(5)),
    st.tuples(SPACING, SPACING, SPACING),
    st.lists(
        st.tuples(st.sampled_from([1, 2, 0.5, 0.013]), st.integers(-2000, 0)),
        min_size=5,
        max_size=5,
    ),
)
def test_values_and_positions_of_any_series_come_back(
    tmp_path_factory, kind, angles, order, spacing, rescale
):
    axes = turn(angles).round(8)  # as 16 characters hold it
    row, column, normal = axes[:, 0], axes[:, 1], np.cross(axes[:, 0], axes[:, 1])
    place = [(np.array([5, -7, 11]) + k * spacing[0] * normal).round(6).tolist() for k in range(5)]
    stored, folder = random_values((5, 6, 7)), tmp_path_factory.mktemp("series")
    orientation = [*row.tolist(), *column.tolist()]
    WRITERS[kind](
        folder,
        stored[list(order)],
        [place[index] for index in order],
        [rescale[index] for index in order],
        spacing=spacing[1:],
        orientation=orientation,
    )
    volume = read_volume(folder)
    np.testing.assert_allclose(volume.array, rescaled(stored, rescale), rtol=1e-6, atol=1e-3)
    grid = volume.geometry
    scaled = np.array(grid.direction).reshape(3, 3) * grid.spacing
    for z, y, x in [(0, 0, 0), (4, 5, 6), (2, 5, 0), (3, 0, 6)]:
        mm = np.array(place[z]) + y * spacing[1] * column + x * spacing[2] * row
        found = (np.array(grid.origin) + scaled @ (z, y, x))[::-1]
        np.testing.assert_allclose(found, mm, atol=1e-3)


@both
def test_an_independent_reader_sees_the_same_grid(tmp_path, write):
    write(tmp_path, STORED, orientation=(0, 1, 0, 0, 0, -1), spacing=(0.5, 0.75),
          positions=[(-2.5 * k, 1, 2) for k in range(6)])  # fmt: skip
    files = sorted(tmp_path.iterdir())
    if len(files) == 1:
        other = highdicom.imread(files[0]).get_volume()
    else:
        other = highdicom.get_volume_from_series(list(map(pydicom.dcmread, files)))
    other = other.flip_spatial(0)  # it stacks against the normal
    volume = read_volume(tmp_path)
    affine = np.array(volume.geometry.direction).reshape(3, 3)[::-1] * volume.geometry.spacing
    np.testing.assert_allclose(affine, other.affine[:3, :3], atol=1e-9)
    np.testing.assert_array_equal(volume.array, other.array)


@both
def test_a_tilted_gantry_gives_the_leaning_grid_that_it_has(tmp_path, write):
    cosine, sine = math.cos(math.radians(20)), math.sin(math.radians(20))
    write(tmp_path, STORED, upright(6), orientation=(1, 0, 0, 0, round(cosine, 8), round(-sine, 8)))
    geometry = dicom_geometry(tmp_path)
    columns = np.array(geometry.direction).reshape(3, 3).T
    np.testing.assert_allclose(columns, [(1, 0, 0), (-sine, cosine, 0), (0, 0, 1)], atol=1e-7)
    assert geometry.spacing[0] == pytest.approx(3)


TWICE = np.concatenate([STORED, STORED])
PLACES = {
    "a gap": (STORED, [(0, 0, z) for z in (0, 3, 6, 12, 15, 18)], "from 3 to 6 mm, a gap"),
    "time points": (TWICE, upright(6) * 2, "2 images at each of 6 positions"),
    "a doubled slice": (STORED, [(0, 0, z) for z in (0, 3, 6, 6, 9, 12)], "several images at 1 of"),
    "all in one place": (STORED, upright(1) * 6, "6 images at each of 1 positions"),
    "two stacks": (TWICE, [*upright(6), *np.add(upright(6), 100).tolist()], "more than one stack"),
    "uneven steps": (STORED, [(0, 0, z) for z in (0, 3, 6.2, 9, 12.1, 15)], "from 2.8 to 3.2 mm"),
    "one set aside": (STORED, [*upright(3), (0, 0, 9), *upright(6)[4:]], "shifted within"),
}  # fmt: skip


@both
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_not_one_even_stack_is_refused(tmp_path, write, kind):
    stored, positions, words = PLACES[kind]
    write(tmp_path, stored, positions)
    refused(tmp_path, words)


def test_positions_and_directions_have_the_tolerance_of_their_rounding(tmp_path):
    def jitter(made, index):
        made.ImageOrientationPatient = [1, 1e-6 * index, 0, 0, 1, 0]

    write_slices(tmp_path / "turned", STORED, edit=jitter)

    def padded(made, index):  # many write one number more exactly than the next, or in full length
        made.ImagePositionPatient = ["-12.345678", "0.5", f"{round(0.625 * index, 1):.6f}"]

    rounded = [(0, 0, round(0.625 * k, 1)) for k in range(6)]
    write_slices(tmp_path / "rounded", STORED, rounded)
    write_slices(tmp_path / "padded", STORED, edit=padded)
    write_frames(tmp_path / "frames", STORED, rounded)
    for name in ("turned", "rounded", "padded", "frames"):
        volume, step = read_volume(tmp_path / name), 3 if name == "turned" else 0.625
        np.testing.assert_array_equal(volume.array, HU)
        assert volume.geometry.spacing[0] == pytest.approx(step, rel=0.007)  # 0.62 from end to end
    # a whole number of mm hides no missing slice
    write_slices(tmp_path / "whole", STORED, [(0, 0, z) for z in (0, 1, 2, 4, 5, 6)])
    refused(tmp_path / "whole", "from 1 to 2 mm, a gap")
    # nor are whole numbers taken for rounded ones
    write_slices(tmp_path / "uneven", STORED, [(0, 0, z) for z in (0, 5, 11, 15, 20, 25)])
    refused(tmp_path / "uneven", "from 4 to 6 mm")


def change(**elements):
    def edit(made, index):
        for name, value in elements.items() if index else ():
            if value is None and name in made:
                delattr(made, name)
            elif value is not None:
                setattr(made, name, value)

    return edit


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PixelSpacing": None}, "5 of 6 slices have no PixelSpacing"),
        ({"PixelSpacing": [2, 2]}, "PixelSpacing that differs between slices, 1 to 2 mm"),
        ({"ImagePositionPatient": None}, "5 of 6 slices do not say where they lie"),
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, "not parallel"),
        ({"ImageOrientationPatient": [1, 0, 0, 0.5, 1, 0]}, "not parallel"),
        ({"FrameOfReferenceUID": "1.9"}, "several frames of reference"),
    ],
)
def test_slices_that_are_not_alike_are_refused(tmp_path, elements, words):
    write_slices(tmp_path, STORED, edit=change(**elements))
    refused(tmp_path, words)


@pytest.mark.parametrize(
    ("rescale", "dtype"),
    [
        ([(1, 0)] * 6, np.uint16),
        ([(1, -1024)] * 6, np.int16),
        ([(1, -1024)] * 3 + [(1, -2048)] * 3, np.int16),
        ([(16, -1024)] * 6, np.int32),
        ([(1, 0)] + [(0.001, 0)] * 5, np.float32),
    ],
)
@both
def test_each_slice_has_its_own_rescale_in_a_type_that_holds_all(tmp_path, write, rescale, dtype):
    write(tmp_path, STORED, None, rescale, bits=12)
    volume = read_volume(tmp_path)
    assert volume.array.dtype == dtype
    np.testing.assert_allclose(volume.array, rescaled(STORED, rescale), rtol=1e-7)


def test_the_length_of_the_values_is_what_the_header_says(tmp_path):
    write_slices(tmp_path, STORED, edit=change(PixelData=bytes(1000)))
    with pytest.raises(PipelineError, match=r"found|1000 bytes of pixel data, expected 144"):
        read_volume(tmp_path)


@pytest.mark.parametrize(
    ("elements", "words"),
    [
        ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1, where low values are bright"),
        ({"ModalityLUTSequence": [dataset()]}, "lookup table"),
        ({"HighBit": 14}, "the highest as bit 14, expected bit 15"),
        ({"RescaleSlope": None, "RescaleIntercept": None}, "5 of 6 slices have no rescale"),
        ({"RescaleSlope": 0}, "rescale slope 0"),
        ({"RescaleSlope": None}, "rescale slope nan and intercept -1024"),
        ({"RescaleIntercept": None}, "rescale slope 1 and intercept nan"),
    ],
)
def test_values_that_cannot_be_told_are_refused(tmp_path, elements, words):
    write_slices(tmp_path, STORED, edit=change(**elements))
    with pytest.raises(PipelineError, match=words):
        read_volume(tmp_path)


def test_slices_of_several_numbers_of_bits_fit_one_type(tmp_path):
    write_slices(tmp_path, STORED, edit=change(BitsStored=12, HighBit=11, PixelRepresentation=0))
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, HU)
    assert volume.array.dtype == np.int32, "the first slice has 16 bits"


def test_bits_of_an_overlay_are_no_values(tmp_path):
    write_slices(tmp_path, STORED | 0x9000, bits=12)
    np.testing.assert_array_equal(read_volume(tmp_path).array, HU)


def test_an_unknown_transfer_syntax_is_named(tmp_path):
    write_slices(tmp_path, STORED)
    for file in tmp_path.iterdir():
        made = pydicom.dcmread(file)
        made.compress(uid.RLELossless)
        made.file_meta.TransferSyntaxUID = uid.MPEG4HP41
        made.save_as(file)
    with pytest.raises(PipelineError, match=r"transfer syntax MPEG-4 .* nothing here decodes"):
        read_volume(tmp_path)


def test_slices_without_preamble_and_with_other_floats_are_read(tmp_path):
    def as_floats(made, index):
        made.FloatPixelData = (STORED[index] / 7).astype(np.float32).tobytes()
        made.BitsAllocated = 32
        for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            delattr(made, name)

    write_slices(tmp_path / "floats", STORED, rescale=[(1, 0)] * 6, edit=as_floats)
    values = read_volume(tmp_path / "floats").array
    np.testing.assert_array_equal(values, (STORED / 7).astype(np.float32))
    write_slices(tmp_path / "bare", STORED, name="{}")
    for file in (tmp_path / "bare").iterdir():
        whole = file.read_bytes()
        length = int.from_bytes(whole[140:144], "little")  # of the group of file information
        file.write_bytes(whole[144 + length :])
    np.testing.assert_array_equal(read_volume(tmp_path / "bare").array, HU)
