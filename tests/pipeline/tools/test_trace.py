"""From a number back to the raw files, in a tiny project that has really run."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.cli import trace as command
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.layout import is_record, record_of
from tests.pipeline.tools.calls import STAGES, flat, stage, trace

pytestmark = pytest.mark.slow


def test_every_result_has_its_record(results):
    written = list(results.root.rglob("*.provenance.json"))
    assert len(written) == len(STAGES)
    assert all(is_record(path) for path in written)
    assert record_of(results.cases) in written
    assert record_of(results.table(".md")) in written


def test_the_chain_of_a_table_ends_at_the_raw_files(results):
    code, output = trace(results.table(".csv"))
    assert code == 0, output
    lines = output.splitlines()
    depths = {line.split()[0]: len(line) - len(line.lstrip()) for line in reversed(lines) if line}
    order = ["compare", "evaluate", "postprocess", "predict", "train_segmentation"]
    order += ["residual_maps", "train_mae", "split", "ingest"]
    assert [depths[name] for name in order] == list(range(0, 2 * len(order), 2))
    for image in Path("images").rglob("*.mhd"):
        if "CTAI" not in image.name:
            assert f"../{image} as recorded, SHA-256 {file_digest(image)}" in flat(output)
    assert lines[-1].endswith("files are there, as recorded")
    # a path or digest is whole, and all fits a terminal
    assert max(map(len, lines)) < 80


def test_a_case_leads_to_its_mask_its_stores_and_its_raw_files(results):
    case = read_json(results.split)["subsets"]["1"]["test"][0]
    code, told = trace(results.scores("grcsf"), "--case", case)
    assert code == 0, told
    records = json.loads(trace(results.scores("grcsf"), "--case", case, "--json")[1])
    steps = {step["stage"]: step for step in records["steps"].values()}
    made = {link["file"] for link in steps["postprocess"]["results"]}
    mask = f"heart/postprocess/grcsf/subset-1/{case}.mha"
    assert made == {"heart/postprocess/grcsf/subset-1.json", mask}
    raw = {link["case"] for link in steps["ingest"]["raw"]}
    assert len(raw) > 1
    assert [one for one in raw if f" {one}:" in told] == [case]
    assert "raw files of other cases: as recorded" in told
    # a mask is of one case by itself
    assert trace(results.root / mask)[1].splitlines()[0].startswith("postprocess heart")
    assert "raw files of other cases" in trace(results.root / mask)[1]


@pytest.mark.parametrize(
    ("file", "first"),
    [
        ("train_mae/shared/model.safetensors", "train_mae heart mae shared"),
        (
            "residual_maps/mrm/{case}.zarr/residual/c/0/0/0/0",
            "residual_maps heart residuals mrm batch",
        ),
        ("predict/plain/subset-1/{test}.zarr", "predict heart experiment plain subset 1"),
        ("ingest/{case}.zarr", "ingest heart"),
        ("split/split.json", "split heart"),
    ],
)
def test_any_result_may_be_asked_about(results, file, first):
    case = next(iter(read_json(results.cases)["cases"]))
    test = read_json(results.split)["subsets"]["1"]["test"][0]
    code, output = trace(results.root / "heart" / file.format(case=case, test=test))
    assert code == 0, output
    assert output.startswith(first)


def test_a_stage_that_finds_all_made_keeps_the_seconds_of_the_work(results):
    before = read_json(record_of(results.mae("shared")))
    ((began, run),) = before["runs"].items()
    stage("train-mae", "--mae", "shared")
    after = read_json(record_of(results.mae("shared")))
    assert after["runs"][began] == run
    assert after["results"]["shared/model.safetensors"]["run"] == began
    code, output = trace(results.mae("shared"))
    assert code == 0
    assert f"{run['seconds']:.1f} s" in output


def test_what_is_compared_is_shown_on_a_terminal_alone(results, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stderr, shown in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(command, "sys", SimpleNamespace(stderr=stderr))
        assert trace(results.split)[0] == 0
        assert ("comparing heart/split/split.json" in stderr.getvalue()) == shown
        assert stderr.getvalue().endswith("\r\033[K" * shown)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["gone.csv"], "gone.csv: not there"),
        (["config.yaml"], "config.yaml: no record tells of it"),
        (["results/heart/logs/ingest.log"], "no record is kept of logs/"),
        (["results/heart/benchmarks/ingest.tsv"], "name one of heart/, such as compare/table.md"),
        (["results/heart/split/split.provenance.json"], "name the one beside it, split.json"),
        (["results/heart/compare/table.csv", "--case", "nobody"], "nothing of a case 'nobody'"),
        (["results/heart/compare/table.csv", "--experiment", "x"], "has nothing of 'x'"),
    ],
)
@pytest.mark.usefixtures("results")
def test_faults_are_one_line(options, told):
    for file in ("logs/ingest.log", "benchmarks/ingest.tsv"):
        path = Path("results/heart") / file
        path.parent.mkdir()
        path.touch()
    code, error = trace(*options)
    assert code == 1
    assert told in error
    assert "\n" not in error.strip()


def test_a_training_case_in_a_table_and_another_than_the_mask_s_are_refused(results):
    roles = read_json(results.split)["subsets"]["1"]
    trained, (case, other) = roles["train"][0], roles["test"]
    code, error = trace(results.table(".csv"), "--case", trained)
    assert code == 1
    assert f"nothing of a case {trained!r}" in error
    code, error = trace(results.mask("plain", 1, case, ".mha"), "--case", other)
    assert code == 1
    assert f"--case: found {other!r}, but " in error
    assert f"is of {case!r}" in error
