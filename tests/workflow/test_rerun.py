"""docs/rerun.md, row by row: what is planned after a change of a project that has really run."""

import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import app
from pipeline.orchestration.changed_results import set_aside
from pipeline.storage.files import read_json
from pipeline.storage.layout import STAGES, Layout
from tests.workflow import tiny
from tests.workflow.changes import (
    CHANGES,
    HEAD,
    MASKS,
    ROWS,
    WAY,
    code,
    rows,
    write_weights,
)

CHECKOUT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]
# what a plan tells of outputs, and of results from elsewhere
FOUND = re.compile(
    r"^.*(?:replaced since|no longer there|not as it was made|not recorded in).*$", re.MULTILINE
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_project):
    """A project that has run, with a checkout of its own."""
    folder = tmp_path_factory.mktemp("finished")
    for part in ("workflow", "pipeline", "grcsf", "envs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / part, folder / "checkout" / part, ignore=ignored)
    project = new_project(folder, folder / "checkout")
    tiny.write_images(folder / "images")
    config = tiny.configuration()
    config["datasets"]["head"]["mae"]["shared"]["checkpoint"] = "weights.pth"
    project.configure(config)
    write_weights(project, seed=3)
    project.run()
    return project


@pytest.fixture(scope="module")
def jobs(finished) -> set[str]:
    """All jobs of the project."""
    return set(finished.plan("--forceall").jobs) - {"all"}


@pytest.fixture
def again(finished, new_project, tmp_path):
    """A copy of the finished project, to change."""
    shutil.copytree(finished.folder, tmp_path / "again", symlinks=True)
    return new_project(tmp_path / "again", tmp_path / "again" / "checkout")


def test_every_row_has_its_change_and_every_change_its_row():
    assert len(rows()) == len(ROWS)
    assert list(ROWS) == list(CHANGES)


@pytest.mark.parametrize("text", ROWS)
def test_after_a_change_exactly_its_row_is_planned(again, jobs, text):
    make, about = CHANGES[text]
    make(again)
    row = ROWS[text]
    added = {job.replace("unet", "more") for job in jobs if "more" in about}
    expected = {
        job
        for job in jobs | added
        if job.split(" ")[0] in row.computes | row.looks and re.match(about, job)
    }
    plan = again.plan()
    # five cases at two a job are four batches in place of one
    planned = {re.sub(r"batch \dof4$", "batch 1of1", job) for job in plan.jobs}
    assert planned == expected
    assert bool(expected) == ("Nothing to be done" not in plan.output)
    if FOUND.search(plan.output):
        repeated = again.plan()
        assert set(repeated.jobs) == expected, "a dry run that is repeated says the same"
        assert FOUND.findall(repeated.output) == FOUND.findall(plan.output)


# --- what is said of some changes, and what is really made


def test_changed_code_is_told_in_one_line_until_a_whole_call_has_ended(again):
    (again.checkout / ".gitignore").write_text("__pycache__\n")
    for words in ("init", "add .", "-c user.name=n -c user.email=e@example.org commit -m first"):
        command = ["git", "-C", again.checkout, *words.split()]
        subprocess.run(command, check=True, capture_output=True)
    assert "code changed" not in again.run().output
    code(again)
    line = re.compile(r"^head, heart: code changed since the last run \((\w+) → \1 \+ 1 edited\)")
    for call in (again.plan, again.run):
        assert sum(bool(line.match(row)) for row in call().output.splitlines()) == 1
    assert "code changed" not in again.run().output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a residual store deleted", "no longer there, though "),
        ("a residual store edited", "c3.zarr: residual has changed since it was written"),
        ("a residual store damaged", "c3.zarr: residual cannot be read"),
        ("a mask edited", "c3.nii.gz: has changed since it was written"),
        ("the split edited", "split.json: has changed since it was written"),
        ("an experiment's scores edited", "grcsf.csv: has changed since it was written"),
        ("the comparison's numbers edited", "table.csv: has changed since it was written"),
        ("a test case's image replaced by an older file", "head: replaced since ingest read it: "),
        ("results copied to another machine", "head: its results were not recorded in this work"),
    ],
)
def test_what_is_found_is_told_in_one_line(again, text, told):
    CHANGES[text][0](again)
    assert sum(told in line for line in again.plan().output.splitlines()) == 1


BY_CASE = set(STAGES) - {"split", "evaluate", "compare", "tabulate", "report"}
COMPUTES = [text for text, row in ROWS.items() if row.looks] + [
    "learning rate of an experiment",
    "epochs of an MAE",
    "the weights that an MAE starts from replaced by others",
    "number of passes",
    "threshold of the post-processing",
    "a stage's `VERSION` raised",
    "a new training case",
]
SERVER = multiprocessing.get_context("forkserver")
# a job is forked from one that has imported all this, which takes it longer than its work
NETWORKS = ("train_mae", "residual_maps", "train_segmentation", "predict", "postprocess")
SERVER.set_forkserver_preload(["torch.utils.tensorboard", *(f"pipeline.{one}" for one in NETWORKS)])


def artifacts(project) -> dict[tuple[str, ...], int]:
    """Every store, model and mask, by the parts of its path, and when it was written."""
    results = project.folder / "results"
    patterns = ("ingest/*.zarr", "residual_maps/*/*.zarr", "predict/*/*/*.zarr")
    patterns += ("train_*/**/model.safetensors", "postprocess/*/*/*.nii.gz")
    found = [path for pattern in patterns for path in results.glob(f"*/{pattern}")]
    return {path.relative_to(results).parts: path.stat().st_mtime_ns for path in found}


def written(before, after) -> set[tuple[str, ...]]:
    """What is newer; the time of what was only looked at may be set back."""
    return {key for key, when in after.items() if before.get(key, 0) < when}


def declared(folder: Path, arguments: list[str]) -> Path:
    """The file that a job's rule declares, and that Snakemake deletes before it starts the job."""
    verb, *rest = arguments
    named = dict(zip(rest[::2], rest[1::2], strict=True))
    layout = Layout(folder / "results", named["--dataset"])
    about = [
        named.get(f"--{name}") for name in ("mae", "residuals", "batch", "experiment", "subset")
    ]
    method = {
        "ingest": "cases",
        "split": "split",
        "train-mae": "mae",
        "residual-maps": "residual_batch",
        "train-segmentation": "model",
        "predict": "predictions",
        "postprocess": "masks",
    }[verb]
    found = getattr(layout, method)
    return found(*filter(None, about)) if callable(found) else found


def stage(folder: Path, arguments: list[str]) -> None:
    """What a job's command does, in a process that has imported the package already."""
    os.chdir(folder)
    app(arguments, standalone_mode=False)


def work_off(project, commands: list[str], checkout: Path | None = None) -> None:
    """Do the planned jobs as far as masks, in the data's order, with the code of `checkout`."""
    words = [shlex.split(command.partition(" 2>&1")[0])[3:] for command in commands]
    order = [one.replace("_", "-") for one in STAGES[: STAGES.index("evaluate")]]
    for arguments in sorted(
        (one for one in words if one[0] in order), key=lambda one: order.index(one[0])
    ):
        manifest = declared(project.folder, arguments)
        set_aside(manifest)  # as a call does when it begins
        manifest.unlink(missing_ok=True)
        if checkout:
            call = [sys.executable, "-m", "pipeline", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(checkout)}
            subprocess.run(call, cwd=project.folder, env=environment, check=True)
            continue
        job = SERVER.Process(target=stage, args=(project.folder, arguments))
        job.start()
        job.join()
        assert job.exitcode == 0, arguments


@pytest.mark.parametrize("text", COMPUTES)
def test_what_computes_makes_something_and_what_looks_makes_nothing(again, text):
    row = ROWS[text]
    CHANGES[text][0](again)
    before = artifacts(again)
    work_off(again, again.plan("-p").commands, again.checkout if "VERSION" in text else None)
    made = {key[1] for key in written(before, artifacts(again))}
    assert made == row.computes & BY_CASE


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a new test case", {("ingest", "c6"), ("residual_maps", "c6"), ("predict", "c6")}),
        ("results copied to another machine", set()),
    ],
)
def test_a_run_makes_its_case_and_leaves_nothing_to_do(again, text, made):
    CHANGES[text][0](again)
    before = artifacts(again)
    assert again.run(*WAY).jobs
    new = written(before, artifacts(again))
    assert {(key[1], Path(key[-1]).stem) for key in new if key[-1].endswith("zarr")} == made
    assert again.call(*WAY, "-n", "--configfile", "config.yaml").jobs == []
    cases = {"c3", "c4", *(case for _, case in made)}
    assert set(read_json(again.folder / MASKS)["cases"]) == cases
    assert not any(path.stat().st_size for path in (again.folder / HEAD.locks).glob("*.claim"))
