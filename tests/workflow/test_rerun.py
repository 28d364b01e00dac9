"""docs/rerun.md, row by row: what is planned after a change of a project that has really run."""

import importlib.util
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
import zarr

from pipeline.layout import Layout
from pipeline.stores import file_digest, read_json

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory, new_project):
    """A project that has run, with a checkout of its own."""
    folder = tmp_path_factory.mktemp("finished")
    for part in ("workflow", "pipeline", "grcsf", "envs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(CHECKOUT / part, folder / "checkout" / part, ignore=ignored)
    project = new_project(folder, folder / "checkout")
    tiny.write_images(folder / "images")
    project.configure(tiny.configuration())
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
    added = {job.replace("unet", "more") for job in jobs if text == "a new experiment"}
    expected = {
        job
        for job in jobs | added
        if job.split(" ")[0] in row.computes | row.looks and re.match(about, job)
    }
    plan = again.plan()
    assert set(plan.jobs) == expected
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


@change("threads, memory or cases per job")
def resources(project):
    for key, value in {"threads": 2, "memory_mb": 10, "cases_per_job": 9, "minutes": 3}.items():
        configured(project, "resources", key, value=value)


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


@change("epochs of an MAE", r"train_mae head|" + GRCSF)
def mae_epochs(project):
    configured(project, "datasets", "head", "mae", "shared", "epochs", value=2)


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


@change("the comparison's numbers deleted")
def numbers_deleted(project):
    (project.folder / HEAD.table(".csv")).unlink()


@change("the report deleted")
def report_deleted(project):
    (project.folder / HEAD.report).unlink()


@change("results copied to another machine", r"\w+ (head|heart)")
def copied(project):
    without_times(project)
    shutil.rmtree(project.folder / ".snakemake")


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
        ("a test case's image replaced by an older file", "head: replaced since ingest read it: "),
        ("results copied to another machine", "head: its results were not recorded in this work"),
    ],
)
def test_what_is_found_is_told_in_one_line(again, text, told):
    CHANGES[text][0](again)
    assert sum(told in line for line in again.plan().output.splitlines()) == 1


def artifacts(project) -> dict[tuple[str, str], object]:
    """Everything that the undeclared outputs of `head` hold, and which file that is."""
    results = project.folder / "results" / "head"
    found = {}
    for pattern in ("ingest/*.zarr", "residual_maps/*/*.zarr", "predict/grcsf/*/*.zarr"):
        for path in results.glob(pattern):
            found[path.relative_to(results).parts[0], path.stem] = path.stat().st_ino
    for pattern in ("train_*/*/model.safetensors", "train_*/grcsf/*/model.safetensors"):
        for path in results.glob(pattern):
            found[path.relative_to(results).parts[0], "model"] = path.stat().st_ino
    for path in results.glob("postprocess/grcsf/*/*.nii.gz"):
        found["postprocess", path.name.split(".")[0]] = path.stat().st_ino
    return found


@pytest.mark.parametrize(
    ("text", "cases"),
    [
        ("a new test case", {"c6"}),
        ("a test case's label edited", {"c3"}),
        ("a residual store damaged", {"c3"}),
        ("results copied to another machine", set()),
    ],
)
def test_what_looks_makes_nothing_and_what_runs_makes_its_case(again, text, cases):
    model = again.folder / HEAD.model("grcsf", 1).with_suffix("") / "model.safetensors"
    trained = file_digest(model)
    CHANGES[text][0](again)
    before = artifacts(again)
    done = again.run(*WAY)
    after = artifacts(again)
    made = {key for key, which in after.items() if before.get(key) != which}
    by_case = ROWS[text].computes & {"ingest", "residual_maps", "predict", "postprocess"}
    assert made == {(stage, case) for stage in by_case for case in cases}
    assert file_digest(model) == trained
    looked = {job.split(" ")[0] for job in done.jobs}
    assert ROWS[text].looks - {"train_mae"} <= looked
    assert again.call(*WAY, "-n", "--configfile", "config.yaml").jobs == []
    assert set(read_json(again.folder / MASKS)["cases"]) == {"c3", "c4"} | cases
    assert not any(path.stat().st_size for path in (again.folder / HEAD.claims).glob("*.claim"))
