"""What a run will need, against what it then uses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import app


def used(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


TRAIN = """
import sys
from pipeline.cli import app
from pipeline.orchestration.environment import peak_resident
app(sys.argv[1:], standalone_mode=False)
print(peak_resident())
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
    config = Path(__file__).parents[3] / "config" / "demo.yaml"
    common = ["--config", str(config), "--dataset", "heart", "--set", json.dumps(over)]

    def run(*arguments):
        app([*arguments, *common], standalone_mode=False)

    def peak_of(*arguments):
        done = subprocess.run(
            [sys.executable, "-c", TRAIN, *arguments, *common],
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout.split()[-1])

    kind = ["heart", str(tmp_path / "heart" / "phantom"), "--cases", "8", "--seed", "11"]
    app(["phantom", *kind, "--shape", "20", "96", "96"], standalone_mode=False)
    run("ingest")
    run("split")
    peaks = {"train_mae shared": peak_of("train-mae", "--mae", "shared")}
    run("residual-maps", "--residuals", "mrm")
    for name in ("unetpp", "grcsf"):
        peaks[f"train_segmentation {name}"] = peak_of("train-segmentation", "--experiment", name)
        run("predict", "--experiment", name)
    run("check")
    found = json.loads((tmp_path / "heart/check/check.json").read_text("utf-8"))
    stages = ("ingest", "train_mae", "residual_maps", "train_segmentation", "predict")
    disk = sum(used(tmp_path / "heart" / stage) for stage in stages)
    assert sum(found["disk_bytes"].values()) == pytest.approx(disk, rel=0.2)
    assert found["memory_bytes"] == pytest.approx(peaks, rel=0.2)
