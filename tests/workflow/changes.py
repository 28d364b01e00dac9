"""For each row of docs/rerun.md what makes its change in a project."""

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import yaml
import zarr

from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from tests.workflow import tiny

HEAD = Layout(Path("results"), "head")
MASKS = str(HEAD.masks("grcsf", 1))
STORE = HEAD.residual_store("mrm", "c3")
BOTH = r"\w+ (head|heart)"
GRCSF = r"\w+ head(: (grcsf|mrm)\b.*)?$"
MAE_ON = r"train_mae head|" + GRCSF
MORE = r"\w+ head(: more\b.*)?$"
OF_GRCSF = "datasets.head.experiments.grcsf"
GIVEN = r"\w+ head(: given\b.*)?$"
SAM = r"\w+ heart(: sam\b.*)?$"
SECOND_REPEAT = r"\w+ head$|evaluate head: unet$|(?!evaluate)\w+ head: unet/repeat-2,"
LONG_AGO = (1_577_836_800, 1_577_836_800)
HEAD_KEYS = tiny.configuration()["datasets"]["head"]


class Change(NamedTuple):
    """What makes it, a pattern of the jobs concerned, and what one line of the plan says."""

    make: Callable
    about: str = r"\w+ head"
    message: str = ""
    adds: tuple[str, str] | None = None  # a part of earlier jobs, and what new ones have there


def setting(keys: str, value) -> Callable:
    return lambda project: project.change(keys, value)


def edited(project, file: str, pattern: str, after: str) -> None:
    """Replace a text in a file of the project's own checkout."""
    project.copy_checkout()
    path = project.checkout / file
    text, times = re.subn(pattern, after, path.read_text("utf-8"), flags=re.MULTILINE)
    assert times == 1
    path.write_text(text, "utf-8")


def listed(numbers) -> Callable:
    return lambda project: tiny.list_images(project.folder / "images", numbers)


def add_healthy(project):
    """An image that was not listed, taken for a healthy scan's."""
    scan = tiny.image_of(project.folder / "images", 5)
    project.change("datasets.head.source.healthy", [str(scan.relative_to(project.folder))])


def deleted(path: Path) -> Callable:
    return lambda project: subprocess.run(["rm", "-r", project.folder / path], check=True)


def replaced(file_of: Callable) -> Callable:
    """The image or the label of case 3 becomes another's."""
    return lambda project: shutil.copy(*(file_of(project.folder / "images", n) for n in (5, 3)))


def shard(project) -> Path:
    (path,) = (project.folder / STORE).rglob("c/0/0/0/0")
    return path


def touch(project):
    images = project.folder / "images"
    tiny.image_of(images, 0).touch()
    tiny.label_of(images, 4).touch()
    os.utime(tiny.image_of(images, 3), LONG_AGO)


def reorder(project):
    def turned(value):
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    path = project.folder / "config.yaml"
    text = yaml.safe_dump(turned(yaml.safe_load(path.read_text("utf-8"))), sort_keys=False)
    path.write_text("# a comment\n" + text.replace("\n", "  # another\n", 1), "utf-8")


def change_resources(project):
    for key, value in {"threads": 2, "memory_mb": 10, "minutes": 3, "compile": True}.items():
        project.change(f"resources.{key}", value)


def edit_rules(project):
    edited(project, "workflow/rules/mae.smk", '"train-mae --mae', '"train-mae  --mae')
    texts = {
        path: path.read_text("utf-8") for path in project.checkout.glob("workflow/rules/*.smk")
    }
    assert any("| tee" in text for text in texts.values())
    for path, text in texts.items():
        path.write_text(text.replace("| tee", "|  tee"), "utf-8")


def edit_code(project):
    edited(project, "grcsf/residuals.py", "import torch\n", "import torch\n\nEDITED = True\n")


def raise_version(project):
    edited(project, "pipeline/predict.py", r"^VERSION = \d+$", "VERSION = 99")


def forget_times(project):
    for path in sorted(project.folder.rglob("*"), key=lambda path: path.name):
        path.touch()


def move_weights(project):
    (project.folder / "elsewhere").mkdir()
    (project.folder / "weights.pth").rename(project.folder / "elsewhere" / "mae.pth")
    project.change("datasets.head.mae.shared.checkpoint", "elsewhere/mae.pth")


def begin_from(project):
    """A finished experiment `more` that starts from public weights."""
    tiny.write_start(project.folder / "start.pth", seed=3)
    more = tiny.started("start.pth", HEAD_KEYS["experiments"]["unet"])
    project.change("datasets.head.experiments.more", more)
    project.run()


def replace_start(project):
    begin_from(project)
    tiny.write_start(project.folder / "start.pth", seed=4)


def touch_start(project):
    begin_from(project)
    (project.folder / "start.pth").touch()


def move_start(project):
    begin_from(project)
    (project.folder / "start.pth").rename(project.folder / "moved.pth")
    project.change("datasets.head.experiments.more.pretrained", "moved.pth")


def move_sam(project):
    (project.folder / "sam.pth").rename(project.folder / "moved.pth")
    project.change("datasets.heart.experiments.sam.checkpoint", "moved.pth")


def edit_given(project):
    shutil.copy(*(project.folder / "given" / f"c{number}.nii.gz" for number in (4, 3)))


def put_older_given(project):
    edit_given(project)
    os.utime(project.folder / "given" / "c3.nii.gz", LONG_AGO)


def add_test_case(project):
    listed([0, 1, 2, 3, 4, 6])(project)
    tiny.give(project.folder, 6)


def remove_test_case(project):
    listed(range(4))(project)
    (project.folder / "given" / "c4.nii.gz").unlink()


def move_experiment(project):
    results = project.folder / "results" / "head"
    for stage in ("train_segmentation", "predict", "postprocess"):
        (results / stage / "grcsf").rename(results / stage / "more")
    for path in (results / "evaluate").glob("grcsf.*"):
        path.rename(path.with_name(path.name.replace("grcsf", "more")))
    grcsf = HEAD_KEYS["experiments"]["grcsf"]
    more = {**grcsf, "training": {**grcsf["training"], "learning_rate": 3e-4}}
    project.change("datasets.head.experiments.more", more)
    project.change("datasets.head.experiments.grcsf", None)


def put_older_image(project):
    replaced(tiny.image_of)(project)
    os.utime(tiny.image_of(project.folder / "images", 3), LONG_AGO)


def edit_split(project):
    path = project.folder / HEAD.split
    split = read_json(path)
    roles = split["subsets"]["1"]
    roles["train"], roles["test"] = roles["test"], roles["train"]
    path.write_text(json.dumps(split), "utf-8")


def edit_store(project):
    store = zarr.open(project.folder / STORE, mode="r+")
    store["residual"][:] = store["residual"][:] / 2


def damage_store(project):
    content = bytearray(shard(project).read_bytes())
    content[len(content) // 2] ^= 1
    shard(project).write_bytes(content)


def edit_mask(project):
    folder = project.folder
    other = folder / HEAD.mask("grcsf", 1, "c4", ".nii.gz")
    (folder / HEAD.mask("grcsf", 1, "c3", ".nii.gz")).write_bytes(other.read_bytes() + b"\0")


def edit_scores(project):
    path = project.folder / HEAD.scores("grcsf")
    with path.open(newline="", encoding="utf-8") as file:
        scores = list(csv.DictReader(file))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(scores[0]))
        writer.writeheader()
        writer.writerows({**row, "dice": 0.99} for row in scores)


def edit_numbers(project):
    path = project.folder / HEAD.table(".csv")
    path.write_text(path.read_text("utf-8").replace("unet", "best"), "utf-8")


def copy_to_another_machine(project):
    forget_times(project)
    shutil.rmtree(project.folder / ".snakemake")


def put_back(project):
    results, backup = project.folder / "results", project.folder / "backup"
    shutil.copytree(results, backup)
    project.change("datasets.head.postprocess.probability", 0.4)
    project.run(MASKS)
    shutil.rmtree(results)
    backup.rename(results)


PASSES = [{"mae": "shared", "mask_ratio": ratio, "passes": 3} for ratio in (0.5, 0.75)]
EDITED = "has changed since it was written"

CHANGES = {
    "nothing": Change(lambda _: None),
    "an image touched, same content": Change(touch),
    "the configuration reordered and commented": Change(reorder),
    "threads, memory, minutes or `compile`": Change(change_resources),
    "cases per job": Change(setting("resources.cases_per_job", 2), GRCSF),
    "a shared folder for residual stores": Change(setting("store.root", "cache")),
    "an environment file": Change(
        lambda project: edited(project, "envs/torch.yaml", " torch==", " torch>=")
    ),
    "a rule's text": Change(edit_rules),
    "code in `grcsf/`, no `VERSION` raised": Change(edit_code),
    "another data set's configuration": Change(setting("datasets.heart", None)),
    # every row works on a copy of the project
    "the whole project moved to another path": Change(lambda project: project.copy_checkout()),
    "files copied without their times": Change(forget_times),
    "learning rate of an experiment": Change(
        setting(f"{OF_GRCSF}.training.learning_rate", 3e-4), GRCSF
    ),
    "`rcu.start` or `gcu.start` of an experiment": Change(
        setting(f"{OF_GRCSF}.rcu.start", 0), GRCSF
    ),
    "`residual_input` of an experiment": Change(setting(f"{OF_GRCSF}.residual_input", True), GRCSF),
    "`training.augment` of an experiment": Change(
        setting(f"{OF_GRCSF}.training.augment", {"flip": 0.5}), GRCSF
    ),
    "`training.channels_last` of an experiment": Change(
        setting(f"{OF_GRCSF}.training.channels_last", True), GRCSF
    ),
    "`training.recipe: own`, or a part of it, of an experiment": Change(
        setting(f"{OF_GRCSF}.training.normalise", "dataset"), GRCSF
    ),
    "the weights that an experiment starts from touched, same content": Change(touch_start),
    "the weights that an experiment starts from moved to another path": Change(
        move_start, MORE, adds=("unet", "more")
    ),
    "the weights that an experiment starts from replaced by others": Change(
        replace_start, MORE, adds=("unet", "more")
    ),
    "`labelled_cases` of an experiment": Change(setting(f"{OF_GRCSF}.labelled_cases", 2), GRCSF),
    "`repeats` of an experiment raised": Change(
        setting("datasets.head.experiments.unet.repeats", 2),
        SECOND_REPEAT,
        adds=("unet", "unet/repeat-2"),
    ),
    "epochs of an MAE": Change(setting("datasets.head.mae.shared.epochs", 2), MAE_ON),
    "the recipe of an MAE": Change(setting("datasets.head.mae.shared.recipe", "mae"), MAE_ON),
    "`augment` of an MAE": Change(
        setting("datasets.head.mae.shared.augment", {"flip": 0.5}), MAE_ON
    ),
    "the weights that an MAE starts from moved to another path": Change(move_weights, MAE_ON),
    "the weights that an MAE starts from replaced by others": Change(
        lambda project: tiny.write_weights(project.folder, seed=4), MAE_ON
    ),
    "the weights of SAM moved to another path": Change(move_sam, SAM),
    "the weights of SAM replaced by others": Change(
        lambda project: tiny.write_sam(project.folder, seed=2), SAM
    ),
    "`boxes` of SAM": Change(setting("datasets.heart.experiments.sam.boxes", "slice"), SAM),
    "a file of given predictions edited": Change(edit_given, GIVEN),
    "a file of given predictions replaced by an older file": Change(
        put_older_given, GIVEN, "head: replaced since predict given 1 read it: given/c3.nii.gz"
    ),
    "a file of given predictions added, of a case that is not tested": Change(
        lambda project: tiny.give(project.folder, 0), GIVEN
    ),
    "a file of given predictions removed": Change(deleted(Path("given/c3.nii.gz")), GIVEN),
    "number of passes": Change(setting("datasets.head.residuals.mrm.maps", PASSES), GRCSF),
    "threshold of the post-processing": Change(
        setting("datasets.head.postprocess.probability", 0.4)
    ),
    "a setting of the evaluation": Change(
        setting("datasets.head.evaluation.bootstrap_samples", 200)
    ),
    "`slices.plane` to `axial`, where images are stored otherwise": Change(
        setting("datasets.head.slices.plane", "axial")
    ),
    "`source.tilted`, where no image is tilted": Change(
        setting("datasets.head.source.tilted", "resample")
    ),
    "the split": Change(setting("datasets.heart.split.test", 2), r"\w+ heart"),
    "folds in place of the split, or another number of them": Change(
        setting("datasets.heart.split", {"folds": 2, "validation": 1}),
        r"\w+ heart",
        adds=("subset 1", "subset 2"),
    ),
    "a new experiment": Change(
        setting("datasets.head.experiments.more", {**HEAD_KEYS["experiments"]["unet"], "width": 6}),
        MORE,
        adds=("unet", "more"),
    ),
    "an experiment renamed by moving its folders, and a setting of it changed": Change(
        move_experiment, MORE, adds=("unet", "more")
    ),
    "an experiment removed": Change(setting("datasets.head.experiments.grcsf", None)),
    "a stage's `VERSION` raised": Change(raise_version, BOTH),
    "a new test case": Change(add_test_case),
    "a new training case": Change(listed(range(6))),
    "a healthy scan added": Change(add_healthy),
    "a test case removed": Change(remove_test_case),
    "a test case's label edited": Change(replaced(tiny.label_of)),
    "a test case's image edited": Change(replaced(tiny.image_of)),
    "a test case's image replaced by an older file": Change(
        put_older_image, message="head: replaced since ingest read it: "
    ),
    "the split deleted": Change(deleted(HEAD.split)),
    "the split edited": Change(edit_split, message=f"split.json: {EDITED}"),
    "a case store deleted": Change(deleted(HEAD.case_store("c3"))),
    "a residual store deleted": Change(deleted(STORE), GRCSF, "no longer there, though "),
    "a residual store edited": Change(edit_store, GRCSF, f"c3.zarr: residual {EDITED}"),
    "a residual store damaged": Change(damage_store, GRCSF, "c3.zarr: residual cannot be read"),
    "a residual store's file deleted": Change(lambda project: shard(project).unlink(), GRCSF),
    "a model deleted": Change(
        deleted(HEAD.model("grcsf", 1).with_suffix("") / "model.safetensors"), GRCSF
    ),
    "a mask deleted": Change(deleted(HEAD.mask("grcsf", 1, "c3", ".nii.gz")), GRCSF),
    "a mask edited": Change(edit_mask, GRCSF, f"c3.nii.gz: {EDITED}"),
    "an experiment's scores deleted": Change(deleted(HEAD.scores("grcsf")), GRCSF),
    "an experiment's scores edited": Change(edit_scores, GRCSF, f"grcsf.csv: {EDITED}"),
    "the comparison's numbers deleted": Change(deleted(HEAD.table(".csv"))),
    "the comparison's numbers edited": Change(edit_numbers, message=f"table.csv: {EDITED}"),
    "the report deleted": Change(deleted(HEAD.report)),
    "results copied to another machine": Change(
        copy_to_another_machine, BOTH, "head: its results were not recorded in this work"
    ),
    "results put back from a backup, made with another threshold of the post-processing": Change(
        put_back
    ),
}
