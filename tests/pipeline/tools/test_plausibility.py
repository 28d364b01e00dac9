"""What is doubtful is told with a remedy, and nothing ordinary is."""

import numpy as np
import pytest

from pipeline.datasets.cases import CaseFiles
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.source_grid import working_grid
from pipeline.tools.check.plausibility import (
    disk_warnings,
    grid_warnings,
    image_warnings,
    label_warnings,
    modality_warnings,
    spacing_warnings,
    twin_warnings,
)
from tests.pipeline.dicom_files import random_values, write_slices

SHAPE = (6, 16, 20)
RANDOM = np.random.default_rng(0)


def ct(low, high):
    return RANDOM.integers(low, high, SHAPE).astype(np.int16)


def one(doubts):
    (found,) = doubts
    assert found.severity == "warning"
    assert found.remedy
    return found.found


def test_a_ct_without_air():
    assert "lowest value is -160 HU" in one(image_warnings(ct(-160, 240).clip(-160), "CT", LIMITS))
    assert image_warnings(ct(-160, 240), "MR", LIMITS) == []
    assert image_warnings(ct(-1024, 240), "CT", LIMITS) == []


def test_dicom_of_another_modality_than_it_is_read_as(tmp_path):
    write_slices(tmp_path / "p", random_values())  # of a CT
    files = CaseFiles("p", tmp_path / "p", None)
    assert one(modality_warnings(files, "MR")) == "DICOM of modality CT"
    assert modality_warnings(files, "CT") == []
    assert modality_warnings(files, "") == []


LIMITS = (-200.0, 800.0)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_window_in_which_nothing_lies_is_told_and_one_that_clips_most_is_ordinary(modality):
    warnings = image_warnings(ct(-1000, -600), modality, LIMITS)
    assert "0.00% of the voxels between black (-200)" in one(warnings)
    image = np.full(SHAPE, -1000, np.int16)
    image[:, :1, :4] = 100  # 1.25 % of the voxels
    assert image_warnings(image, "CT", LIMITS) == []


THICK = [((10, 0.5, 0.5), "spacing 10 × 0.5 × 0.5 mm"), ((0.5, 3, 0.5), "the thick axis is y")]
THICK.append(((0.5, 0.5, 6), "the thick axis is x"))


@pytest.mark.parametrize(("spacing", "told"), THICK)
def test_very_thick_slices_and_those_along_another_axis(spacing, told):
    for ordinary in ((1, 1, 1), (3, 0.4, 0.4), (5, 0.6, 0.6), (0.5, 0.7, 0.7)):
        assert grid_warnings(Geometry(SHAPE, ordinary)) == []
    assert told in one(grid_warnings(Geometry(SHAPE, spacing)))


@pytest.mark.parametrize(
    ("plane", "direction"),
    [
        ("coronal", (0, 1, 0, -1, 0, 0, 0, 0, 1)),
        ("sagittal", (0, -1, 0, 0, 0, 1, 1, 0, 0)),
    ],
)
def test_slices_in_another_plane_until_they_are_brought_to_axial_ones(plane, direction):
    stored = Geometry(SHAPE, (5, 0.5, 0.5), direction=direction)
    (found,) = grid_warnings(stored)
    assert (found.found, found.expected) == (f"{plane} slices", "axial ones")
    assert "slices.plane: axial" in found.remedy
    assert "the thick axis is" in one(grid_warnings(working_grid(stored, "axial")))


def test_a_lesion_that_the_border_cuts():
    label = np.zeros(SHAPE, np.uint8)
    label[1:5, 1:15, 1:19] = 1
    assert label_warnings(label) == []
    label[0, 5, 5] = label[3, 4, -1] = 2
    assert one(label_warnings(label)) == "lesion at the image's border (first z, last x)"
    flat = np.zeros((1, 16, 20), np.uint8)
    flat[0, 4, 4] = 1
    assert label_warnings(flat) == [], "a single slice has no border in z"


def test_a_spacing_far_from_all_others():
    usual = [(f"c{number}", (1.25, 0.7, 0.7)) for number in range(5)]
    assert spacing_warnings([*usual, ("thick", (5.0, 0.9, 0.9))]) == []
    (found,) = spacing_warnings([*usual, ("metres", (1.25, 0.0007, 0.0007))])
    assert found.case == "metres"
    assert found.found == "spacing 0.0007 mm in y, 0.0007 mm in x"
    assert spacing_warnings([*usual[:3], ("metres", (1.25, 0.0007, 0.0007))]) == [], "too few"


def test_the_same_image_twice():
    found = twin_warnings([("a", "1"), ("b", "2"), ("c", "1"), ("d", "1")])
    assert {twin.case: twin.found for twin in found} == dict.fromkeys("cd", "the same voxels as a")
    assert len(found) == 2


def test_a_disk_too_small():
    assert disk_warnings(10**9, 10**9) == []
    assert one(disk_warnings(2 * 10**9, 10**9)).startswith("1 GB of disk are free")
