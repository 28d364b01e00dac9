"""What changes a finished project, as a user, a disk or another machine would."""

import csv
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml
import zarr

from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from tests.workflow import tiny

HEAD = Layout(Path("results"), "head")
MASKS = str(HEAD.masks("grcsf", 1))
STORE = HEAD.residual_store("mrm", "c3")
LONG_AGO = (1_577_836_800, 1_577_836_800)
HEAD_KEYS = tiny.configuration()["datasets"]["head"]


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


def add_external(project):
    """An image that was not listed, as the only one of a data set elsewhere."""
    images, folder = project.folder / "images", project.folder / "elsewhere"
    folder.mkdir()
    paths = (tiny.image_of(images, 6), tiny.label_of(images, 6))
    row = ",".join(["c6", *(os.path.relpath(path, folder) for path in paths)])
    (folder / "manifest.csv").write_text(f"case,image,label\n{row}\n")
    mask = tiny.give(project.folder, 6)
    mask.rename(mask.with_name(f"clinic-{mask.name}"))
    external = {"clinic": {"adapter": "manifest", "root": "elsewhere"}}
    project.change("datasets.head.external", external)


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
    project.change("datasets.head.mae.shared.logger", "mlflow")
    project.change("datasets.heart.experiments.unet.training.logger", "wandb")


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
    """A finished experiment `more` that starts from public weights; made once, and copied."""
    begun = project.folder.parent.parent / "begun-project"
    if begun.exists():
        shutil.rmtree(project.folder)
        subprocess.run(["cp", "-a", begun, project.folder], check=True)
        return
    tiny.write_start(project.folder / "start.pth", seed=3)
    more = tiny.started("start.pth", HEAD_KEYS["experiments"]["unet"])
    project.change("datasets.head.experiments.more", more)
    project.run()
    subprocess.run(["cp", "-a", project.folder, begun], check=True)


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
