"""Jobs killed at random file operations leave nothing half done, and end with the same bits."""

import errno
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch

from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.ingest import ingest
from pipeline.networks.history import read_history
from pipeline.networks.resume import WholeCheckpoints
from pipeline.residual_maps import residual_maps
from pipeline.settings import Experiment, Mae, Residuals, Resources, Slices, Source, Training
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import verify_store
from pipeline.tools.store.inventory import list_stores
from pipeline.train_mae import train_mae
from pipeline.train_segmentation import train_segmentation

KILLS = 3
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "os.symlink")
SOURCE = Source(adapter="orcascore", root="raw")
RESOURCES = Resources(threads=1, slices_per_batch=7, cache_mb=50)
SLICES = Slices(size=(32, 32), window=(0, 150))
MAE = Mae(preset="tiny", image_size=32, patch_size=8, epochs=2, batch_size=8, learning_rate=1e-3)
MAPS = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
RESIDUALS = Residuals.model_validate({"preset": "fast", "maps": MAPS, "precision": "fp32"})
TRAINING = Training(epochs=3, batch_size=8, warmup_epochs=1, patience=1, learning_rate=0.1)
EXPERIMENT = Experiment(model="unet", width=2, training=TRAINING)
STAGES = {
    "ingest": lambda layout: ingest(layout, SOURCE, layout.root / "raw", [], 1),
    "residual_maps": lambda layout: residual_maps(
        layout, "mrm", "1of1", RESIDUALS, {"shared": MAE}, (1,), SLICES, 5, RESOURCES
    ),
    "train_mae": lambda layout: train_mae(layout, "shared", MAE, SLICES, 5, RESOURCES),
    "train_segmentation": lambda layout: train_segmentation(
        layout, "unet", 1, EXPERIMENT, 0, SLICES, 5, RESOURCES
    ),
}
SERVER = multiprocessing.get_context("forkserver")
# processes are forked from one that has imported all this, and has neither threads nor gradients
SERVER.set_forkserver_preload([__name__, "SimpleITK", "torch.utils.tensorboard"])


def work(stage: str, layout: Layout, kill_at: int, counted: Path) -> None:
    """Run a stage, and kill this process before its `kill_at`th file operation in the results."""
    operations = []

    def watch(event: str, arguments: tuple) -> None:
        flags = arguments[2] if event == "open" and isinstance(arguments[2], int) else 0
        changes = event in CHANGES or flags & (os.O_WRONLY | os.O_RDWR)
        if changes and str(arguments[0]).startswith(str(layout.root)):
            operations.append(event)
            if len(operations) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    torch.set_num_threads(1)
    sys.addaudithook(watch)
    STAGES[stage](layout)
    counted.write_text(str(len(operations)))


def run(stage: str, layout: Layout, kill_at: int = 0) -> int:
    """Exit code of the stage's process."""
    counted = layout.root.with_suffix(".count")
    process = SERVER.Process(target=work, args=(stage, layout, kill_at, counted))
    process.start()
    process.join()
    return process.exitcode


def finished_stores(layout):
    """Every store that has its name is whole."""
    paths = {store.path for store in list_stores(layout)}
    for path in paths:
        verify_store(path)
    return paths


def result(stage, layout):
    """All that a stage made, but times."""
    if stage in ("ingest", "residual_maps"):
        shards = {
            path.relative_to(layout.root): file_digest(path)
            for store in finished_stores(layout)
            for path in store.rglob("*")
            if path.is_file() and path.name != "zarr.json"
        }
        manifest = layout.cases if stage == "ingest" else layout.residual_batch("mrm", "1of1")
        return shards, read_json(manifest)
    manifest = layout.mae("shared") if stage == "train_mae" else layout.model("unet", 1)
    rows = read_history(folder_of(manifest) / "history.csv")
    for row in rows:
        del row["seconds"]
    return file_digest(folder_of(manifest) / "model.safetensors"), rows, read_json(manifest)


@pytest.fixture
def start(ingested_once, trained_once, tmp_path):
    """The tree that a stage starts from."""
    raw = Layout(tmp_path / "start", "discs")
    write_phantom("heart", raw.root / "raw", cases=4, seed=1, shape=(8, 16, 16))
    return {
        "ingest": raw,
        "train_mae": ingested_once,
        "residual_maps": trained_once,
        "train_segmentation": ingested_once,
    }


@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("stage", STAGES)
def test_a_job_killed_at_any_moment_goes_on_and_ends_with_the_same_bits(stage, start, tmp_path):
    origin = start[stage]
    whole = Layout(tmp_path / "whole", origin.dataset)
    shutil.copytree(origin.root, whole.root)
    assert run(stage, whole) == 0
    expected = result(stage, whole)
    operations = int(whole.root.with_suffix(".count").read_text())
    assert operations > KILLS
    moments = random.Random(json.dumps(stage))
    kills = rounds = 0
    while kills < KILLS:
        rounds += 1
        layout = Layout(tmp_path / f"killed-{rounds}", origin.dataset)
        shutil.copytree(origin.root, layout.root)
        stores = finished_stores(layout)
        # killed again and again until a run comes to its end
        while code := run(stage, layout, moments.randint(1, operations)):
            assert code == -signal.SIGKILL
            kills += 1
            now = finished_stores(layout)
            assert stores <= now, "a store that was finished is lost"
            stores = now
        assert result(stage, layout) == expected


def test_a_checkpoint_that_is_cut_off_leaves_the_one_before(tmp_path, monkeypatch):
    path, writer = tmp_path / "checkpoints" / "last.ckpt", WholeCheckpoints()
    writer.save_checkpoint({"epoch": 1}, path)

    def cut_off(_, file):
        assert file.parent == path.parent, "a rename from another file system is a copy"
        file.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", cut_off)
    with pytest.raises(OSError, match="No space left") as raised:
        writer.save_checkpoint({"epoch": 2}, path)
    assert raised.value.filename == str(path)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    assert writer.load_checkpoint(path, weights_only=True) == {"epoch": 1}
