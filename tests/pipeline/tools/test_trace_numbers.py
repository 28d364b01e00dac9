"""A table's number and its patients, where experiments run on other subsets than they share."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cli.job import open_job, recorded
from pipeline.errors import PipelineError
from pipeline.orchestration.record_writer import Inputs, JobDescription
from pipeline.orchestration.record_writer import recorded as recorded_work
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.layout import Layout

SHAPE = (4, 16, 16)
TESTS = {1: ["one", "two", "healthy"], 2: ["far"]}
RUNS_ON = {"wide": (1, 2), "near": (1,)}
DICE_ALONE = {name: {"columns": ["dice"]} for name in ("shared", "all")}
CALCIUM = {"datasets": {"tiny": {"evaluation": {"metrics": "calcium"}, "tables": DICE_ALONE}}}
ROWS = [{"labels": [name], "experiment": name} for name in RUNS_ON]
CONFIG = {
    "resources": {"threads": 1},
    "datasets": {
        "tiny": {
            "source": {"adapter": "orcascore", "root": "images"},
            "slices": {"size": [32, 32], "window": [0, 1]},
            "split": {"subsets": 2},
            "experiments": {
                "wide": {"model": "unet"},
                "near": {"model": "unet", "subsets": [1]},
            },
            "evaluation": {"bootstrap_samples": 100},
            "tables": {
                "shared": {"title": "t", "headings": ["h"], "columns": ["recall"], "rows": ROWS},
                "all": {"title": "t", "headings": ["h"], "columns": ["recall"], "rows": ROWS[:1]},
            },
        }
    },
}


def call(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(done.exception, PipelineError):
        return 1, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def stage(*arguments):
    code, told = call(*arguments, "--config", "config.yaml", "--dataset", "tiny")
    assert code == 0, told


def traced(file, *options):
    code, told = call("trace", file, "--json", *options)
    assert code == 0, told
    return {one["experiment"]: one for one in json.loads(told)["values"]}


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(results_tree_at, box, tmp_path_factory):
    """Scores and tables of predictions given as arrays, with the records of all jobs behind them.

    Each patient's lesion is found in part, another part of each; one has none.
    """
    folder = tmp_path_factory.mktemp("traced")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tree, found = results_tree_at(Path("results")), {}
        lesion = box(SHAPE, (1, 3), (4, 8), (4, 12))
        for number, case in enumerate([*TESTS[1], *TESTS[2]]):
            label = lesion * (case != "healthy")
            tree.add_case(case, np.full(SHAPE, 300, np.int16), label.astype(np.uint8))
            found[case] = box(SHAPE, (1, 3), (4, 8), (4, 5 + number)) * 1.0
        tree.add_case("unseen", np.zeros(SHAPE, np.int16))
        found["unseen"] = lesion * 0.0
        tree.write_split(list(TESTS.values()))
        ingested(tree.layout, list(found))
        job = open_job(Path("config.yaml"), "", "tiny")
        with recorded(job, "split"):
            pass
        for name, subset in (("wide", 1), ("wide", 2), ("near", 1)):
            with recorded(job, "train_segmentation", experiment=name, subset=subset):
                tree.add_model(name, subset, 1)
            with recorded(job, "predict", experiment=name, subset=subset):
                predicted(tree, name, subset, {case: found[case] for case in TESTS[subset]})
            stage("postprocess", "--experiment", name, "--subset", subset)
        for name in RUNS_ON:
            stage("evaluate", "--experiment", name)
        stage("compare")
        for table in CONFIG["datasets"]["tiny"]["tables"]:
            stage("tabulate", "--table", table)
    return folder


@pytest.fixture
def layout(finished, tmp_path, monkeypatch):
    """The layout of a copy, in the working directory."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return Layout(Path("results"), "tiny")


def predicted(tree, name, subset, found):
    found = {**found, "unseen": np.zeros(SHAPE)}
    tree.add_predictions(name, subset, found)
    manifest = tree.layout.predictions(name, subset)
    outputs = [f"subset-{subset}/{case}.zarr" for case in found]
    write_json(manifest, {**read_json(manifest), "outputs": outputs})


def ingested(layout, cases):
    raw = {case: Path("images") / f"{case}.mhd" for case in cases}
    for case, file in raw.items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(case)
    work = JobDescription("ingest", layout.dataset, {}, layout.root, [layout.cases], {}, 1, 1)
    digests = {case: {file: file_digest(file)} for case, file in raw.items()}
    with recorded_work(work, lambda: Inputs({}, digests)):
        pass


def test_the_patients_named_are_those_that_the_table_counts(layout):
    """On subset 1 alone, which both experiments share, though one was scored on both subsets."""
    assert len(rows(layout.scores("wide"))) == 4
    for table in (layout.table(".csv"), layout.chosen_table("shared", ".csv")):
        found = traced(table, "--metric", "recall")
        assert set(found) == set(RUNS_ON)
        for row in rows(table):
            one = found[row["experiment"]]
            assert len(one["patients"]) == int(row["patients"]) == 3
            assert list(one["patients"]) == TESTS[1]
            numbers = [float(number) for number in one["patients"].values()]
            assert np.nanmean(numbers) == pytest.approx(float(row["recall"]))
            assert one["undefined"] == 1
    # also where the row that has fewer subsets is not followed
    for table in (layout.table(".md"), layout.chosen_table("shared", ".md")):
        found = traced(table, "--metric", "recall", "--experiment", "wide")
        assert list(found["wide"]["patients"]) == TESTS[1]
    # the scores themselves are of all
    assert list(traced(layout.scores("wide"), "--metric", "recall")["wide"]["patients"]) == [
        *TESTS[1],
        *TESTS[2],
    ]


def test_what_the_number_is_made_of_is_said(layout):
    told = call("trace", layout.table(".md"), "--metric", "recall", "--experiment", "wide")[1]
    shown = rows(layout.table(".csv"))[0]["recall"]
    head = f"recall of wide = {shown}, over 3 patients (1 undefined), whose recall is"
    assert told.replace("\n    ", " ").startswith(f"{head}\n  one ")
    assert "  healthy nan\n" in told
    table = layout.chosen_table("all", ".md")
    told = call("trace", table, "--metric", "recall")[1].replace("\n    ", " ")
    assert "mean of the subsets' means, over 4 patients (1 undefined), whose recall is" in told
    assert "  far " in told
    assert " (subset 2)\n" in told
    value = traced(table, "--metric", "recall")["wide"]
    means = [
        np.nanmean([float(value["patients"][case]) for case in cases]) for cases in TESTS.values()
    ]
    assert np.mean(means) == pytest.approx(float(value["shown"]))
    assert "'dice', expected a score of" in call("trace", table, "--metric", "dice")[1]


@pytest.mark.parametrize("table", ["compare", "shared"])
@pytest.mark.parametrize("case", ["far", "unseen"])
def test_a_case_that_the_table_does_not_count_is_refused(layout, table, case):
    file = layout.table(".csv") if table == "compare" else layout.chosen_table(table, ".csv")
    for options in ([], ["--experiment", "wide"], ["--experiment", "wide", "--metric", "recall"]):
        code, error = call("trace", file, "--case", case, *options)
        assert code == 1
        assert f"has nothing of a case {case!r}" in error
    code, told = call("trace", file, "--case", "one")
    assert code == 0, told


def test_a_case_of_any_subset_is_followed_where_the_table_counts_it(layout):
    code, told = call("trace", layout.chosen_table("all", ".csv"), "--case", "far")
    assert code == 0, told
    assert "wide/subset-2/far" in told
    assert "subset-1" not in told
    assert call("trace", layout.scores("wide"), "--case", "far")[0] == 0
    assert call("trace", layout.scores("wide"), "--case", "unseen")[0] == 1


@pytest.mark.parametrize("metric", ["recall_low", "patients", "parameters", "lesion_f1", "x"])
def test_what_can_be_traced_is_told_for_another_column(layout, metric):
    code, error = call("trace", layout.table(".csv"), "--metric", metric)
    assert code == 1
    assert f"found {metric!r}, expected a score of " in error
    assert error.endswith("that patients have: dice, iou, precision, recall, voe, fpr_percent")


def test_scores_of_other_patients_than_the_table_s_are_refused(layout):
    scores = layout.scores("wide")
    scores.write_text("".join(scores.read_text().splitlines(keepends=True)[:3]))
    code, error = call("trace", layout.table(".csv"), "--metric", "recall")
    assert code == 1
    assert "has 2 patients of the table's subsets, expected the 3 of" in error
    assert "run compare again" in error
    scores.write_text("a,b\n1,2\n")
    error = call("trace", layout.table(".csv"), "--metric", "recall")[1]
    assert "wide.csv: damaged, expected a row a patient" in error


def test_counts_of_undefined_patients_enter_a_pooled_number(layout):
    for name in RUNS_ON:
        stage("evaluate", "--experiment", name, "--set", json.dumps(CALCIUM))
    stage("compare", "--set", json.dumps(CALCIUM))
    options = ["--metric", "before_sensitivity", "--experiment", "near"]
    told = call("trace", layout.table(".md"), *options)[1].replace("\n    ", " ")
    assert ", from the counts of 3 patients, whose raw_recall is (1 undefined)\n" in told
