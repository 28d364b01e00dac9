"""The disk that a run will take, against what a run has taken."""

import json

import pytest
import yaml

from pipeline.cli import app
from pipeline.planning.disk import disk_needed
from pipeline.settings import Dataset

MAE = {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}
MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
GRCSF = {"model": "grcsf", "residuals": "mrm", "width": 4, "rcu": {"patch_sizes": [4, 4, 8]}}
TRAINING = {"epochs": 1, "batch_size": 8, "warmup_epochs": 0, "lesion_free_fraction": 0.3}
HEART = {
    "source": {"adapter": "orcascore", "root": "images"},
    "slices": {"size": [64, 64], "window": [-200, 800]},
    "split": {"test": 2, "validation": 1},
    "mae": {"shared": MAE},
    "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
    "experiments": {"grcsf": {**GRCSF, "training": TRAINING}},
}


def test_each_fold_keeps_an_mae_and_each_of_its_repeats_a_network():
    def kept(split, repeats):
        experiments = {"grcsf": {**HEART["experiments"]["grcsf"], "repeats": repeats}}
        dataset = Dataset.model_validate({**HEART, "split": split, "experiments": experiments})
        needed = disk_needed(dataset, [])
        return needed["trained networks"], needed["trained MAEs"]

    networks, maes = kept({}, 1)
    assert kept({"folds": 3}, 2) == (6 * networks, 3 * maes)


@pytest.mark.slow
def test_what_a_run_takes_is_known_within_a_fifth(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"datasets": {"heart": HEART}}), "utf-8")
    common = ["--config", "config.yaml", "--dataset", "heart"]
    written = ["heart", "images", "--cases", "4", "--seed", "11", "--shape", "20", "96", "96"]
    app(["phantom", *written], standalone_mode=False)
    stages = ["ingest", "split", "train-mae --mae shared", "residual-maps --residuals mrm"]
    stages += [f"{stage} --experiment grcsf" for stage in ("train-segmentation", "predict")]
    for command in [*stages, "check"]:
        app([*command.split(), *common], standalone_mode=False)
    check = json.loads((tmp_path / "results/heart/check/check.json").read_text("utf-8"))
    kinds = {
        "case stores": "ingest",
        "trained MAEs": "train_mae",
        "residual stores": "residual_maps",
        "trained networks": "train_segmentation",
        "predictions": "predict",
    }
    taken = {
        kind: sum(
            file.stat().st_size
            for file in (tmp_path / "results/heart" / stage).rglob("*")
            if file.is_file()
        )
        for kind, stage in kinds.items()
    }
    assert check["disk_bytes"] == pytest.approx(taken, rel=0.2)
