"""The rows of docs/rerun.md, and for each a function that makes its change in a project."""

import csv
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
import zarr

from grcsf.mae.model import build_mae
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from tests.workflow import tiny

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = CHECKOUT / "docs" / "rerun.md"
HEAD = Layout(Path("results"), "head")
MASKS = str(HEAD.masks("grcsf", 1))
# a store is remade where its manifest is asked for, as `all` does: masks that are made need it not
WAY = [str(HEAD.residual_batch("mrm", "1of1")), MASKS]
GRCSF = r"\w+ head(: (grcsf|mrm)\b.*)?$"
MAE_ON = r"train_mae head|" + GRCSF


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


def write_weights(project, seed: int) -> None:
    """Weights for the MAE to start from."""
    torch.manual_seed(seed)
    model = build_mae("tiny", image_size=32, patch_size=8)
    torch.save(model.state_dict(), project.folder / "weights.pth")


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


@change("threads, memory, minutes or `compile`")
def resources(project):
    for key, value in {"threads": 2, "memory_mb": 10, "minutes": 3, "compile": True}.items():
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
    edited(project, "workflow/rules/configuration.smk", "| tee", "|  tee")


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
