"""The patients that a table counts, where experiments run on other subsets than they share."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from pipeline.cli.job import open_job, recorded
from pipeline.orchestration.record_writer import Inputs, JobDescription
from pipeline.orchestration.record_writer import recorded as recorded_work
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.tools.trace.patients import is_about_its_case
from tests.pipeline.tools.calls import stage, trace

SHAPE = (4, 16, 16)
TESTS = {1: ["one", "two", "healthy"], 2: ["far"]}
RUNS_ON = {"wide": (1, 2), "near": (1,)}
ROWS = [{"labels": [name], "experiment": name} for name in RUNS_ON]
CONFIG = {
    "resources": {"threads": 1},
    "datasets": {
        "tiny": {
            "source": {"adapter": "orcascore", "root": "images"},
            "slices": {"size": [32, 32], "window": [0, 1]},
            "split": {"subsets": 2},
            "experiments": {"wide": {"model": "unet"}, "near": {"model": "unet", "subsets": [1]}},
            "evaluation": {"bootstrap_samples": 100},
            "tables": {
                "shared": {"title": "t", "headings": ["h"], "columns": ["recall"], "rows": ROWS},
                "all": {"title": "t", "headings": ["h"], "columns": ["recall"], "rows": ROWS[:1]},
            },
        }
    },
}


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
            stage("postprocess", "--experiment", name, "--subset", subset, dataset="tiny")
        for name in RUNS_ON:
            stage("evaluate", "--experiment", name, dataset="tiny")
        stage("compare", dataset="tiny")
        for table in CONFIG["datasets"]["tiny"]["tables"]:
            stage("tabulate", "--table", table, dataset="tiny")
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


@pytest.mark.parametrize("table", ["compare", "shared"])
@pytest.mark.parametrize("case", ["far", "unseen"])
def test_a_case_that_the_table_does_not_count_is_refused(layout, table, case):
    file = layout.table(".csv") if table == "compare" else layout.chosen_table(table, ".csv")
    # also where the row that has fewer subsets is not followed
    for options in ([], ["--experiment", "wide"]):
        code, error = trace(file, "--case", case, *options)
        assert code == 1
        assert f"has nothing of a case {case!r}" in error
    code, told = trace(file, "--case", "one")
    assert code == 0, told


def test_a_case_of_any_subset_is_followed_where_the_table_counts_it(layout):
    code, told = trace(layout.chosen_table("all", ".csv"), "--case", "far")
    assert code == 0, told
    assert "wide/subset-2/far" in told
    assert "subset-1" not in told
    assert trace(layout.scores("wide"), "--case", "far")[0] == 0
    assert trace(layout.scores("wide"), "--case", "unseen")[0] == 1


def test_a_report_shows_the_unlabelled_but_no_healthy_scan(layout):
    def step(stage, **content):
        raw = [SimpleNamespace(case="unseen")]
        return SimpleNamespace(content={"stage": stage, "dataset": "tiny", **content}, raw=raw)

    written = layout.scores("wide").relative_to(layout.root)
    first = step("report")
    steps = {1: first, 2: step("predict"), 3: step("evaluate", written=written)}
    chain = SimpleNamespace(root=layout.root, first=first, steps=steps, case="unseen")
    assert is_about_its_case(chain)
    write_json(layout.split, {**read_json(layout.split), "unlabelled": []})
    assert not is_about_its_case(chain)
