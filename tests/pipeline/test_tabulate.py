"""Tables of chosen experiments: shared subsets, published figures, bold within groups, costs."""

import numpy as np
import pandas as pd
import pytest

from pipeline.compare import compare
from pipeline.evaluate import evaluate
from pipeline.evaluation.comparison import best_two, emphasised
from pipeline.postprocess import postprocess
from pipeline.settings import Dataset, Postprocess, Settings, stage_settings
from pipeline.storage.zarr_store import write_store
from pipeline.tabulate import tabulate
from tests.pipeline.results import ResultsTree, rewrite_attributes

SHAPE = (4, 16, 16)
SUBSETS = {1: ["a", "b"], 2: ["c"]}
SECONDS = {"a": 1.0, "b": 4.0, "c": 100.0}


def dataset(**table) -> Dataset:
    rows = [
        {"labels": ["net", "plain"], "experiment": "unetpp", "published": {"dice": 0.4}},
        {"labels": ["net", "ours"], "experiment": "grcsf", "published": {"dice": 0.5}},
        {"labels": ["alone", "ours"], "experiment": "grcsf"},
    ]
    columns = ["dice", "recall", "parameters", "residual_seconds"]
    maps = [{"mae": "m", "mask_ratio": 0.5}] * 2
    grcsf = {"model": "grcsf", "residuals": "mrm", "subsets": [1]}
    grcsf["rcu"] = {"patch_sizes": [4, 4, 8]}
    chosen = {"title": "Parts", "headings": ["Part", "Method"], "columns": columns, "rows": rows}
    return Dataset.model_validate(
        {
            "source": {"adapter": "atlas", "root": "x"},
            "slices": {"size": [32, 32], "window": [0, 1]},
            "split": {"subsets": 2},
            "mae": {"m": {"preset": "tiny"}},
            "residuals": {"mrm": {"preset": "paper", "maps": maps}},
            "experiments": {"unetpp": {"model": "unetpp"}, "grcsf": grcsf},
            "evaluation": {"bootstrap_samples": 100, "baseline": "unetpp"},
            "tables": {"parts": {**chosen, **table}},
        }
    )


@pytest.fixture(scope="module")
def layout(tmp_path_factory, box):
    """UNet++ finds half of each lesion on two subsets, GRCSF all of it on the first."""
    tree = ResultsTree(tmp_path_factory.mktemp("tables") / "results")
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 12))
    half = box(SHAPE, (1, 3), (4, 8), (4, 8))
    for case in SECONDS:
        tree.add_case(case, np.zeros(SHAPE, np.int16), lesion.astype(np.uint8))
    tree.write_split(list(SUBSETS.values()))
    for case, seconds in SECONDS.items():
        store = tree.layout.residual_store("mrm", case)
        maps = np.zeros((2, 4, 16, 16), np.float16)
        write_store(store, {"residual": maps}, {"seconds": seconds}, slice_axis=1)
    for name, subsets, mask in (("unetpp", (1, 2), half), ("grcsf", (1,), lesion)):
        for subset in subsets:
            tree.add_predictions(name, subset, dict.fromkeys(SUBSETS[subset], mask * 1.0))
            tree.add_model(name, subset, {"unetpp": 36_628_481, "grcsf": 42_848_113}[name])
            postprocess(tree.layout, name, subset, Postprocess())
        evaluation = dataset().evaluation
        evaluate(tree.layout, name, subsets, evaluation, Postprocess(), seed=0, threads=1)
    for case, seconds in (("a", 1.0), ("b", 4.0)):
        rewrite_attributes(tree.layout.prediction_store("grcsf", 1, case), seconds=seconds)
    return tree.layout


def made(layout, chosen, macs=None):
    tabulate(layout, "parts", chosen, 0, macs)
    text = layout.chosen_table("parts", ".md").read_text("utf-8")
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()[2:7]
    ]
    return text, cells, pd.read_csv(layout.chosen_table("parts", ".csv"))


def test_rows_stand_in_the_given_shape_with_published_figures_beside_ours(layout):
    text, cells, numbers = made(layout, dataset())
    assert text.startswith("# Parts\n")
    assert cells[0][:4] == ["Part", "Method", "Dice", "Dice, published"]
    plain, ours, again = cells[2:]
    assert plain[:2] == ["net", "plain"]
    assert plain[2].startswith("0.667")
    assert plain[3:] == ["0.400", plain[4], "36.63 M", "–"]
    assert ours[5:] == ["42.85 M", "2.50"]
    assert again[3] == "–"
    assert numbers["dice"].tolist() == pytest.approx([2 / 3, 1, 1])
    assert numbers["dice_published"].tolist()[:2] == [0.4, 0.5]
    assert np.isnan(numbers["residual_seconds"][0])
    assert "Published figures" in text


def test_rows_count_only_the_subsets_that_all_of_them_have(layout):
    text, _, numbers = made(layout, dataset())
    assert set(numbers["patients"]) == {2}
    assert "the 2 test patients of subset 1 of 2" in text
    one_row = {"rows": [{"labels": ["a", "b"], "experiment": "unetpp"}]}
    text, _, numbers = made(layout, dataset(**one_row))
    assert set(numbers["patients"]) == {3}
    assert "within each of the subsets 1, 2 of 2, then over these subsets (3 test patients)" in text
    assert "Published" not in text


def test_the_comparison_of_all_experiments_keeps_to_shared_subsets_too(layout):
    chosen = dataset()
    assert chosen.shared_subsets == (1,)
    compare(layout, list(chosen.experiments), (1,), chosen.evaluation, seed=0)
    numbers = pd.read_csv(layout.table(".csv"), index_col="experiment")
    assert numbers["patients"].tolist() == [2, 2]


def test_bold_is_the_best_of_the_table_or_of_its_group(layout):
    _, cells, _ = made(layout, dataset())
    assert [row[2].startswith("**") for row in cells[2:]] == [False, True, True]
    assert [row[3] for row in cells[2:]] == ["0.400", "**0.500**", "–"]
    _, cells, _ = made(layout, dataset(best_within="Part"))
    assert [row[2].startswith("**") for row in cells[2:]] == [False, True, False]


@pytest.mark.parametrize(
    ("figures", "low", "expected"),
    [
        ([0.3, 0.1, None, 0.2], False, ("0.300", "0.200")),
        ([0.3, 0.1, None, 0.2], True, ("0.100", "0.200")),
        # Table 1's FPR: four are best, and two are second
        ([0.005, 0.01, 0.006, 0.005, 0.006], True, ("0.005", "0.006")),
        ([0.1, 0.2], False, ("0.200", "")),
        ([0.1, 0.1004], False, ("", "")),
        ([None], False, ("", "")),
    ],
)
def test_the_best_and_the_second_best_are_told_by_what_is_read(figures, low, expected):
    assert best_two(figures, low) == expected


def test_the_second_best_is_underlined():
    shown = [emphasised(one, ("0.300", "0.200")) for one in ("0.300", "0.200", "0.100", "")]
    assert shown == ["**0.300**", "<u>0.200</u>", "0.100", ""]


def test_costs_stand_beside_the_scores(layout):
    columns = ["dice", "macs", "residual_seconds", "network_seconds"]
    one = {"labels": ["net", "ours"], "experiment": "grcsf", "published": {"macs": 123.1e9}}
    rows = [one, {"labels": ["net", "plain"], "experiment": "unetpp"}]
    macs = {"grcsf": 116_490_000_000, "unetpp": 105_460_000_000}
    text, cells, _ = made(layout, dataset(columns=columns, rows=rows), macs)
    assert cells[0][3:5] == ["G MACs", "G MACs, published"]
    assert cells[2][3:] == ["116.49", "123.10", "2.50", "2.50"]
    # the predictions of UNet++ say nothing of their seconds
    assert cells[3][3:] == ["105.46", "–", "–", "–"]
    assert "Published ones were counted by thop" in text


def test_experiments_are_tested_against_the_baseline_that_is_a_row(layout):
    text, _, numbers = made(layout, dataset())
    assert numbers["dice_difference"].tolist()[1:] == pytest.approx([1 / 3, 1 / 3])
    assert "With 2 patients that differ from unetpp, the smallest p" in text
    assert "grcsf − unetpp, Dice: +0.333" in text
    alone = [{"labels": ["a", "b"], "experiment": "grcsf"}]
    text, _, numbers = made(layout, dataset(rows=alone))
    assert "dice_p" not in numbers
    assert "unetpp" not in text
    both = [{"labels": ["a", "b"], "experiment": name} for name in ("unetpp", "grcsf")]
    text, _, _ = made(layout, dataset(columns=["recall"], rows=both))
    assert "With 2 patients that differ" in text


def test_a_table_with_macs_depends_on_its_networks_shapes(layout):  # noqa: ARG001
    def seen(columns, **changed):
        chosen = dataset(columns=columns).model_dump()
        chosen["experiments"]["unetpp"] |= changed
        settings = Settings.model_validate({"datasets": {"d": chosen}})
        return stage_settings(settings, "tabulate", "d", "parts")

    assert seen(["dice", "macs"]) != seen(["dice", "macs"], width=32)
    assert seen(["dice"]) == seen(["dice"], width=32)
    assert seen(["dice", "macs"]) == seen(["dice", "macs"], training={"epochs": 3})
