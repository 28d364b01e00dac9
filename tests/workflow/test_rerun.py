"""docs/rerun.md, row by row: what is planned after a change of a project that has really run."""

import csv
import importlib.util
import json
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
import zarr

from grcsf.mae.model import build_mae
from pipeline.cli import app
from pipeline.files import read_json
from pipeline.layout import STAGES, Layout
from pipeline.manifests import set_aside

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = CHECKOUT / "docs" / "rerun.md"
spec = importlib.util.spec_from_file_location("tiny", Path(__file__).with_name("tiny.py"))
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)
HEAD = Layout(Path("results"), "head")
MASKS = str(HEAD.masks("grcsf", 1))
# a store is remade where its manifest is asked for, as `all` does: masks that are made need it not
WAY = [str(HEAD.residual_batch("mrm", "1of1")), MASKS]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    change: str
    computes: frozenset[str]
    looks: frozenset[str]


def stages(cell: str) -> frozenset[str]:
    return frozenset() if cell == "–" else frozenset(cell.split(", "))


def rows() -> list[Row]:
    table = re.findall(r"^\| (.+) \| (.+) \| (.+) \|$", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    return [Row(change, stages(computes), stages(looks)) for change, computes, looks in table[1:]]


ROWS = {row.change: row for row in rows()}
CHANGES = {}  # change → (what makes it, the jobs that it may be about)


def change(text: str, about: str = r"\w+ head"):
    """Name the row that a function makes the change of; `about` matches the jobs concerned."""

    def named(function):
        assert text not in CHANGES
        CHANGES[text] = (function, about)
        return function

    return named


# what a plan tells of outputs, and of results from elsewhere
FOUND = re.compile(
    r"^.*(?:replaced since|no longer there|not as it was made|not recorded in).*$", re.MULTILINE
)
GRCSF = r"\w+ head(: (grcsf|mrm)\b.*)?$"
MAE_ON = r"train_mae head|" + GRCSF


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


def write_weights(project, seed: int) -> None:
    """Weights for the MAE to start from."""
    torch.manual_seed(seed)
    model = build_mae("tiny", image_size=32, patch_size=8)
    torch.save(model.state_dict(), project.folder / "weights.pth")


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


# --- what makes the changes, in the order of the rows


def configured(project, *keys, value) -> None:
    """Set one value of the configuration, or drop it (`value` None)."""
    path = project.folder / "config.yaml"
    # without what YAML lets several experiments share
    config = json.loads(json.dumps(yaml.safe_load(path.read_text("utf-8"))))
    section = config
    for key in keys[:-1]:
        section = section.setdefault(key, {})
    if value is None:
        del section[keys[-1]]
    else:
        section[keys[-1]] = value
    project.configure(config)


def edited(project, file: str, before: str, after: str) -> None:
    """Replace a text in a file of the project's checkout."""
    path = project.checkout / file
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


@change("nothing")
def nothing(project):
    pass


@change("an image touched, same content")
def touched(project):
    tiny.image_of(project.folder / "images", 0).touch()
    tiny.label_of(project.folder / "images", 4).touch()
    os.utime(tiny.image_of(project.folder / "images", 3), (1_577_836_800, 1_577_836_800))


@change("the configuration reordered and commented")
def reordered(project):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    path = project.folder / "config.yaml"
    text = yaml.safe_dump(turned(yaml.safe_load(path.read_text("utf-8"))), sort_keys=False)
    path.write_text("# a comment\n" + text.replace("\n", "  # another\n", 1), "utf-8")


@change("threads, memory or minutes")
def resources(project):
    for key, value in {"threads": 2, "memory_mb": 10, "minutes": 3}.items():
        configured(project, "resources", key, value=value)


@change("cases per job", GRCSF)
def cases_per_job(project):
    configured(project, "resources", "cases_per_job", value=2)


@change("a shared folder for residual stores")
def shared_folder(project):
    configured(project, "store", "root", value="cache")


@change("an environment file")
def environment(project):
    edited(project, "envs/torch.yaml", "torch==", "torch>=")


@change("a rule's text")
def rule(project):
    edited(project, "workflow/rules/mae.smk", '"train-mae --mae', '"train-mae  --mae')
    edited(project, "workflow/rules/common.smk", "| tee", "|  tee")


@change("code in `grcsf/`, no `VERSION` raised")
def code(project):
    edited(project, "grcsf/residuals.py", "import torch\n", "import torch\n\nEDITED = True\n")


@change("another data set's configuration")
def another(project):
    config = yaml.safe_load((project.folder / "config.yaml").read_text("utf-8"))
    config["datasets"] = {"head": config["datasets"]["head"]}
    project.configure(config)


@change("the whole project moved to another path")
def moved(project):
    """Every row works on a copy at another path."""


@change("files copied without their times")
def without_times(project):
    for path in sorted(project.folder.rglob("*"), key=lambda path: path.name):
        path.touch()


@change("learning rate of an experiment", GRCSF)
def learning_rate(project):
    keys = ("datasets", "head", "experiments", "grcsf", "training", "learning_rate")
    configured(project, *keys, value=3e-4)


@change("epochs of an MAE", MAE_ON)
def mae_epochs(project):
    configured(project, "datasets", "head", "mae", "shared", "epochs", value=2)


@change("the weights that an MAE starts from moved to another path", MAE_ON)
def weights_moved(project):
    (project.folder / "elsewhere").mkdir()
    (project.folder / "weights.pth").rename(project.folder / "elsewhere" / "mae.pth")
    keys = ("datasets", "head", "mae", "shared", "checkpoint")
    configured(project, *keys, value="elsewhere/mae.pth")


@change("the weights that an MAE starts from replaced by others", MAE_ON)
def weights_replaced(project):
    write_weights(project, seed=4)


@change("number of passes", GRCSF)
def passes(project):
    maps = [{"mae": "shared", "mask_ratio": ratio, "passes": 3} for ratio in (0.5, 0.75)]
    configured(project, "datasets", "head", "residuals", "mrm", "maps", value=maps)


@change("threshold of the post-processing")
def threshold(project):
    configured(project, "datasets", "head", "postprocess", "probability", value=0.4)


@change("a setting of the evaluation")
def evaluation(project):
    configured(project, "datasets", "head", "evaluation", "bootstrap_samples", value=200)


@change("the split", r"\w+ heart")
def other_split(project):
    configured(project, "datasets", "heart", "split", "test", value=2)


@change("a new experiment", r"\w+ head(: more\b.*)?$")
def new_experiment(project):
    more = {**tiny.configuration()["datasets"]["head"]["experiments"]["unet"], "width": 6}
    configured(project, "datasets", "head", "experiments", "more", value=more)


@change(
    "an experiment renamed by moving its folders, and a setting of it changed",
    r"\w+ head(: more\b.*)?$",
)
def experiment_moved(project):
    results = project.folder / "results" / "head"
    for stage in ("train_segmentation", "predict", "postprocess"):
        (results / stage / "grcsf").rename(results / stage / "more")
    for path in (results / "evaluate").glob("grcsf.*"):
        path.rename(path.with_name(path.name.replace("grcsf", "more")))
    grcsf = tiny.configuration()["datasets"]["head"]["experiments"]["grcsf"]
    more = {**grcsf, "training": {**grcsf["training"], "learning_rate": 3e-4}}
    configured(project, "datasets", "head", "experiments", "more", value=more)
    configured(project, "datasets", "head", "experiments", "grcsf", value=None)


@change("an experiment removed")
def experiment_removed(project):
    configured(project, "datasets", "head", "experiments", "grcsf", value=None)


@change("a stage's `VERSION` raised", r"\w+ (head|heart)")
def version(project):
    path = project.checkout / "pipeline" / "predict.py"
    text = path.read_text("utf-8")
    raised, times = re.subn(r"^VERSION = \d+$", "VERSION = 99", text, flags=re.MULTILINE)
    assert times == 1
    path.write_text(raised, "utf-8")


@change("a new test case")
def new_test_case(project):
    tiny.list_images(project.folder / "images", [0, 1, 2, 3, 4, 6])


@change("a new training case")
def new_training_case(project):
    tiny.list_images(project.folder / "images", range(6))


@change("a test case removed")
def case_removed(project):
    tiny.list_images(project.folder / "images", range(4))


@change("a test case's label edited")
def label_edited(project):
    images = project.folder / "images"
    shutil.copy(tiny.label_of(images, 5), tiny.label_of(images, 3))


@change("a test case's image edited")
def image_edited(project):
    images = project.folder / "images"
    shutil.copy(tiny.image_of(images, 5), tiny.image_of(images, 3))


@change("a test case's image replaced by an older file")
def older_image(project):
    images = project.folder / "images"
    shutil.copy(tiny.image_of(images, 5), tiny.image_of(images, 3))
    os.utime(tiny.image_of(images, 3), (1_577_836_800, 1_577_836_800))


@change("the split deleted")
def split_deleted(project):
    (project.folder / HEAD.split).unlink()


@change("the split edited")
def split_edited(project):
    path = project.folder / HEAD.split
    split = read_json(path)
    roles = split["subsets"]["1"]
    roles["train"], roles["test"] = roles["test"], roles["train"]
    path.write_text(json.dumps(split), "utf-8")


@change("a case store deleted")
def case_store_deleted(project):
    shutil.rmtree(project.folder / HEAD.case_store("c3"))


@change("a residual store deleted", GRCSF)
def residual_store_deleted(project):
    shutil.rmtree(project.folder / HEAD.residual_store("mrm", "c3"))


@change("a residual store edited", GRCSF)
def residual_store_edited(project):
    store = zarr.open(project.folder / HEAD.residual_store("mrm", "c3"), mode="r+")
    store["residual"][:] = store["residual"][:] / 2


@change("a residual store damaged", GRCSF)
def residual_store_damaged(project):
    (shard,) = (project.folder / HEAD.residual_store("mrm", "c3")).rglob("c/0/0/0/0")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@change("a residual store's file deleted", GRCSF)
def residual_file_deleted(project):
    (shard,) = (project.folder / HEAD.residual_store("mrm", "c3")).rglob("c/0/0/0/0")
    shard.unlink()


@change("a model deleted", GRCSF)
def model_deleted(project):
    (project.folder / HEAD.model("grcsf", 1).with_suffix("") / "model.safetensors").unlink()


@change("a mask deleted", GRCSF)
def mask_deleted(project):
    (project.folder / HEAD.mask("grcsf", 1, "c3", ".nii.gz")).unlink()


@change("a mask edited", GRCSF)
def mask_edited(project):
    folder = project.folder
    other = folder / HEAD.mask("grcsf", 1, "c4", ".nii.gz")
    (folder / HEAD.mask("grcsf", 1, "c3", ".nii.gz")).write_bytes(other.read_bytes() + b"\0")


@change("an experiment's scores deleted", GRCSF)
def scores_deleted(project):
    (project.folder / HEAD.scores("grcsf")).unlink()


@change("an experiment's scores edited", GRCSF)
def scores_edited(project):
    path = project.folder / HEAD.scores("grcsf")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "dice": 0.99} for row in rows)


@change("the comparison's numbers deleted")
def numbers_deleted(project):
    (project.folder / HEAD.table(".csv")).unlink()


@change("the comparison's numbers edited")
def numbers_edited(project):
    path = project.folder / HEAD.table(".csv")
    path.write_text(path.read_text("utf-8").replace("unet", "best"), "utf-8")


@change("the report deleted")
def report_deleted(project):
    (project.folder / HEAD.report).unlink()


@change("results copied to another machine", r"\w+ (head|heart)")
def copied(project):
    without_times(project)
    shutil.rmtree(project.folder / ".snakemake")


@change("results put back from a backup, made with another threshold of the post-processing")
def put_back(project):
    results, backup = project.folder / "results", project.folder / "backup"
    shutil.copytree(results, backup)
    threshold(project)
    project.run(MASKS)
    shutil.rmtree(results)
    backup.rename(results)


# --- what is said of some changes, and what is really made


def test_edited_code_is_told_in_one_line_and_once(again):
    code(again)
    told = [
        line for line in again.plan().output.splitlines() if "changed since the last run" in line
    ]
    assert told == [
        "head, heart: grcsf/residuals.py changed since the last run and no VERSION was raised, so "
        "nothing runs again because of it; if it changes a result, raise VERSION in pipeline/ of "
        "its stage (residual_maps)"
    ]
    assert "changed since the last run" in again.run().output
    assert "changed since the last run" not in again.run().output
    version(again)
    assert "changed since the last run" not in again.plan().output


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
    assert not any(path.stat().st_size for path in (again.folder / HEAD.claims).glob("*.claim"))
