"""The three data sets at full size, as empty files: their plans, and docs/reference/scale.md."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import app
from pipeline.storage.batches import batch_names

ROOT = Path(__file__).parents[2]
METHODS = 10  # of Table 1
COHORTS = 33
TABLES = re.compile(r"^### `config/(\w+)\.yaml`\n\n(.*?)(?=^#|\Z)", re.MULTILINE | re.DOTALL)
ROW = re.compile(r"^\| (\w+) +\| +([\d,]+) \| +(\S+) \| +([\d.]+ \w?B|–) \|$", re.MULTILINE)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def atlas(root: Path, cases: int) -> None:
    """More cohorts than the other tests need, and unequal ones, of which a fifth can be taken."""
    for index in range(cases):
        cohort = 1 + int(COHORTS * (index * 0.618 % 1) ** 1.5)
        name = f"sub-r{cohort:03d}s{index + 1:03d}"
        stem = f"{name}_ses-1_space-MNI152NLin2009aSym"
        folder = root / "Training" / f"R{name[5:8]}" / name / "ses-1" / "anat"
        touch(folder / f"{stem}_T1w.nii.gz")
        touch(folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz")


def lung(root: Path, cases: int) -> None:
    names = [f"lung_{index:03d}.nii.gz" for index in range(cases)]
    pairs = [{"image": f"./imagesTr/{one}", "label": f"./labelsTr/{one}"} for one in names]
    touch(*(root / folder / name for folder in ("imagesTr", "labelsTr") for name in names))
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "training": pairs}))


def orcascore(root: Path, cases: int) -> None:
    """32 with reference where there are 72; in any number, 40 of 72 are to be predicted only."""
    labelled = round(cases * 32 / 72)
    for index in range(cases):
        kind, number = ("TR", index) if index < labelled else ("TE", index - labelled)
        name = f"{kind}V{number % 4 + 1}P{number}"
        part = "Training Set" if index < labelled else "Test Set"
        for suffix in ("mhd", "raw"):
            touch(root / part / "Images" / f"{name}CTI.{suffix}")
            if index < labelled:
                touch(root / part / "Reference standard" / f"{name}R.{suffix}")


# by data set: how its files look, its cases at full size; fewer, and how many of these share a job
# for as many batches
FULL = {
    "atlas": (atlas, 655, 164, 20),
    "lung": (lung, 63, 24, 80),
    "orcascore": (orcascore, 72, 18, 20),
}
# The processor's, which do not depend on what else the machine does; 2 to 6 were measured. A guard
# against work that grows with the cases; benchmarks/planning.py times a call by the clock.
DRY_RUN_SECONDS = 20


def full_config(name: str, root: Path) -> dict:
    """The paper's configuration; for ATLAS the ablations, too."""
    file = "ablations" if name == "atlas" else name
    config, paper = (
        yaml.safe_load((ROOT / "config" / f"{one}.yaml").read_text("utf-8")) for one in (file, name)
    )
    dataset = config["datasets"][name]
    dataset["source"]["root"] = str(root)
    for part in ("experiments", "tables"):
        dataset[part] |= paper["datasets"][name][part]
    return config


@pytest.mark.parametrize("name", FULL)
def test_only_the_batches_at_full_size_depend_on_the_number_of_cases(project, name):
    write, many, fewer, together = FULL[name]
    images = project.folder / "images"
    config = full_config(name, images)
    touch(project.folder / config["datasets"][name]["experiments"]["sam"]["checkpoint"])
    batches = batch_names(many, config["resources"]["cases_per_job"])
    assert batch_names(fewer, together) == batches
    project.configure({**config, "resources": {"cases_per_job": together}})
    write(images, fewer)
    counts = project.plan("--quiet", "reason").counts
    project.configure(config)
    write(images, many)
    plan = project.plan("--quiet", "reason")
    assert plan.counts == counts
    assert plan.seconds < DRY_RUN_SECONDS
    subsets = 4 if name == "atlas" else 1
    once = counts["predict"] - subsets * METHODS
    # the ablations' own rows: two more on all subsets, the others on one
    assert once == (2 * 4 + 22 if name == "atlas" else 0)


@pytest.fixture(scope="module")
def documented():
    return dict(TABLES.findall((ROOT / "docs" / "reference" / "scale.md").read_text("utf-8")))


def test_every_reference_configuration_has_its_table(documented):
    assert set(documented) == {*FULL, "ablations"}


def planned(file: str, images: Path, capsys, *arguments: str) -> list[tuple[str, ...]]:
    """The rows that `grcsf plan` prints for a reference configuration at full size."""
    name = "atlas" if file == "ablations" else file
    over: dict[str, Any] = {"source": {"root": str(images)}}
    if file in FULL:  # the ablations have no SAM, whose weights are not here
        over["experiments"] = {"sam": {"checkpoint": "random"}}
    given = json.dumps({"datasets": {name: over}})
    app(["plan", f"{ROOT}/config/{file}.yaml", "--set", given, *arguments], standalone_mode=False)
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) < 80
    return ROW.findall(told)


# both figures of a configuration in one test: its networks are counted once
@pytest.mark.slow
@pytest.mark.parametrize("file", [*FULL, "ablations"])
def test_the_documented_table_and_hours_are_what_the_command_prints(
    file, documented, tmp_path, capsys
):
    images = tmp_path / "images"
    write, cases, *_ = FULL["atlas" if file == "ablations" else file]
    write(images, cases)
    printed = planned(file, images, capsys, "--hours")
    assert len(printed) >= 11
    assert ROW.findall(documented[file]) == printed
    if file == "ablations":  # of whose hours on a measured card the page says nothing
        return
    rates = str(ROOT / "benchmarks" / "rates-h200.json")
    found = {stage: hours for stage, _, hours, _ in planned(file, images, capsys, "--rates", rates)}
    stages = ("train_mae", "residual_maps", "train_segmentation", "predict", "together")
    row = " | ".join([f"| `config/{file}.yaml`", *(found[one] for one in stages)])
    assert f"{row} |\n" in (ROOT / "docs" / "reference" / "scale.md").read_text("utf-8")


@pytest.mark.processes
@pytest.mark.parametrize(
    ("script", "options", "rows"),
    [
        ("planning.py", ["--repeats", "1"], "dry run|nothing to do"),
        ("scale.py", [], "dry run|nothing to do|summary|store ls|check|report"),
    ],
)
def test_the_benchmarks_of_many_cases_run(tmp_path, script, options, rows):
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")  # where it keeps its figures
    for name in ("config", "pipeline", "grcsf", "workflow"):
        (tmp_path / name).symlink_to(ROOT / name)
    command = [sys.executable, tmp_path / "benchmarks" / script, "--cases", "16", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = re.findall(rf"^({rows}) +16 ", done.stdout, re.MULTILINE)
    assert found == rows.split("|")
