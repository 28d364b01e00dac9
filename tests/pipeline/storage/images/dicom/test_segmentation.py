"""A DICOM segmentation is a label on its image's grid; contours are refused."""

from functools import cache

import highdicom
import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.sr.codedict import codes

from pipeline.datasets import CaseFiles
from pipeline.datasets.loading import load_case
from pipeline.errors import PipelineError
from pipeline.storage.images.volumes import read_label, read_volume
from tests.pipeline.dicom_files import dataset, random_values, save, write_slices

MASK = np.zeros((6, 8, 9), np.uint8)
MASK[2, 2:5, 2:5] = 1
MASK[4, 1:3, 6:8] = 2  # slice 3 is empty


@cache
def description(number):
    return highdicom.seg.SegmentDescription(
        number,
        f"segment {number}",
        codes.SCT.MorphologicallyAbnormalStructure,
        codes.SCT.Lesion,
        highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def write_seg(path, mask, slices, kind="BINARY", numbers=(1, 2)):
    made = highdicom.seg.Segmentation(
        slices,
        mask,
        kind,
        [description(number) for number in numbers],
        uid.generate_uid(),
        1,
        uid.generate_uid(),
        1,
        "maker",
        "model",
        "1",
        "1",
        omit_empty_frames=True,
    )
    made.save_as(path)


@pytest.fixture
def scan(tmp_path):
    """A scan's folder, and its slices."""
    write_slices(tmp_path / "scan", random_values())
    return tmp_path / "scan", [dcmread(file) for file in sorted((tmp_path / "scan").iterdir())]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("planes", [range(6), [2, 4], [2]])
def test_segments_are_label_values_wherever_frames_are_left_out(tmp_path, scan, kind, planes):
    folder, slices = scan
    mask = np.where(np.isin(np.arange(6), planes)[:, None, None], MASK, 0).astype(np.uint8)
    write_seg(tmp_path / "seg.dcm", mask, slices, kind)
    loaded = load_case(CaseFiles("a", folder, tmp_path / "seg.dcm"))
    assert loaded.faults == ()
    np.testing.assert_array_equal(loaded.label, mask)


GRIDS = {
    "of other voxels": {"spacing": (0.5, 0.5)},
    "between the voxels": {"positions": [(-10.5, -20, 3 * k) for k in range(6)]},
    "beyond its image": {"positions": [(-10, -20, 3 * k + 9) for k in range(6)]},
}


@pytest.mark.parametrize("words", GRIDS)
def test_a_seg_on_another_grid_is_refused(tmp_path, scan, words):
    write_slices(tmp_path / "other", random_values(), **GRIDS[words])
    write_seg(tmp_path / "seg.dcm", MASK, [*map(dcmread, sorted((tmp_path / "other").iterdir()))])
    with pytest.raises(PipelineError, match=f"seg.dcm: DICOM SEG {words}, expected"):
        read_label(tmp_path / "seg.dcm", read_volume(scan[0]).geometry)


def test_overlapping_and_fractional_segments_are_refused(tmp_path, scan):
    folder, slices = scan
    twice = np.stack([MASK == 1, MASK == 1], axis=-1)
    write_seg(tmp_path / "twice.dcm", twice, slices)
    write_seg(tmp_path / "half.dcm", (MASK == 1) * 0.5, slices, "FRACTIONAL", (1,))
    for name, words in (("twice", "do not overlap"), ("half", "a fractional DICOM SEG")):
        with pytest.raises(PipelineError, match=words) as caught:
            read_label(tmp_path / f"{name}.dcm", read_volume(folder).geometry)
        assert "\n" not in str(caught.value)


def test_contours_are_refused_and_a_stack_of_slices_is_read(tmp_path, scan):
    save(dataset(uid.RTStructureSetStorage), tmp_path / "contours.dcm")
    grid = read_volume(scan[0]).geometry
    with pytest.raises(PipelineError, match=r"contours \(RTSTRUCT\), expected a mask of voxels"):
        read_label(tmp_path / "contours.dcm", grid)
    write_slices(tmp_path / "drawn", MASK, rescale=[(1, 0)] * 6, bits=8)
    label = read_label(tmp_path / "drawn", grid)
    np.testing.assert_array_equal(label.array, MASK)
    assert label.geometry == grid
