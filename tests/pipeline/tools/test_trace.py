"""From a number back to the raw files, in a tiny project that has really run."""

import io
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.cli import trace as command
from pipeline.cli.job import log_lines
from pipeline.errors import PipelineError
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.layout import Layout, is_record, record_of

pytestmark = pytest.mark.slow
TRAINING = {"epochs": 1, "batch_size": 8, "warmup_epochs": 1, "lesion_free_fraction": 0.3}
MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
CONFIG = {
    "results": "results",
    "resources": {"threads": 1, "cases_per_job": 3},
    "datasets": {
        "heart": {
            "source": {"adapter": "orcascore", "root": "images"},
            "slices": {"size": [32, 32], "window": [-200, 800]},
            "split": {"test": 2, "validation": 1},
            "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}},
            "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
            "experiments": {
                "plain": {"model": "unet", "width": 2, "training": TRAINING},
                "grcsf": {
                    "model": "grcsf",
                    "residuals": "mrm",
                    "width": 4,
                    "rcu": {"patch_sizes": [4, 4, 8]},
                    "training": TRAINING,
                },
            },
            "postprocess": {"method": "calcium"},
            "evaluation": {"metrics": "calcium", "baseline": "plain", "bootstrap_samples": 100},
        }
    },
}
EXPERIMENTS = ("plain", "grcsf")
STAGES = [
    ["ingest"],
    ["split"],
    ["train-mae", "--mae", "shared"],
    *(["residual-maps", "--residuals", "mrm", "--batch", f"{n}of2"] for n in (1, 2)),
    *(
        [stage, "--experiment", name]
        for stage in ("train-segmentation", "predict", "postprocess", "evaluate")
        for name in EXPERIMENTS
    ),
    ["compare"],
]


def call(*arguments):
    done = CliRunner().invoke(app, [str(one) for one in arguments])
    if isinstance(done.exception, PipelineError):
        return 1, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.stdout


def trace(file, *options):
    return call("trace", file, *options)


def flat(told):
    """What was told without its line breaks."""
    return " ".join(told.split())


def stage(*arguments):
    code, told = call(*arguments, "--config", "config.yaml", "--dataset", "heart")
    assert code == 0, told


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("traced")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        log_lines()
        written = ["heart", "images", "--cases", 5, "--unlabelled", 1, "--seed", 3]
        code, told = call("phantom", *written, "--shape", 8, 32, 32)
        assert code == 0, told
        for one in STAGES:
            stage(*one)
    return folder


@pytest.fixture
def results(finished, tmp_path, monkeypatch):
    """The layout of a copy, in the working directory."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return Layout(Path("results"), "heart")


def test_every_result_has_its_record(results):
    written = list(results.root.rglob("*.provenance.json"))
    assert len(written) == len(STAGES)
    assert all(is_record(path) for path in written)
    assert record_of(results.cases) in written
    assert record_of(results.table(".md")) in written


def test_the_chain_of_a_table_ends_at_the_raw_files(results):
    code, told = trace(results.table(".csv"))
    assert code == 0, told
    lines = told.splitlines()
    depths = {line.split()[0]: len(line) - len(line.lstrip()) for line in reversed(lines) if line}
    order = ["compare", "evaluate", "postprocess", "predict", "train_segmentation"]
    order += ["residual_maps", "train_mae", "split", "ingest"]
    assert [depths[one] for one in order] == list(range(0, 2 * len(order), 2))
    for image in Path("images").rglob("*.mhd"):
        if "CTAI" not in image.name:
            assert f"../{image} as recorded, SHA-256 {file_digest(image)}" in flat(told)
    assert lines[-1].endswith("files are there, as recorded")
    # a path or digest is whole, and all fits a terminal
    assert max(map(len, lines)) < 80


def test_a_case_leads_to_its_mask_its_stores_and_its_raw_files(results):
    case = read_json(results.split)["subsets"]["1"]["test"][0]
    code, told = trace(results.scores("grcsf"), "--case", case)
    assert code == 0, told
    steps = {
        step["stage"]: step
        for step in json.loads(trace(results.scores("grcsf"), "--case", case, "--json")[1])[
            "steps"
        ].values()
    }
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
    code, told = trace(results.root / "heart" / file.format(case=case, test=test))
    assert code == 0, told
    assert told.startswith(first)


def test_a_raw_file_that_was_edited_afterwards_is_told(results):
    image = sorted(Path("images").rglob("TRV*CTI.*raw"))[0]
    whole = image.read_bytes()
    image.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    code, told = trace(results.table(".csv"))
    assert code == 1
    assert f"  ../{image}: differs" in told.splitlines()
    assert f"../{image} differs, SHA-256" in flat(told)
    image.unlink()
    code, told = trace(results.table(".csv"))
    assert code == 1
    assert f"  ../{image}: gone" in told.splitlines()
    image.write_bytes(whole)
    assert trace(results.table(".csv"))[0] == 0


def test_a_changed_mask_store_or_model_is_told(results):
    test = read_json(results.split)["subsets"]["1"]["test"][0]
    mask = results.mask("grcsf", 1, test, ".mha")
    shard = results.residual_store("mrm", test) / "residual" / "c" / "0" / "0" / "0" / "0"
    model = results.model("plain", 1).with_suffix("") / "model.safetensors"
    for path in (mask, shard, model):
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    code, told = trace(results.table(".csv"))
    assert code == 1
    store = results.residual_store("mrm", test)
    changed = [path.relative_to(results.root) for path in (mask, store, model)]
    assert {f"  {path}: differs" for path in changed} == set(
        told.split("recorded:\n")[1].splitlines()
    )
    # nothing is read that is large: all of it is there
    code, told = trace(results.table(".csv"), "--quick")
    assert code == 0, told
    assert "of them were not read (--quick)" in told


def test_scores_of_masks_made_since_are_told(results):
    """A result that was made from other files than lie there now."""
    stage("postprocess", "--experiment", "plain", "--set", json.dumps(other_threshold()))
    code, told = trace(results.table(".csv"))
    assert code == 1
    assert "! heart/postprocess/plain/subset-1.json, which it read: differs" in flat(told)
    stage("evaluate", "--experiment", "plain")
    assert "evaluate/plain.csv, which it read: differs" in flat(trace(results.table(".csv"))[1])
    stage("compare")
    assert trace(results.table(".csv"))[0] == 0


def other_threshold():
    return {"datasets": {"heart": {"postprocess": {"probability": 0.999}}}}


def test_a_stage_that_finds_all_made_keeps_the_seconds_of_the_work(results):
    before = read_json(record_of(results.mae("shared")))
    ((began, run),) = before["runs"].items()
    stage("train-mae", "--mae", "shared")
    after = read_json(record_of(results.mae("shared")))
    assert after["runs"][began] == run
    assert after["results"]["shared/model.safetensors"]["run"] == began
    code, told = trace(results.mae("shared"))
    assert code == 0
    assert f"{run['seconds']:.1f} s" in told


def test_a_result_without_record_ends_the_chain(results):
    record_of(results.masks("grcsf", 1)).unlink()
    code, told = trace(results.table(".csv"))
    assert code == 1
    assert "! heart/postprocess/grcsf/subset-1.json, which it read: no record" in flat(told)


def test_a_record_of_another_format_is_none_and_told_once(results):
    record = record_of(results.cases)
    write_json(record, {**read_json(record), "format": 2})
    code, told = trace(results.table(".csv"))
    assert code == 1
    assert told.splitlines().count("  heart/ingest/manifest.json: no record") == 1
    assert told.count("1 of ") == 1
    code, error = trace(results.cases)
    assert code == 1
    assert "its record manifest.provenance.json has format 2, expected 1; run its stage" in error


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: record.pop("results"),
        lambda record: record.update(runs={}),
        lambda record: record["results"].update({"split.json": {}}),
        lambda record: next(iter(record["runs"].values())).pop("inputs"),
    ],
)
def test_a_damaged_record_is_one_line_and_replaced_by_the_next_run(results, damage):
    record = record_of(results.split)
    content = read_json(record)
    damage(content)
    write_json(record, content)
    for file in (results.split, results.table(".csv")):
        code, error = trace(file)
        assert code == 1
        assert f"{record}: damaged, found no whole '" in error
        assert "delete the record and run its stage again" in error
    stage("split")
    assert trace(results.split)[0] == 0


@pytest.mark.parametrize(
    "file",
    [
        "train_mae/shared/history.csv",
        "train_segmentation/plain/subset-1/checkpoints/last.ckpt",
        "postprocess/plain/subset-1/OLDCASE.mha",
        "predict/plain/subset-1/gone.zarr",
        "ingest/{case}.zarr/image/notes.txt",
    ],
)
def test_a_file_that_no_record_lists_is_not_said_to_be_as_recorded(results, file):
    """Nobody knows what it was when its job had ended."""
    case = next(iter(read_json(results.cases)["cases"]))
    path = results.root / "heart" / file.format(case=case)
    if path.name == "last.ckpt" or not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text("anything")
    told_as = path.relative_to(results.root)
    for options in ([], ["--quick"]):
        code, told = trace(path, *options)
        assert code == 1
        assert f"{told_as} no record of its content" in flat(told.partition("\n\n")[0])
        assert told.splitlines()[-1] == f"  {told_as}: no record of its content"
    assert trace(results.table(".csv"))[0] == 0


def test_a_phantom_s_file_is_compared_with_what_was_ingested(results):
    folder = results.phantom_truth.parent
    written = ["heart", folder, "--cases", 5, "--unlabelled", 1, "--seed", 3]
    assert call("phantom", *written, "--shape", 8, 32, 32)[0] == 0
    image = sorted(folder.rglob("TRV*CTI.*raw"))[0]
    assert trace(image)[0] == 1
    source = {"adapter": "orcascore", "root": str(folder)}
    stage("ingest", "--set", json.dumps({"datasets": {"heart": {"source": source}}}))
    code, told = trace(image)
    assert code == 0, told
    assert f"{image.relative_to(results.root)} as recorded" in flat(told)
    assert trace(results.phantom_truth)[0] == 0
    whole = image.read_bytes()
    image.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    code, told = trace(image)
    assert code == 1
    assert told.splitlines()[-1] == f"  {image.relative_to(results.root)}: differs"
    beside = folder / "unrelated.txt"
    beside.write_text("x")
    code, told = trace(beside)
    assert code == 1
    assert told.endswith("unrelated.txt: no record of its content\n")


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


def test_a_training_case_is_in_no_table(results):
    case = read_json(results.split)["subsets"]["1"]["train"][0]
    code, error = trace(results.table(".csv"), "--case", case)
    assert code == 1
    assert f"nothing of a case {case!r}" in error


def test_another_case_than_the_mask_s_is_refused(results):
    one, other = read_json(results.split)["subsets"]["1"]["test"]
    code, error = trace(results.mask("plain", 1, one, ".mha"), "--case", other)
    assert code == 1
    assert f"--case: found {other!r}, but " in error
    assert f"is of {one!r}" in error
