"""Repeats: patients' means over them, each repeat's own, and their spread, worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest

from grcsf.statistics import bootstrap_interval
from pipeline.compare import compare
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.evaluation.patient_scores import patient_means
from pipeline.evaluation.report_parts import repeat_table
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.summary import summarise
from pipeline.postprocess import postprocess
from pipeline.settings import Evaluation, Postprocess
from pipeline.storage.files import read_json, write_json

SHAPE = (4, 16, 16)
VOXEL = Evaluation(baseline="unet", bootstrap_samples=200)
CALCIUM = Evaluation(metrics="calcium", bootstrap_samples=200)
PLAIN = Postprocess()
# columns of the lesion that a repeat predicts, of 8, by patient; the last has no lesion, in which
# one repeat sees one
FOUND = {1: {"a": 8, "b": 4, "c": 0}, 2: {"a": 6, "b": 2, "c": 4}}
DICE = {1: {"a": 1, "b": 2 / 3, "c": 1}, 2: {"a": 6 / 7, "b": 0.4, "c": 0}}
PATIENTS = {"a": (1 + 6 / 7) / 2, "b": (2 / 3 + 0.4) / 2, "c": 0.5}


def trained(tree, box, name, found):
    """A network whose masks hold so many columns of each patient's lesion."""
    tree.add_predictions(
        name,
        1,
        {case: box(SHAPE, (1, 3), (4, 8), (4, 4 + until)) * 0.9 for case, until in found.items()},
    )
    postprocess(tree.layout, name, 1, PLAIN)


@pytest.fixture
def repeated(results_tree, box):
    """`unet` once, `grcsf` twice, on three patients."""
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 12))
    image = np.where(lesion, 300, 20).astype(np.int16)
    for case in FOUND[1]:
        results_tree.add_case(case, image, (lesion * (case != "c")).astype(np.uint8))
    results_tree.write_split([["a", "b", "c"]])
    for name, found in (("unet", 2), ("grcsf", 1), ("grcsf/repeat-2", 2)):
        trained(results_tree, box, name, FOUND[found])
    for name, repeats in (("unet", 1), ("grcsf", 2)):
        results_tree.add_model(name, 1, 1_000_000)
        scored(results_tree, name, repeats)
    return results_tree


def scored(tree, name, repeats, evaluation=VOXEL, settings=PLAIN):
    evaluate(tree.layout, name, (1,), evaluation, settings, 0, 1, repeats)
    return read_json(tree.layout.summary(name))


def test_a_row_is_of_a_repeat_and_a_patient_s_value_is_the_mean_of_the_defined(repeated):
    rows = pd.read_csv(repeated.layout.scores("grcsf"))
    assert list(rows)[:4] == ["case", "group", "subset", "repeat"]
    assert rows[["repeat", "case"]].to_numpy().tolist() == [
        [repeat, case] for repeat in (1, 2) for case in "abc"
    ]
    assert rows["dice"].tolist() == pytest.approx([*DICE[1].values(), *DICE[2].values()])
    means = read_scores(repeated.layout, "grcsf", (1,))
    assert means["dice"].to_dict() == pytest.approx(PATIENTS)
    # without a lesion, recall is 1 of the empty mask and undefined of the other
    assert means["recall"].to_dict() == pytest.approx({"a": 7 / 8, "b": 3 / 8, "c": 1})
    assert means["reference_voxels"].tolist() == [64, 64, 0]
    second = read_scores(repeated.layout, "grcsf", (1,), repeat=2)
    assert second["dice"].to_dict() == pytest.approx(DICE[2])
    assert math.isnan(second.loc["c", "recall"])


def test_mean_and_interval_are_of_patients_and_the_deviation_of_repeats(repeated):
    summary = read_json(repeated.layout.summary("grcsf"))
    assert (summary["patients"], summary["repeats"]) == (3, 2)
    dice, values = summary["scores"]["dice"], list(PATIENTS.values())
    own = {str(repeat): np.mean(list(each.values())) for repeat, each in DICE.items()}
    assert dice["mean"] == pytest.approx(np.mean(values))
    assert (dice["low"], dice["high"]) == pytest.approx(
        bootstrap_interval(values, seed=0, resamples=200)
    )
    assert dice["by_subset"] == {"1": pytest.approx(np.mean(values))}
    assert dice["by_repeat"] == pytest.approx(own)
    assert dice["sd_over_repeats"] == pytest.approx(abs(own["1"] - own["2"]) / math.sqrt(2))
    # of the second repeat two patients have a recall; none is undefined in all repeats
    recall = summary["scores"]["recall"]
    assert recall["by_repeat"] == pytest.approx({"1": (1 + 0.5 + 1) / 3, "2": (0.75 + 0.25) / 2})
    assert recall["mean"] == pytest.approx((7 / 8 + 3 / 8 + 1) / 3)
    assert recall["undefined"] == 0
    assert summary["by_lesion_size"]["1-100"]["dice"] == pytest.approx(np.mean(values[:2]))
    assert summary["by_lesion_size"]["1-100"]["patients"] == 2


def test_over_folds_each_repeat_s_mean_is_that_of_all_patients_too(repeated):
    rows = pd.read_csv(repeated.layout.scores("grcsf"), keep_default_na=True)
    rows["subset"] = rows["case"].map({"a": 1, "b": 2, "c": 2})
    rows["group"] = ""
    given = rows.to_dict("records")
    dice = summarise(given, VOXEL, 0, threshold_hu=130, folds=True)["scores"]["dice"]
    own = {str(repeat): np.mean(list(each.values())) for repeat, each in DICE.items()}
    assert dice["by_repeat"] == pytest.approx(own)
    assert dice["mean"] == pytest.approx(np.mean(list(PATIENTS.values())))
    assert dice["by_subset"]["2"] == pytest.approx((PATIENTS["b"] + PATIENTS["c"]) / 2)


def test_an_experiment_that_is_not_repeated_has_no_word_of_it(repeated):
    summary = read_json(repeated.layout.summary("unet"))
    assert "repeat" not in repeated.layout.scores("unet").read_text("utf-8")
    assert "repeat" not in repeated.layout.summary("unet").read_text("utf-8")
    assert summary["scores"]["dice"]["mean"] == pytest.approx(np.mean(list(DICE[2].values())))


def test_tables_show_both_spreads_and_tests_pair_patients(repeated):
    layout, names = repeated.layout, ["unet", "grcsf"]
    compare(layout, names, (1,), VOXEL, seed=0)
    text = layout.table(".md").read_text("utf-8")
    numbers = pd.read_csv(layout.table(".csv"), index_col="experiment")
    row = numbers.loc["grcsf"]
    assert numbers["repeats"].to_dict() == {"unet": 1, "grcsf": 2}
    assert row["dice_sd"] == pytest.approx((8 / 3 - 6 / 7 - 0.4) / 3 / math.sqrt(2))
    interval = f"[{row['dice_low']:.2f}, {row['dice_high']:.2f}]"
    assert f"**{row['dice']:.3f}** ± {row['dice_sd']:.3f} {interval}" in text
    assert "differ by their seed alone: grcsf 2; no other has any." in text
    assert "±" not in next(line for line in text.splitlines() if line.startswith("| unet"))
    assert row["dice_pairs"] == 3
    expected = np.mean(list(PATIENTS.values())) - np.mean(list(DICE[2].values()))
    assert row["dice_difference"] == pytest.approx(expected)
    summaries = {name: read_summary(layout, name, VOXEL, 0, (1,)) for name in names}
    ((name, first, second, deviation),) = repeat_table(summaries).rows
    assert (name, first, second) == ("grcsf", "0.889", "0.419")
    assert deviation == f"{row['dice_sd']:.3f}"
    # without repeats, neither note nor column
    compare(layout, ["unet"], (1,), VOXEL, seed=0)
    assert "±" not in layout.table(".md").read_text("utf-8")
    assert "repeat" not in layout.table(".csv").read_text("utf-8")
    assert repeat_table({"unet": summaries["unet"]}) is None


def test_fewer_labelled_cases_are_told_below_the_table(repeated):
    layout = repeated.layout
    few = {"parameters": 1, "settings": {"experiment": {"labelled_cases": 20}}}
    write_json(layout.model("unet", 1), few)
    compare(layout, ["unet", "grcsf"], (1,), VOXEL, seed=0)
    text = layout.table(".md").read_text("utf-8")
    assert "fewer labelled cases of each subset, validation among them: unet 20." in text


def test_a_repeat_without_its_masks_is_named(repeated):
    with pytest.raises(PipelineError, match="repeat-3"):
        scored(repeated, "grcsf", 3)


def calcium_rows(tree):
    settings = Postprocess(method="calcium")
    for name in ("grcsf", "grcsf/repeat-2"):
        postprocess(tree.layout, name, 1, settings)
    summary = scored(tree, "grcsf", 2, CALCIUM, settings)
    rows = pd.read_csv(tree.layout.scores("grcsf"), dtype={"risk_prediction": str}, na_values=[])
    return summary, rows.to_dict("records")


def test_what_is_pooled_is_of_each_repeat_and_averaged(repeated):
    summary, rows = calcium_rows(repeated)
    each = [
        summarise([row for row in rows if row["repeat"] == n], CALCIUM, 0, threshold_hu=130)
        for n in (1, 2)
    ]
    calcium = summary["calcium"]
    for part, figure in (("pooled", "ppv_volume"), ("pooled_raw", "f1"), ("agatston", "bias")):
        values = [one["calcium"][part][figure] for one in each]
        assert calcium[part][figure] == pytest.approx(np.mean(values))
        spread = calcium["sd_over_repeats"][part][figure]
        assert spread == pytest.approx(np.std(values, ddof=1))
    # the candidate in c is claimed by the second repeat alone: 2 of 3 claims are true there
    assert calcium["pooled"]["ppv_lesions"] == pytest.approx((1 + 2 / 3) / 2)
    assert calcium["threshold_alone"] == each[0]["calcium"]["threshold_alone"]
    (patient,) = [
        row for row in patient_means(pd.DataFrame(rows)).to_dict("records") if row["case"] == "c"
    ]
    scores = [row["agatston_prediction"] for row in rows if row["case"] == "c"]
    assert scores[0] == 0 < scores[1]
    assert patient["agatston_prediction"] == pytest.approx(scores[1] / 2)
    assert patient["risk_prediction"] == "11-100"
