"""Phantoms are what they say: layout, truth, anatomy, and the same bytes every time."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.datasets import list_cases
from pipeline.datasets.loading import load_case
from pipeline.datasets.phantoms import phantom
from pipeline.datasets.phantoms.calcium import agatston
from pipeline.datasets.phantoms.fields import Grid
from pipeline.datasets.phantoms.phantom import ADAPTER_OF, KINDS, phantom_files, write_phantom
from pipeline.errors import PipelineError
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.damages import DAMAGES

SHAPES = {"head": (30, 72, 64), "chest": (20, 72, 72), "heart": (20, 96, 96)}
CASES = {"head": 9, "chest": 4, "heart": 9}


@pytest.fixture(scope="module")
def roots(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("phantoms")
    for kind in KINDS:
        write_phantom(
            kind, folder / kind, cases=CASES[kind], seed=5, shape=SHAPES[kind], unlabelled=1
        )
    return {kind: folder / kind for kind in KINDS}


def labelled(root: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Name, image and label of each labelled case; the folder is called as the phantoms' kind."""
    for case in list_cases(ADAPTER_OF[root.name], root):
        if case.label:
            yield case.case, read_volume(case.image).array, read_volume(case.label).array


def truths(root: Path) -> dict:
    return json.loads((root / "truth.json").read_text("utf-8"))["cases"]


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_adapter_lists_exactly_the_promised_cases_and_ingest_accepts_them(roots, kind):
    cases = list_cases(ADAPTER_OF[kind], roots[kind])
    assert cases == phantom_files(kind, roots[kind], CASES[kind], 1)
    assert [files.role for files in cases if files.label is None] == ["unlabelled"]
    for case in cases:
        loaded = load_case(case)
        assert loaded.faults == ()
        assert loaded.image.array.shape == SHAPES[kind]
        assert loaded.image.array.dtype == np.int16


@pytest.mark.parametrize("kind", KINDS)
def test_truth_agrees_with_the_files(roots, kind):
    known = truths(roots[kind])
    for case in list_cases(ADAPTER_OF[kind], roots[kind]):
        truth = known[case.case]
        geometry = read_geometry(case.image)
        np.testing.assert_allclose(geometry.spacing, truth["spacing_mm"], rtol=1e-5)
        np.testing.assert_allclose(geometry.direction, truth["direction"], atol=1e-6)
        assert truth["labelled"] == (case.label is not None)
        if case.label is None:
            continue
        label = read_volume(case.label).array
        volume = np.count_nonzero(label) * np.prod(geometry.spacing)
        assert truth["volume_mm3"] == pytest.approx(volume, rel=1e-5)
        assert truth["lesion_count"] == sum(
            ndimage.label(label == value)[1] for value in np.unique(label) if value
        )
        assert sum(lesion["voxels"] for lesion in truth["lesions"]) == truth["voxels"]
        assert len(truth["slices_with_lesion"]) < len(label)  # the MAE needs slices without


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_repeat_and_cases_do_not_depend_on_each_other(tmp_path, kind):
    shape = (12, 32, 32)
    for name, cases in (("first", 3), ("again", 3), ("fewer", 2)):
        write_phantom(kind, tmp_path / name, cases=cases, seed=1, shape=shape)
    write_phantom(kind, tmp_path / "other", cases=2, seed=2, shape=shape)
    names = ("first", "again", "fewer", "other")
    first, again, fewer, other = (digests(tmp_path / name) for name in names)
    assert first == again
    images = [name for name in fewer if name.endswith((".nii.gz", "raw"))]
    assert len(images) >= 4
    assert all(fewer[name] == first[name] for name in images)
    scans = [name for name in images if "abel" not in name and "Reference" not in name]
    assert all(fewer[name] != other[name] for name in scans)


@pytest.mark.parametrize("kind", KINDS)
def test_cases_of_an_earlier_call_do_not_stay(tmp_path, kind):
    shape = (12, 32, 32)
    write_phantom(kind, tmp_path, cases=3, seed=1, shape=shape, unlabelled=1)
    (tmp_path / "truth.json").unlink()  # as a workflow does before it runs a rule again
    write_phantom(kind, tmp_path, cases=1, seed=1, shape=shape)
    names = [files.case for files in list_cases(ADAPTER_OF[kind], tmp_path)]
    assert names == [files.case for files in phantom_files(kind, Path(), 1, 0)]


def test_head_has_several_unequal_cohorts_with_all_sizes_in_the_large_ones(roots):
    cases = [files for files in list_cases("atlas", roots["head"]) if files.label]
    counts = Counter(files.group for files in cases).values()
    assert len(counts) >= 4
    assert max(counts) > min(counts)
    known = truths(roots["head"])
    assert len({known[files.case]["size_class"] for files in cases if files.group == "R001"}) == 3
    voxels = [truth["voxels"] for truth in known.values()]
    assert set(np.searchsorted([100, 1000], voxels, side="left")) == {0, 1, 2}


def test_head_lesions_are_dark_but_of_low_contrast(roots):
    known = truths(roots["head"])
    assert all(0.1 <= loss <= 0.56 for truth in known.values() for loss in truth["darkening"])
    for name, image, mask in labelled(roots["head"]):
        if known[name]["voxels"] < 300:
            continue
        label = mask > 0
        ring = ndimage.binary_dilation(label, iterations=2) & ~label
        inner, around = np.median(image[label]), np.percentile(image[ring], 75)
        assert 0 < around - inner < 0.55 * np.percentile(image, 99.5)
        # healthy tissue covers the lesion's range, so no threshold finds it
        low, high = np.percentile(image[label], [10, 90])
        alike = (image > low) & (image < high)
        assert np.count_nonzero(alike & ~label) > 3 * np.count_nonzero(alike & label)


def test_chest_tumours_lie_in_lung_and_some_touch_its_wall(roots):
    touching = 0
    for _, image, mask in labelled(roots["chest"]):
        label = mask > 0
        assert label.any()
        assert -150 < np.median(image[label]) < 120
        ring = ndimage.binary_dilation(label, iterations=2) & ~label
        assert np.percentile(image[ring], 25) < -500  # lung beside it
        touching += np.percentile(image[ring], 90) > -100
    assert touching >= 1


def test_heart_labels_are_whole_components_of_one_artery(roots):
    arteries = set()
    for _, image, label in labelled(roots["heart"]):
        parts, _ = ndimage.label(image > 130)
        arteries |= set(np.unique(label))
        for part in np.unique(parts[label > 0]):
            assert len(np.unique(label[parts == part])) == 1
    assert arteries == {0, 1, 2, 3}


def test_heart_scores(roots):
    known = truths(roots["heart"])
    totals = [truth["agatston"]["total"] for truth in known.values()]
    assert min(totals) == 0
    assert max(totals) > 400
    for truth in known.values():
        scores = truth["agatston"]
        assert scores["total"] == pytest.approx(scores["LAD"] + scores["LCX"] + scores["RCA"])
        near = truth["agatston_noise_free"]["total"]
        assert near == pytest.approx(scores["total"], rel=0.15, abs=30)


def test_agatston_by_hand():
    grid = Grid((3, 4, 4), (2.5, 0.5, 0.5))
    image, label = np.zeros(grid.shape, np.int16), np.zeros(grid.shape, np.uint8)
    image[0, 0, :2], image[1, 0, 0], image[2, 3, 3] = (150, 250), 420, 131
    label[0, 0, :2], label[1, 0, 0], label[2, 3, 3] = 1, 1, 3
    scores = agatston(image, label, grid)
    area, scale = 0.25, 2.5 / 3
    assert scores["LAD"] == pytest.approx((2 * area * 2 + area * 4) * scale)
    assert scores["RCA"] == pytest.approx(area * scale)
    assert scores["LCX"] == 0
    assert scores["total"] == pytest.approx(scores["LAD"] + scores["RCA"])


def test_some_hearts_have_a_contrast_scan_that_is_left_out(roots):
    decoy, *_ = roots["heart"].rglob("*CTAI.mhd")
    bright = read_volume(decoy).array
    plain = read_volume(decoy.with_name(decoy.name.replace("CTAI", "CTI"))).array
    assert np.count_nonzero(bright > 250) > 2 * np.count_nonzero(plain > 250)


def test_faults_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(PipelineError, match="use one of head, chest, heart"):
        write_phantom("liver", tmp_path, cases=1)
    with pytest.raises(PipelineError, match="at least 8"):
        write_phantom("head", tmp_path, cases=1, shape=(4, 64, 64))
    assert list(tmp_path.iterdir()) == []


def test_smallest_shape(tmp_path):
    for kind in KINDS:
        write_phantom(kind, tmp_path / kind, cases=2, shape=(8, 8, 8))
        for case in list_cases(ADAPTER_OF[kind], tmp_path / kind):
            assert read_volume(case.image).array.shape == (8, 8, 8)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_list_of_former_files_that_is_damaged_or_leads_elsewhere_removes_nothing(
    tmp_path, damage
):
    root, other = tmp_path / "root", tmp_path / "other.txt"
    root.mkdir()
    other.write_text("of somebody else")
    written = root / ".phantom.json"
    written.write_text(json.dumps({"files": ["../other.txt", str(other), "former", 5]}))
    (root / "former").write_text("x")
    phantom._remove_former(root)
    assert other.exists()
    assert not (root / "former").exists()
    DAMAGES[damage](written)
    phantom._remove_former(root)
