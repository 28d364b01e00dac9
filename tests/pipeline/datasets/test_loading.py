"""Every fault of a case is found and takes one line, and none is invented."""

import re
from dataclasses import replace

import numpy as np
import pytest

from pipeline.datasets import CaseFiles, list_cases
from pipeline.datasets.loading import geometry_faults, image_faults, load_case, usable_label
from pipeline.errors import Finding
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.source_grid import to_working_grid, working_grid
from pipeline.storage.images.volumes import read_volume, write_volume
from tests.pipeline.storage.images.grids import tilted, turned

SHAPE = (6, 16, 20)
GRID = Geometry(SHAPE, (3.0, 0.5, 0.5), (1.0, 2.0, 3.0))


def chest() -> np.ndarray:
    """(z, y, x) int16, HU: lung beside soft tissue with some bone, all noisy."""
    rng = np.random.default_rng(0)
    image = np.full(SHAPE, 40.0)
    image[:, :, :9] = -850
    image[:, 2:5, 12:16] = 700
    return (image + rng.normal(0, 15, SHAPE)).astype(np.int16)


def brief(notes):
    return [(note.severity, note.found) for note in notes]


@pytest.fixture
def mask() -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 5:8, 5:8] = 1
    return label


@pytest.fixture
def write(tmp_path, mask):
    def build(image=None, label=mask, label_grid=GRID) -> CaseFiles:
        files = CaseFiles("c1", tmp_path / "c1.nii.gz", tmp_path / "c1_label.nii.gz", modality="CT")
        write_volume(files.image, chest() if image is None else image, GRID)
        write_volume(files.label, label, label_grid)
        return files

    return build


def test_a_sound_case_has_no_fault(write, mask):
    files = write()
    loaded = load_case(files)
    assert (loaded.faults, loaded.notes) == ((), ())
    np.testing.assert_array_equal(loaded.label, mask)
    np.testing.assert_array_equal(loaded.image.array, chest())
    assert loaded.label.dtype == np.uint8
    unlabelled = load_case(replace(files, label=None))
    assert (unlabelled.label, unlabelled.faults) == (None, ())


def test_all_faults_of_a_case_come_at_once(write, mask):
    image = chest().astype(np.float32)
    image[0, 0, 0] = np.nan
    shifted = replace(GRID, spacing=(2.5, 0.5, 0.5), origin=(1.0, 2.0, 9.0))
    loaded = load_case(write(image, mask * np.float32(0.5), label_grid=shifted))
    words = ("NaN", "whole numbers", "spacing", "origin")
    for fault, word in zip(map(str, loaded.faults), words, strict=True):
        assert re.fullmatch(f"case c1: [^:]*c1.*{word}.*", fault)
    assert loaded.label is None


def test_no_fault_hides_another_of_the_same_array():
    raw = np.full(SHAPE, 1000.0)
    raw[0], raw[0, 0, 0] = 300, np.nan
    faults = [fault.found[:7] for fault in image_faults(raw, modality="CT")]
    assert faults == ["1 voxel", "values "]
    label = np.zeros(SHAPE)
    label[0, 0, 0], label[0, 0, 1], label[0, 0, 2] = -2, 0.5, 300
    faults = [fault.found for fault in usable_label(label, binarise=False)[2]]
    assert faults == ["label -2", "labels that are no whole numbers", "label 300"]


def test_an_unreadable_image_does_not_hide_the_label_fault(write, mask):
    files = write(label=mask.astype(np.int16) - 1)
    files.image.write_bytes(files.image.read_bytes()[:200])
    cut, negative = load_case(files).faults
    assert "truncated" in cut.found
    assert "-1" in negative.found
    assert [cut.file, negative.file] == [str(files.image), str(files.label)]


def test_missing_files_are_faults(tmp_path):
    files = CaseFiles("c1", tmp_path / "a.nii.gz", tmp_path / "b.nii.gz")
    assert ["not there" in fault.found for fault in load_case(files).faults] == [True, True]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": (6, 16, 19)}, "shape (6, 16, 19)"),
        ({"spacing": (3.01, 0.5, 0.5)}, "spacing"),
        ({"origin": (1.0, 2.0, 3.06)}, "origin"),
        ({"direction": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)}, "direction"),
    ],
)
def test_grids_that_differ_beyond_a_tolerance(change, words):
    (fault,) = geometry_faults(GRID, replace(GRID, **change))
    assert words in fault.found
    assert all((fault.expected, fault.remedy))
    near = replace(GRID, spacing=(3.002, 0.5002, 0.5), origin=(1.03, 2.0, 3.0))
    assert geometry_faults(GRID, near) == []


def test_not_finite_and_constant_images():
    image = chest().astype(np.float32)
    for value in (np.nan, np.inf, -np.inf):
        image[1, 2, 3] = value
        (fault,) = image_faults(image, modality="MR")
        assert "1 voxels with NaN or infinity" in fault.found
        assert usable_label(image, binarise=True)[2]
    for modality in ("MR", "CT", ""):
        (fault,) = image_faults(np.zeros(SHAPE, np.int16), modality=modality)
        assert "empty" in fault.found


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (chest() + np.int16(1024), "no voxel lies below 0|offset"),
        ((chest() + 1024) / 4095, "small range"),
        (np.clip((chest() + 1024) / 8, 0, 255).astype(np.uint8), "below 0"),
        (chest().astype(np.int32) - 40000, "expected values within"),
    ],
)
def test_implausible_hu(image, words):
    (fault,) = image_faults(image, modality="CT")
    assert any(word in fault.found for word in words.split("|"))
    assert image_faults(image, modality="MR") == []


@pytest.mark.parametrize(
    "image",
    [
        chest(),
        np.where(chest() < -850, -3024, chest()),
        chest()[:, :, 9:],  # no lung in sight
        np.clip(chest(), -160, 240),
    ],
)
def test_plausible_hu(image):
    assert image_faults(image, modality="CT") == []


def test_real_ct_is_plausible(shared_dir):
    image = read_volume(shared_dir / "real" / "ct" / "example_ct.nii.gz").array
    assert image.dtype == np.int32
    assert image_faults(image, modality="CT") == []
    assert image_faults(image + 1024, modality="CT") != []
    for case in list_cases("msd", shared_dir / "real" / "nodules" / "Task06_Lung"):
        assert load_case(case).faults == ()


def test_atlas_mask_with_tiny_values_is_binarised_with_a_note(mask):
    label, notes, faults = usable_label(mask * 0.01, binarise=True)
    np.testing.assert_array_equal(label, mask)
    assert (brief(notes), faults) == ([("warning", "values up to 0.01 binarised at > 0")], [])
    assert usable_label(mask, binarise=True)[1] == []
    assert usable_label(mask * 255, binarise=True)[0].max() == 1


def test_labels_keep_their_values_and_drop_rounding(mask):
    scaled = mask * np.float32(3) + np.float32(1e-7)
    label, *findings = usable_label(scaled, binarise=False)
    np.testing.assert_array_equal(label, mask * 3)
    assert findings == [[], []]


@pytest.mark.parametrize("factor", [0.01, 0.5, -1, 300])
def test_labels_that_cannot_be_stored(mask, factor):
    label, _, faults = usable_label(mask.astype(np.float32) * factor, binarise=False)
    assert (label, len(faults)) == (None, 1)


def test_only_the_foreground_s_values_are_lesion_and_none_at_all_is_noted(mask):
    mask[4], mask[5] = 2, 3
    label, notes, faults = usable_label(mask, binarise=False, foreground=(1, 2))
    np.testing.assert_array_equal(label, np.where(mask == 3, 0, mask))
    words = "label values 3 taken as background, as source.foreground says"
    assert (brief(notes), faults) == ([("note", words)], [])
    label, notes, _ = usable_label(mask, binarise=False, foreground=(9,))
    assert not label.any()
    assert brief(notes)[1] == ("warning", "the label holds no lesion")
    assert usable_label(mask, binarise=False, foreground=(1, 2, 3))[1] == []


def test_notes_of_the_adapter_come_first(write, mask):
    files = replace(write(label=mask * np.float32(0.5)), notes=("63 of 64",))
    loaded = load_case(files, binarise=True)
    assert loaded.notes[0] == Finding("63 of 64", severity="note")
    assert loaded.notes[1].brief == f"case c1: {files.label}: values up to 0.5 binarised at > 0"


@pytest.mark.parametrize("which", ["image", "label", "both"])
def test_image_and_label_in_other_orders_of_axes_are_one_case_if_slices_are_axial(
    tmp_path, mask, which
):
    files = CaseFiles("c1", tmp_path / "i.nii.gz", tmp_path / "l.nii.gz", modality="CT")
    image, label = (
        turned(array, GRID) if which in (name, "both") else (array, GRID)
        for name, array in (("image", chest()), ("label", mask))
    )
    write_volume(files.image, *image)
    write_volume(files.label, *label)
    loaded = load_case(files, plane="axial")
    assert loaded.faults == ()
    np.testing.assert_array_equal(loaded.image.array, chest())
    np.testing.assert_array_equal(loaded.label, mask)
    np.testing.assert_allclose(loaded.image.geometry.axes, np.eye(3), atol=1e-6)
    np.testing.assert_allclose(loaded.image.geometry.origin, GRID.origin, atol=1e-4)
    as_stored = load_case(files)
    assert bool(as_stored.faults) == (which != "both")
    np.testing.assert_array_equal(as_stored.image.array, image[0])


def test_a_tilted_case_is_refused_or_straightened_together_with_its_label(tmp_path, mask):
    files = CaseFiles("c1", tmp_path / "i.mha", tmp_path / "l.mha", modality="CT")
    grid = tilted(20, SHAPE, (3.0, 0.5, 0.5))
    write_volume(files.image, chest(), grid)
    write_volume(files.label, mask, grid)
    refused = load_case(files).faults
    assert [fault.file for fault in refused] == [str(files.image), str(files.label)]
    assert all("source.tilted: resample" in fault.remedy for fault in refused)
    loaded = load_case(files, tilted="resample")
    working = working_grid(loaded.source, "as_stored")
    assert (loaded.faults, loaded.image.geometry) == ((), working)
    expected = to_working_grid(mask, loaded.source, working, nearest=True)
    np.testing.assert_array_equal(loaded.label, expected)
    write_volume(files.label, mask, replace(GRID, origin=grid.origin))
    (fault,) = load_case(files, tilted="resample").faults
    assert "label direction" in fault.found


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((3.0, 0.5, 0.04), ["spacing 3 × 0.5 × 0.04 mm (z, y, x)"]),
        (
            (1e30, 0.5, 0.5),
            ["spacing 1e+30 × 0.5 × 0.5 mm (z, y, x)", "a lesion of 4.5e+24 litres"],
        ),
        ((20.0, 20.0, 20.0), []),
        ((20.0, 74.0, 74.0), ["spacing 20 × 74 × 74 mm (z, y, x)"]),
        ((20.0, 90.0, 90.0), ["spacing 20 × 90 × 90 mm (z, y, x)", "a lesion of 2.92 litres"]),
    ],
)
def test_a_size_that_no_scan_or_lesion_has_is_a_warning_of_the_case_itself(
    tmp_path, mask, spacing, words
):
    files = CaseFiles("c1", tmp_path / "i.mha", tmp_path / "l.mha", modality="CT")
    for path, array in ((files.image, chest()), (files.label, mask)):
        write_volume(path, array, replace(GRID, spacing=spacing))
    loaded = load_case(files)
    assert loaded.faults == ()
    assert brief(loaded.notes) == [("warning", word) for word in words]
    assert all(note.expected and note.remedy for note in loaded.notes)
