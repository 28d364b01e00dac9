"""From a number back to the raw files, in a tiny project that has really run."""

import json
from pathlib import Path

import pytest

from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import is_record, record_of
from tests.pipeline.tools.calls import STAGES, flat, stage, trace

pytestmark = pytest.mark.slow


def test_every_result_has_its_record(untouched):
    written = list(untouched.root.rglob("*.provenance.json"))
    assert len(written) == len(STAGES)
    assert all(is_record(path) for path in written)
    assert record_of(untouched.cases) in written
    assert record_of(untouched.table(".md")) in written


def test_the_chain_of_a_table_ends_at_the_raw_files(untouched):
    code, output = trace(untouched.table(".csv"))
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


def test_a_case_leads_to_its_mask_its_stores_and_its_raw_files(untouched):
    case = read_json(untouched.split)["subsets"]["1"]["test"][0]
    code, told = trace(untouched.scores("grcsf"), "--case", case)
    assert code == 0, told
    records = json.loads(trace(untouched.scores("grcsf"), "--case", case, "--json")[1])
    steps = {step["stage"]: step for step in records["steps"].values()}
    made = {link["file"] for link in steps["postprocess"]["results"]}
    mask = f"heart/postprocess/grcsf/subset-1/{case}.mha"
    assert made == {"heart/postprocess/grcsf/subset-1.json", mask}
    raw = {link["case"] for link in steps["ingest"]["raw"]}
    assert len(raw) > 1
    assert [one for one in raw if f" {one}:" in told] == [case]
    assert "raw files of other cases: as recorded" in told
    # a mask is of one case by itself
    assert "raw files of other cases" in trace(untouched.root / mask)[1]


def test_any_result_may_be_asked_about(untouched):
    case = next(iter(read_json(untouched.cases)["cases"]))
    test = read_json(untouched.split)["subsets"]["1"]["test"][0]
    shard = f"{case}.zarr/residual/c/0/0/0/0"
    for file, first in (
        ("train_mae/shared/model.safetensors", "train_mae heart mae shared"),
        (f"residual_maps/mrm/{shard}", "residual_maps heart residuals mrm batch"),
        (f"predict/plain/subset-1/{test}.zarr", "predict heart experiment plain subset 1"),
        (f"ingest/{case}.zarr", "ingest heart"),
    ):
        code, output = trace(untouched.root / "heart" / file)
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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["gone.csv"], "gone.csv: not there"),
        (["results/heart/logs/ingest.log"], "no record is kept of logs/"),
        (["results/heart/split/split.provenance.json"], "name the one beside it, split.json"),
        (["results/heart/compare/table.csv", "--case", "nobody"], "nothing of a case 'nobody'"),
        (["results/heart/compare/table.csv", "--experiment", "x"], "has nothing of 'x'"),
    ],
)
@pytest.mark.usefixtures("untouched")
def test_faults_are_one_line(options, told):
    code, error = trace(*options)
    assert code == 1
    assert told in error
    assert "\n" not in error.strip()


def test_a_training_case_in_a_table_and_another_than_the_mask_s_are_refused(untouched):
    roles = read_json(untouched.split)["subsets"]["1"]
    trained, (case, other) = roles["train"][0], roles["test"]
    code, error = trace(untouched.table(".csv"), "--case", trained)
    assert code == 1
    assert f"nothing of a case {trained!r}" in error
    code, error = trace(untouched.mask("plain", 1, case, ".mha"), "--case", other)
    assert code == 1
    assert f"--case: found {other!r}, but " in error
    assert f"is of {case!r}" in error
