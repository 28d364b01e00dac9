"""docs/reference/rerun.md, row by row: what a change of a project that has run plans and makes."""

import json
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import SimpleITK

from pipeline.orchestration.job_files import written_files
from pipeline.storage.files import read_json
from pipeline.storage.layout import STAGES, Layout
from tests.workflow.changes import CHANGES
from tests.workflow.edits import HEAD, MASKS, STORE, edit_code

DOCUMENT = Path(__file__).parents[2] / "docs" / "reference" / "rerun.md"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# what a plan tells of outputs, and of results from elsewhere
FOUND = re.compile(
    r"^.*(?:replaced since|no longer there|not as it was made|not recorded in).*$", re.MULTILINE
)
# a store is remade where its manifest is asked for, as `all` does: masks that are made need it not
WAY = (str(HEAD.residual_batch("mrm", "1of1")), MASKS)
BY_CASE = set(STAGES) - {"split", "evaluate", "compare", "tabulate", "draw", "report"}
# rows that tell nothing of looking, but whose work is done here all the same
COMPUTES = (
    "a setting of an experiment's network or training",
    "a setting of an MAE's training",
    "a file of given predictions edited",
    "a setting of a residual set",
    "threshold of the post-processing",
    "a stage's `VERSION` raised",
    "a new training case",
)
# rows whose work another row's, or a whole run below, shows as well
SHOWN_ELSEWHERE = (
    "a new test case",
    "an external data set added",
    "a test case's image replaced by an older file",
    "the split deleted",
    "a residual store's file deleted",
    "results copied to another machine",
)
# the jobs of a row in one process, each of which would be a fork that looks for a moment
IN_TURN = """
import json, sys
from pathlib import Path
from pipeline.cli import app
from pipeline.orchestration.changed_results import set_aside
for manifest, arguments in json.loads(sys.argv[1]):
    set_aside(Path(manifest))  # as a call does when it begins
    Path(manifest).unlink(missing_ok=True)
    app(arguments, standalone_mode=False)
"""
RESIDUAL_STORE = Path(*STORE.parts[1:])


class Row(NamedTuple):
    computes: set[str]
    looks: set[str]


def rows() -> list[tuple[str, Row]]:
    table = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    return [
        (change, Row(*(set(cell.split(", ")) - {"–"} for cell in cells)))
        for change, *cells in table[1:]
    ]


@pytest.fixture(scope="module")
def jobs(finished) -> set[str]:
    return set(finished.plan("--forceall").jobs)


def test_every_row_has_its_change_and_every_change_its_row():
    assert [text for text, _ in rows()] == list(CHANGES)


@pytest.mark.parametrize(("text", "row"), rows(), ids=[text for text, _ in rows()])
def test_after_a_change_its_row_is_planned_told_and_made(again, jobs, text, row):
    change = CHANGES[text]
    change.make(again)
    added = {job.replace(*change.adds) for job in jobs if change.adds}
    concerned = {job for job in jobs | added if re.match(change.about, job)}
    expected = {job for job in concerned if job.split(" ")[0] in row.computes | row.looks}
    plan = again.plan("-p")
    # five cases at two a job are four batches in place of one
    planned = {re.sub(r"batch \dof4$", "batch 1of1", job) for job in plan.jobs}
    assert planned == expected
    assert bool(expected) == ("Nothing to be done" not in plan.output)
    if change.message:
        assert sum(change.message in line for line in plan.output.splitlines()) == 1
    if FOUND.search(plan.output):
        repeated = again.plan()
        assert set(repeated.jobs) == expected, "a dry run that is repeated says the same"
        assert FOUND.findall(repeated.output) == FOUND.findall(plan.output)
    if (row.looks and text not in SHOWN_ELSEWHERE) or text.startswith(COMPUTES):
        before = artifacts(again)
        work_off(again, plan.commands)
        made = written(before, artifacts(again))
        assert {path.parts[1] for path in made} == row.computes & BY_CASE
        if text.startswith("a residual store"):
            assert made == {RESIDUAL_STORE}, "the other cases' stay as they are"


def artifacts(project) -> dict[Path, int]:
    """Every store, model and mask below `results`, and when it was written."""
    results = project.folder / "results"
    patterns = ("ingest/*.zarr", "residual_maps/*/*.zarr", "predict/*/*/*.zarr")
    patterns += ("train_*/**/model.safetensors", "postprocess/*/*/*.nii.gz")
    paths = [path for pattern in patterns for path in results.glob(f"*/{pattern}")]
    return {path.relative_to(results): path.stat().st_mtime_ns for path in paths}


def written(before, after) -> set[Path]:
    """What is newer; the time of what was only looked at may be set back."""
    return {path for path, when in after.items() if before.get(path, 0) < when}


def declared(folder: Path, arguments: list[str]) -> Path:
    """The file that a job's rule declares, and that Snakemake deletes before it starts the job."""
    verb, *rest = (argument for argument in arguments if argument != "--only-read")
    given = {key[2:]: value for key, value in zip(rest[::2], rest[1::2], strict=True)}
    keys = [key for key in ("mae", "residuals", "batch", "experiment", "subset") if key in given]
    layout, names = Layout(folder / "results", given["dataset"]), {key: given[key] for key in keys}
    (manifest,) = written_files(layout, verb.replace("-", "_"), names)
    return manifest


def work_off(project, commands: list[str]) -> None:
    """Do the planned jobs as far as masks, in the data's order."""
    words = [shlex.split(command.partition(" 2>&1")[0])[3:] for command in commands]
    order = [stage.replace("_", "-") for stage in STAGES[: STAGES.index("evaluate")]]
    calls = [call for call in words if call[0] in order]
    calls.sort(key=lambda call: order.index(call[0]))
    jobs = [(str(declared(project.folder, arguments)), arguments) for arguments in calls]
    (project.folder / "in_turn.py").write_text(IN_TURN, "utf-8")
    process = project.python("-m", "in_turn", json.dumps(jobs))
    output = process.communicate()
    assert process.returncode == 0, output


def test_changed_code_is_told_in_one_line_until_a_whole_call_has_ended(again):
    again.copy_checkout()
    (again.checkout / ".gitignore").write_text("__pycache__\n")
    for words in ("init", "add .", "-c user.name=n -c user.email=e@example.org commit -m first"):
        command = ["git", "-C", again.checkout, *words.split()]
        subprocess.run(command, check=True, capture_output=True)
    again.run()  # notes the commit of the copy
    assert "code changed" not in again.plan().output
    edit_code(again)
    line = re.compile(r"^head, heart: code changed since the last run \((\w+) → \1 \+ 1 edited\)")
    for call in (again.plan, again.run):
        assert sum(bool(line.match(row)) for row in call().output.splitlines()) == 1
    assert "code changed" not in again.run().output


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("a new test case", {("ingest", "c6"), ("residual_maps", "c6"), ("predict", "c6")}),
        ("results copied to another machine", set()),
    ],
)
def test_a_run_makes_its_case_and_leaves_nothing_to_do(again, text, made):
    CHANGES[text].make(again)
    before = artifacts(again)
    assert again.run(*WAY).jobs
    new = written(before, artifacts(again))
    assert {(path.parts[1], path.stem) for path in new if path.suffix == ".zarr"} == made
    assert again.call(*WAY, "-n", "--configfile", "config.yaml").jobs == []
    cases = {"c3", "c4", *(case for _, case in made)}
    assert set(read_json(again.folder / MASKS)["cases"]) == cases
    assert not any(path.stat().st_size for path in (again.folder / HEAD.locks).glob("*.claim"))


def test_one_more_repeat_is_trained_and_scored_with_those_before_it(again):
    again.change("datasets.head.experiments.unet.repeats", 2)
    again.run()
    table = (again.folder / HEAD.table(".md")).read_text("utf-8")
    assert "differ by their seed alone: unet 2; no other has any." in table
    scores = (again.folder / HEAD.scores("unet")).read_text("utf-8").splitlines()
    assert scores[0].startswith("case,group,subset,repeat,")
    assert [row.split(",")[0] for row in scores[1:]] == ["c3", "c4"] * 2
    page = (again.folder / HEAD.report).read_text("utf-8")
    assert "<th>Repeat 2</th>" in page
    assert "its first repeat is shown, with that repeat's Dice" in page
    mask = HEAD.mask("unet/repeat-2", 1, "c3", ".nii.gz")
    trace = again.python("-m", "pipeline", "trace", str(mask))
    said = trace.communicate()
    assert trace.returncode == 0, said
    assert "train_segmentation head experiment unet/repeat-2 subset 1" in " ".join(said.split())
    assert again.plan().jobs == []
    again.change("datasets.head.experiments.unet.repeats", 3)
    new = ("train_segmentation", "predict", "postprocess")
    assert set(again.plan().jobs) == {
        *(f"{stage} head: unet/repeat-3, subset 1" for stage in new),
        "evaluate head: unet",
        "compare head",
        "report head",
    }


def test_a_healthy_scan_beside_phantoms_is_read_again_where_it_is_replaced(again):
    heart = Layout(Path("results"), "heart")
    phantom, scan = heart.phantom_truth.parent, again.folder / "sound.nii.gz"
    image = SimpleITK.ReadImage(next((again.folder / phantom).rglob("*CTI.mhd")))
    SimpleITK.WriteImage(image + 1, scan)
    again.change("datasets.heart.source.healthy", [scan.name])
    again.run(str(heart.cases))
    assert read_json(again.folder / heart.cases)["cases"]["sound"]["role"] == "healthy"
    assert "ingest heart" not in again.plan().jobs
    SimpleITK.WriteImage(image + 2, scan)
    assert "ingest heart" in again.plan().jobs


@pytest.mark.processes
def test_of_many_images_a_plan_finds_what_came_went_and_changed(again, tmp_path):
    again.copy_checkout()
    rules = again.checkout / "workflow" / "rules" / "sources.smk"
    text = re.sub(r"^(MOST_SOURCES) = .*$", r"\1 = 0", rules.read_text("utf-8"), flags=re.MULTILINE)
    rules.write_text(text, "utf-8")
    again.run()  # Snakemake has recorded more inputs than there are now, and looks once more
    for number, (change, is_due) in enumerate(
        {
            "an image touched, same content": False,
            "a test case's image edited": True,
            "a test case's image replaced by an older file": True,
            "a healthy scan added": True,
            "a test case removed": True,
        }.items()
    ):
        folder = tmp_path / f"many-{number}"
        subprocess.run(["cp", "-a", again.folder, folder], check=True)
        project = replace(again, folder=folder, checkout=folder / "checkout")
        CHANGES[change].make(project)
        assert ("ingest head" in project.plan().jobs) is is_due, change
