"""Scores per patient and their summary, on masks counted by hand."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.orchestration.changed_results import changed_results
from pipeline.postprocess import postprocess
from pipeline.settings import Evaluation, Postprocess
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.folders import mask_note
from pipeline.storage.images.volumes import read_volume, write_volume

SHAPE = (6, 24, 20)
VOXEL = Evaluation(bootstrap_samples=100)
PLAIN = Postprocess()
CALCIUM = Evaluation(metrics="calcium", bootstrap_samples=100)
VOXEL_MM3 = 3.0 * 0.5 * 0.7


def scored(tree, evaluation=VOXEL, settings=PLAIN, subsets=(1,), threads=2):
    for subset in subsets:
        postprocess(tree.layout, "unetpp", subset, settings)
    evaluate(tree.layout, "unetpp", subsets, evaluation, settings, seed=0, threads=threads)
    rows = pd.read_csv(tree.layout.scores("unetpp"), index_col="case", keep_default_na=True)
    return rows, read_json(tree.layout.summary("unetpp"))


@pytest.fixture
def head(results_tree, box):
    """Two cohorts: one lesion half found, one found with a second one invented, one empty case."""
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 8))
    shifted = box(SHAPE, (1, 3), (4, 8), (6, 10))
    extra = box(SHAPE, (4, 5), (20, 22), (15, 17))
    image = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    for case, label in (("half", lesion), ("extra", lesion), ("none", np.zeros(SHAPE, bool))):
        results_tree.add_case(
            case, image, label.astype(np.uint8), group=f"R{case[0]}", modality="MR"
        )
    results_tree.add_case("unseen", image, modality="MR")
    first = {"half": shifted * 0.9, "unseen": shifted * 0.9}
    second = {"extra": (lesion | extra) * 0.9, "none": extra * 0.9, "unseen": shifted * 0.9}
    results_tree.add_predictions("unetpp", 1, first)
    results_tree.add_predictions("unetpp", 2, second)
    results_tree.write_split([["half"], ["extra", "none"]])
    return results_tree


def test_rows_hold_the_counts_and_scores_worked_out_by_hand(head):
    rows, _ = scored(head, subsets=(1, 2))
    assert list(rows.index) == ["half", "extra", "none"]
    assert rows["subset"].tolist() == [1, 2, 2]
    assert rows["group"].tolist() == ["Rh", "Re", "Rn"]
    half = rows.loc["half"]
    assert half[["tp", "fp", "fn", "tn"]].tolist() == [16, 16, 16, 6 * 24 * 20 - 48]
    assert half["dice"] == pytest.approx(0.5)
    assert half["iou"] == pytest.approx(1 / 3)
    assert half["voe"] == pytest.approx(0.5)
    assert half["fpr_percent"] == pytest.approx(100 * 16 / (6 * 24 * 20 - 32))
    assert half["lesion_f1"] == 1
    extra = rows.loc["extra"]
    assert (extra["reference_lesions"], extra["predicted_lesions"]) == (1, 2)
    assert extra["lesion_count_difference"] == 1
    assert extra["lesion_f1"] == pytest.approx(2 / 3)
    assert extra["volume_difference_mm3"] == pytest.approx(4 * VOXEL_MM3)
    none = rows.loc["none"]
    assert (none["dice"], none["precision"]) == (0, 0)
    assert none[["recall", "voe"]].isna().all()


def test_means_are_those_of_subsets_and_undefined_values_are_counted(head):
    rows, summary = scored(head, subsets=(1, 2))
    assert summary["mean_over"] == "subsets"
    assert summary["patients"] == 3
    expected = (0.5 + (rows.loc["extra", "dice"] + 0) / 2) / 2
    assert summary["scores"]["dice"]["mean"] == pytest.approx(expected)
    assert summary["scores"]["recall"]["undefined"] == 1
    assert summary["scores"]["recall"]["mean"] == pytest.approx((0.5 + 1) / 2)
    assert summary["scores"]["dice"]["by_subset"]["1"] == 0.5
    # one patient in a subset allows no interval
    assert summary["scores"]["dice"]["low"] is None
    assert "NaN" not in head.layout.summary("unetpp").read_text(), "no JSON"
    cohorts = {name: group["patients"] for name, group in summary["by_group"].items()}
    assert cohorts == {"Rh": 1, "Re": 1, "Rn": 1}
    assert summary["by_group"]["Re"]["dice"] == pytest.approx(rows.loc["extra", "dice"])
    sizes = summary["by_lesion_size"]
    assert [sizes[name]["patients"] for name in ("1-100", "101-1000", ">1000")] == [2, 0, 0]


def test_means_over_folds_are_those_of_the_patients(head):
    write_json(head.layout.split, {**read_json(head.layout.split), "folds": 2})
    rows, summary = scored(head, subsets=(1, 2))
    assert (summary["mean_over"], summary["subsets"]) == ("patients", [1, 2])
    dice = [0.5, 2 * 32 / (2 * 32 + 4), 0]  # half found, one invented beside, one invented
    assert rows["dice"].tolist() == pytest.approx(dice)
    assert summary["scores"]["dice"]["mean"] == pytest.approx(sum(dice) / 3)
    assert summary["scores"]["dice"]["low"] is not None, "an interval over the three patients"
    assert summary["scores"]["dice"]["by_subset"]["1"] == 0.5
    assert summary["scores"]["recall"]["mean"] == pytest.approx((0.5 + 1) / 2)
    assert summary["scores"]["recall"]["undefined"] == 1


def test_raw_scores_are_those_before_postprocessing(head):
    settings = Postprocess(method="components", min_volume_mm3=5 * VOXEL_MM3)
    rows, summary = scored(head, settings=settings, subsets=(1, 2))
    assert rows.loc["extra", "fp"] == 0
    assert rows.loc["extra", "raw_fp"] == 4
    assert rows.loc["none", "dice"] == 1
    assert rows.loc["none", "raw_dice"] == 0
    assert summary["scores"]["dice"]["mean"] > summary["scores"]["raw_dice"]["mean"]


@pytest.fixture
def heart(results_tree, box):
    """A heart whose LAD calcium is found, RCA calcium missed, and rib taken for calcium by HU."""
    lad, rca, rib = (
        box(SHAPE, (1, 2), (2, 5), (2, 5)),
        box(SHAPE, (3, 5), (10, 12), (10, 12)),
        box(SHAPE, (0, 6), (20, 24), (0, 20)),
    )
    image = np.full(SHAPE, 30, np.int16)
    image[lad], image[rca], image[rib] = 250, 450, 700
    label = (1 * lad + 3 * rca).astype(np.uint8)
    results_tree.add_case("heart", image, label, suffix=".mhd")
    # one voxel of the LAD's calcium, and soft tissue beside it
    results_tree.add_predictions("unetpp", 1, {"heart": box(SHAPE, (1, 2), (2, 3), (1, 3)) * 1.0})
    results_tree.write_split([["heart"]])
    return results_tree


def test_calcium_scores_follow_the_challenge(heart):
    rows, summary = scored(heart, CALCIUM, Postprocess(method="calcium"))
    row = rows.loc["heart"]
    assert row[["lesions_tp", "lesions_fp", "lesions_fn"]].tolist() == [1, 0, 1]
    # the one voxel claims its whole candidate of 9
    assert row["volume_tp_mm3"] == pytest.approx(9 * VOXEL_MM3)
    assert row["sensitivity_volume"] == pytest.approx(9 / 17)
    assert row["ppv_volume"] == 1
    assert (row["sensitivity_lesions_LAD"], row["sensitivity_lesions_RCA"]) == (1, 0)
    assert np.isnan(row["sensitivity_lesions_LCX"])
    area = 0.5 * 0.7
    assert row["agatston_reference_LAD"] == pytest.approx(9 * area * 2)
    assert row["agatston_reference_RCA"] == pytest.approx(8 * area * 4)
    assert row["agatston_prediction"] == pytest.approx(9 * area * 2)
    assert row["agatston_prediction_RCA"] == 0
    assert (row["risk_reference"], row["risk_prediction"]) == ("11-100", "1-10")
    pooled = summary["calcium"]["pooled"]
    assert pooled["f1_volume"] == pytest.approx(2 * (9 / 17) / (9 / 17 + 1))
    assert summary["calcium"]["pooled_by_artery"]["RCA"]["sensitivity_volume"] == 0
    assert summary["calcium"]["pooled_by_artery"]["LCX"]["sensitivity_volume"] is None
    assert summary["calcium"]["agatston"]["same_risk"] == 0


def test_before_postprocessing_voxels_count_and_the_threshold_alone_finds_the_rib_too(heart):
    _, summary = scored(heart, CALCIUM, Postprocess(method="calcium"))
    raw, alone = (summary["calcium"][name] for name in ("pooled_raw", "threshold_alone"))
    assert raw["sensitivity"] == pytest.approx(1 / 17)
    assert raw["ppv"] == pytest.approx(1 / 2)
    assert raw["voe"] == pytest.approx(1 / 17)
    assert alone["pooled"]["sensitivity_lesions"] == 1
    assert alone["pooled"]["ppv_lesions"] == pytest.approx(2 / 3)
    assert alone["dice"] == pytest.approx(2 * 17 / (17 + 17 + 6 * 4 * 20))


def test_the_written_file_is_what_is_scored_and_another_grid_refused(head):
    scored(head, subsets=(1, 2))
    path = head.layout.mask("unetpp", 1, "half", ".nii.gz")
    geometry, note = read_volume(path).geometry, mask_note(path, "half")

    def scored_on(geometry):
        """As if postprocess had written an empty mask on this grid."""
        write_volume(path, np.zeros(SHAPE, np.uint8), geometry)
        write_json(note, {**read_json(note), "sha256": file_digest(path)})
        evaluate(head.layout, "unetpp", (1, 2), VOXEL, PLAIN, seed=0, threads=2)
        return pd.read_csv(head.layout.scores("unetpp"), index_col="case")

    assert scored_on(geometry).loc["half", "predicted_voxels"] == 0
    with pytest.raises(PipelineError, match=r"case half: mask .*origin.*run postprocess again"):
        scored_on(type(geometry)(SHAPE, geometry.spacing))


def test_another_case_s_mask_of_an_older_time_is_refused_until_it_is_made_again(head):
    before, _ = scored(head, subsets=(1, 2))
    path = head.layout.mask("unetpp", 2, "extra", ".nii.gz")
    noted = file_digest(path)
    shutil.copy(head.layout.mask("unetpp", 2, "none", ".nii.gz"), path)
    os.utime(path, (1_577_836_800, 1_577_836_800))
    assert changed_results(head.layout) == [], "its time is that of a mask made earlier"
    message = (
        f"case extra: mask {path} is not as postprocess wrote it, found SHA-256 "
        f"{file_digest(path)}, expected {noted} in extra.json; delete the mask and run again"
    )
    with pytest.raises(PipelineError, match=f"^{re.escape(message)}"):
        evaluate(head.layout, "unetpp", (1, 2), VOXEL, Postprocess(), seed=0, threads=2)
    path.unlink()
    (change,) = changed_results(head.layout)
    assert change.manifest == head.layout.masks("unetpp", 2)
    again, _ = scored(head, subsets=(1, 2))
    pd.testing.assert_frame_equal(again, before)


def test_no_labelled_test_case_is_one_line(results_tree):
    results_tree.add_case("unseen", np.zeros(SHAPE, np.int16))
    results_tree.write_split([[]])
    with pytest.raises(PipelineError, match=r"^[^\n]*no labelled test case[^\n]*$"):
        evaluate(results_tree.layout, "unetpp", (1,), VOXEL, PLAIN, seed=0, threads=1)


def test_threads_do_not_change_the_result(head):
    rows, summary = scored(head, subsets=(1, 2), threads=1)
    other_rows, other_summary = scored(head, subsets=(1, 2), threads=3)
    pd.testing.assert_frame_equal(other_rows, rows)
    assert other_summary == summary


def test_every_column_is_documented(heart):
    rows, _ = scored(heart, CALCIUM, Postprocess(method="calcium"))
    text = (Path(__file__).parents[2] / "docs" / "reference" / "metrics.md").read_text("utf-8")
    documented = set(re.findall(r"`(\w+)`", text))
    plain = {re.sub(r"^(raw|threshold)_|_(LCX|RCA)$", "", name) for name in rows.columns}
    plain = {
        name if f"{name}_LAD" not in documented or name in documented else f"{name}_LAD"
        for name in plain
    }
    assert plain - documented == set()
