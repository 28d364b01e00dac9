"""`grcsf check`: every fault of every case, what a data set is like, and what a run will need."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.check import Check, Finding, check, needs, summary
from pipeline.check_table import print_check
from pipeline.cli import app
from pipeline.grid_picture import box_corners, grid_picture
from pipeline.layout import Layout
from pipeline.settings import Dataset, Resources
from pipeline.volumes import Geometry, write_volume

SHAPE = (8, 24, 20)
GRID = Geometry(SHAPE, (3.0, 0.5, 0.5))
RESOURCES = Resources(threads=2, cache_mb=0)


def settings(**over):
    given = {
        "source": {"adapter": "nnunet", "root": "unused", "modality": "CT"},
        "slices": {"size": [32, 32], "window": [-200, 800]},
        "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}},
        "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
        "experiments": {
            "unetpp": {"model": "unetpp", "width": 8},
            "grcsf": {
                "model": "grcsf",
                "residuals": "mrm",
                "width": 8,
                "rcu": {"patch_sizes": [8, 8, 8]},
            },
        },
    }
    return Dataset.model_validate({**given, **over})


MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]


def write(root, case, image, label=None, label_grid=GRID):
    write_volume(root / "imagesTr" / f"{case}_0000.nii.gz", image, GRID)
    if label is not None:
        write_volume(root / "labelsTr" / f"{case}.nii.gz", label, label_grid)


@pytest.fixture
def root(tmp_path):
    """Two good CTs, the second without lesion."""
    random = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    for case in ("a", "b"):
        image = random.integers(-900, 300, SHAPE).astype(np.int16)
        image[0] = -1000
        label = np.zeros(SHAPE, np.uint8)
        if case == "a":
            label[2:4, 5:9, 5:10] = label[6, 1, 1] = 1
        write(tmp_path / "raw", case, image, label)
    content = {"labels": {"background": 0, "lesion": 1}, "channel_names": {"0": "CT"}}
    content |= {"numTraining": 2, "file_ending": ".nii.gz"}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(content), "utf-8")
    return tmp_path / "raw"


def checked(tmp_path, root, **over):
    return check(Layout(tmp_path / "results", "ct"), settings(**over), root, [], RESOURCES)


def test_a_good_data_set_is_described(tmp_path, root):
    found = checked(tmp_path, root)
    assert found.errors == 0
    assert [one.text.rpartition(": ")[2] for one in found.findings] == ["the label holds no lesion"]
    lines = dict(summary(found))
    assert lines["cases"] == "2, of which 2 can be used"
    assert lines["with reference"] == "2, 1 of them without lesion"
    assert lines["voxels in z"] == "8"
    assert lines["spacing in z, mm"] == "3"
    assert lines["empty slices a case"] == "1"
    assert lines["lesions a case"] == "2"
    assert lines["lesion voxels a case"] == "41"
    assert lines["lesion ml a case"] == f"{41 * 0.75 / 1000:.4g}"
    told = dict(needs(found))
    assert {"disk, case stores", "disk, together", "memory, train_mae shared"} <= set(told)
    written = json.loads((tmp_path / "results/ct/check/check.json").read_text("utf-8"))
    assert written["disk_bytes"] == found.disk
    assert {one["case"]: one["lesions"] for one in written["cases"]} == {"a": 2, "b": 0}


def test_every_fault_of_every_case_is_told_at_once(tmp_path, root):
    image = np.zeros(SHAPE, np.int16)
    image[:, 3:] = -500
    label = np.zeros(SHAPE, np.float32)
    label[3, 3, 3] = 0.4
    write(root, "c", image + 1000, label, Geometry(SHAPE, (3.0, 0.5, 0.6), (9.0, 0.0, 0.0)))
    write(root, "d", image, np.zeros((7, *SHAPE[1:]), np.uint8), Geometry((7, 24, 20), (3, 1, 1)))
    good = (root / "imagesTr" / "a_0000.nii.gz").read_bytes()
    (root / "imagesTr" / "e_0000.nii.gz").write_bytes(good[: len(good) // 2])
    write_volume(root / "labelsTr" / "e.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
    found = checked(tmp_path, root)
    told = {}
    for one in found.findings:
        if one.severity == "error":
            told.setdefault(one.case, []).append(one.text)
    assert set(told) == {"c", "d", "e"}
    said = "\n".join(told["c"])
    for part in ("no plausible HU", "no whole numbers", "label spacing", "label origin"):
        assert part in said
    assert "label shape (7, 24, 20)" in told["d"][0]
    assert "truncated" in told["e"][0]
    assert dict(summary(found))["cases"] == "5, of which 2 can be used"
    page = (tmp_path / "results/ct/check/check.html").read_text("utf-8")
    assert page.count("data:image/png;base64,") == 2, "the two cases whose grids do not agree"
    assert "http" not in page


def test_a_faulty_listing_is_a_finding(tmp_path, root):
    write_volume(root / "labelsTr" / "orphan.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
    found = checked(tmp_path, root)
    assert found.errors == 1
    assert "orphan" in found.findings[0].text
    assert found.disk == {}
    assert "orphan" in (tmp_path / "results/ct/check/check.html").read_text("utf-8")


def test_the_command_ends_with_1_on_errors(tmp_path, root):
    given = settings().model_dump(mode="json", exclude_unset=True)
    given["source"]["root"] = str(root)
    config = tmp_path / "ct.yaml"
    config.write_text(
        yaml.safe_dump({"results": str(tmp_path / "results"), "datasets": {"ct": given}}), "utf-8"
    )
    call = ["check", "--config", str(config), "--dataset", "ct"]
    good = CliRunner().invoke(app, call)
    assert good.exit_code == 0
    assert "ct: 0 errors, 1 notes" in good.output
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"nothing")
    bad = CliRunner().invoke(app, call)
    assert bad.exit_code == 1
    assert "ct: 1 errors" in bad.output


@pytest.mark.parametrize("path", ["/[old]/b.nii.gz", "/data[/old]/b.nii.gz"])
def test_brackets_in_a_path_are_shown_as_they_are(path, capsys):
    print_check(Check("ct", [], [Finding("error", "[b]", path)]))
    told = capsys.readouterr().out
    assert path in told
    assert "[b]" in told


def test_a_grid_s_corners_are_where_its_outermost_voxels_are():
    grid = Geometry((3, 4, 5), (2.0, 1.0, 0.5), (10.0, 0.0, 0.0), (1, 0, 0, 0, 0, -1, 0, 1, 0))
    # y runs along the patient's +x, x along −y
    expected = {(10 + z, y, x) for z, y, x in product((0, 4), (0, -2), (0, 3))}
    assert set(map(tuple, box_corners(grid).tolist())) == expected
    assert box_corners(grid)[0].tolist() == [10, 0, 0]
    assert grid_picture(grid, GRID).startswith(b"\x89PNG")


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


TRAIN = """
import sys
from pipeline.cli import app
from pipeline.devices import peak_memory
app(sys.argv[1:], standalone_mode=False)
print(peak_memory())
"""


@pytest.mark.slow
def test_what_a_run_needs_is_known_within_a_fifth(tmp_path):
    over = {
        "results": str(tmp_path),
        "datasets": {
            "heart": {
                "source": {"phantom": {"cases": 8}},
                "split": {"test": 2, "validation": 2},
                "mae": {"shared": {"epochs": 1}},
                "experiments": {name: {"training": {"epochs": 1}} for name in ("unetpp", "grcsf")},
            }
        },
    }
    config = Path(__file__).parents[2] / "config" / "demo.yaml"
    common = ["--config", str(config), "--dataset", "heart", "--set", json.dumps(over)]

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, *arguments, *common],
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    kind = ["heart", str(tmp_path / "heart" / "phantom"), "--cases", "8", "--seed", "11"]
    subprocess.run(
        [sys.executable, "-m", "pipeline", "phantom", *kind, "--shape", "20", "96", "96"],
        check=True,
        cwd=Path(__file__).parents[2],
    )
    run("ingest")
    run("split")
    peaks = {"train_mae shared": run("train-mae", "--mae", "shared")}
    run("residual-maps", "--residuals", "mrm")
    for name in ("unetpp", "grcsf"):
        peaks[f"train_segmentation {name}"] = run("train-segmentation", "--experiment", name)
        run("predict", "--experiment", name)
    run("check")
    found = json.loads((tmp_path / "heart/check/check.json").read_text("utf-8"))
    stages = ("ingest", "train_mae", "residual_maps", "train_segmentation", "predict")
    disk = sum(used(tmp_path / "heart" / stage) for stage in stages)
    assert sum(found["disk_bytes"].values()) == pytest.approx(disk, rel=0.2)
    assert found["memory_bytes"] == pytest.approx(peaks, rel=0.2)
