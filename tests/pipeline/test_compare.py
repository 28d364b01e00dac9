"""The comparison: the paper's columns, intervals, stars, and what is said below."""

import shutil

import numpy as np
import pandas as pd
import pytest

from pipeline.compare import compare
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.postprocess import postprocess
from pipeline.settings import Evaluation, Postprocess
from pipeline.storage.files import read_json, write_json
from tests.pipeline.results import ResultsTree

SHAPE = (4, 16, 16)
NAMES = ["unetpp", "grcsf"]
VOXEL = Evaluation(baseline="unetpp", bootstrap_samples=200)
CALCIUM = Evaluation(metrics="calcium", baseline="unetpp", bootstrap_samples=200)


def build(tree, box, evaluation, patients, *, empty=0, settings=Postprocess()):  # noqa: B008
    """UNet++ finds less and less of a lesion of 8 columns; GRCSF two columns more of it."""
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 12))
    image = np.where(lesion, 300, 20).astype(np.int16)
    image[0, 12:, :] = 900
    predictions = {name: {} for name in NAMES}
    for index in range(patients):
        case = f"{index:03}"
        label = lesion * (index >= empty)
        tree.add_case(case, image, label.astype(np.uint8))
        for extra, name in enumerate(NAMES):
            until = 5 + index % 5 + 2 * extra
            predictions[name][case] = box(SHAPE, (1, 3), (4, 8), (4, until)) * 1.0
    tree.write_split([sorted(predictions["unetpp"])])
    for name in NAMES:
        tree.add_predictions(name, 1, predictions[name])
        tree.add_model(name, 1, {"unetpp": 36_628_481, "grcsf": 42_848_113}[name])
        postprocess(tree.layout, name, 1, settings)
        evaluate(tree.layout, name, (1,), evaluation, settings, seed=0, threads=1)


def compared(tree, evaluation, names=NAMES):
    compare(tree.layout, list(names), (1,), evaluation, seed=0)
    text = tree.layout.table(".md").read_text("utf-8")
    return text, pd.read_csv(tree.layout.table(".csv"), index_col="experiment")


@pytest.fixture(scope="module")
def eight(tmp_path_factory, box):
    """Both experiments, scored for eight patients."""
    tree = ResultsTree(tmp_path_factory.mktemp("eight"))
    build(tree, box, VOXEL, 8)
    return tree


def test_table_has_the_papers_columns_and_parameters(eight):
    text, numbers = compared(eight, VOXEL)
    lines = text.splitlines()
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert cells == ["Method", "Dice", "IoU", "Precision", "Recall", "VOE", "FPR (%)", "Parameters"]
    assert [line.split("|")[1].strip() for line in lines[4:6]] == NAMES
    assert "36.63 M" in lines[4]
    scores = pd.read_csv(eight.layout.scores("grcsf"))
    assert numbers.loc["grcsf", "dice"] == pytest.approx(scores["dice"].mean())


def test_cells_show_interval_bold_best_and_star(eight):
    text, numbers = compared(eight, VOXEL)
    row = numbers.loc["grcsf"]
    # 8 pairs, all better: the smallest p there is
    assert row["dice_p"] == pytest.approx(2 / 2**8)
    wanted = f"**{row['dice']:.3f}**\\* [{row['dice_low']:.2f}, {row['dice_high']:.2f}]"
    assert wanted in text
    assert row["dice_low"] < row["dice"] < row["dice_high"]
    assert row["dice_difference"] == pytest.approx(row["dice"] - numbers.loc["unetpp", "dice"])
    assert "grcsf − unetpp, Dice: +" in text
    assert "8 test patients" in text


def test_too_few_patients_give_no_star_and_undefined_values_are_counted(results_tree, box):
    build(results_tree, box, VOXEL, 5, empty=1)
    text, numbers = compared(results_tree, VOXEL)
    assert numbers.loc["grcsf", "dice_p"] == pytest.approx(2 / 2**4)
    table = text.split("\n\n")[1]
    assert r"\*" not in table
    assert "With 4 patients that differ from unetpp, the smallest p" in text
    assert "grcsf: Recall and VOE undefined for 1 of 5 patients" in text
    assert numbers.loc["grcsf", "recall_undefined"] == 1
    assert numbers.loc["grcsf", "recall_pairs"] == 4


def test_calcium_table_has_both_halves_and_the_threshold_alone(results_tree, box):
    settings = Postprocess(method="calcium")
    build(results_tree, box, CALCIUM, 3, settings=settings)
    text, numbers = compared(results_tree, CALCIUM)
    heading = text.splitlines()[2]
    for title in ("F1 vol", "Sens lesion", "PPV lesion", "F1, before", "VOE, before", "Dice"):
        assert f" {title} " in heading
    alone = numbers.loc["HU threshold alone"]
    assert alone["pooled_sensitivity_volume"] == 1
    assert alone["dice"] == pytest.approx(2 * 64 / (2 * 64 + 64))
    # any part of the candidate claims all of it
    assert numbers.loc["unetpp", "pooled_f1_volume"] == 1
    assert numbers.loc["unetpp", "before_sensitivity"] == pytest.approx((1 + 2 + 3) / 24)
    assert "majority of labelled voxels" in text
    assert "risk group the same in 3 of 3 patients" in text


def test_scores_of_other_patients_or_none_are_refused(results_tree, box):
    build(results_tree, box, VOXEL, 3)
    path = results_tree.layout.scores("grcsf")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(PipelineError, match=r"other patients \(2\).*run evaluate again"):
        compared(results_tree, VOXEL)
    with pytest.raises(PipelineError, match=r"unet\.json: not there"):
        compared(results_tree, VOXEL, ["unetpp", "unet"])


def test_over_folds_means_and_differences_are_those_of_all_patients(tmp_path, box):
    tree = ResultsTree(tmp_path / "results")
    build(tree, box, VOXEL, 8)
    alone, numbers = compared(tree, VOXEL)
    cases = sorted(tree.cases)
    tree.write_split([cases[:1], cases[1:]])
    write_json(tree.layout.split, {**read_json(tree.layout.split), "folds": 2})
    for name in NAMES:
        predicted = tree.layout.stage("postprocess") / name
        shutil.copytree(predicted / "subset-1", predicted / "subset-2")
        shutil.copy(predicted / "subset-1.json", predicted / "subset-2.json")
        stores = tree.layout.stage("predict") / name
        shutil.copytree(stores / "subset-1", stores / "subset-2")
        evaluate(tree.layout, name, (1, 2), VOXEL, Postprocess(), seed=0, threads=1)
    compare(tree.layout, NAMES, (1, 2), VOXEL, seed=0)
    text = tree.layout.table(".md").read_text("utf-8")
    assert "Means over 8 test patients, each tested once in 2 folds, each over all" in text
    folds = pd.read_csv(tree.layout.table(".csv"), index_col="experiment")
    pd.testing.assert_frame_equal(folds, numbers)
    assert "subsets" not in text
    assert alone.splitlines()[2:6] == text.splitlines()[2:6]
