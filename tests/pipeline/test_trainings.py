"""Trainings resume to the same bits, start anew for new settings, and leak no test case."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import train_mae as mae_stage
from pipeline import training
from pipeline.errors import PipelineError
from pipeline.files import read_json, write_json
from pipeline.history import read_history
from pipeline.layout import Layout, folder_of, former_of, moving_of
from pipeline.mae_training import MaeTraining
from pipeline.resume import take_back
from pipeline.settings import Experiment, Resources, Training
from pipeline.sources import replaced
from pipeline.train_mae import lesion_free_slices, train_mae
from pipeline.train_segmentation import train_segmentation
from pipeline.training import per_process

SEED = 5


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def weights(manifest):
    return load_file(folder_of(manifest) / "model.safetensors")


def assert_same(left, right):
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert torch.equal(value, right[name]), name


def train(layout, mae, slices, resources):
    train_mae(layout, "shared", mae, slices, SEED, resources)
    return layout.mae("shared")


class KilledError(Exception):
    pass


def kill_after_epoch(monkeypatch, epoch):
    """Break the training off once the checkpoint of `epoch` has been written."""
    original = training.EpochHistory.on_train_epoch_start

    def dying(self, trainer, *rest):
        if trainer.current_epoch == epoch:
            raise KilledError
        original(self, trainer, *rest)

    monkeypatch.setattr(training.EpochHistory, "on_train_epoch_start", dying)


def test_a_killed_loading_process_is_one_line_and_loses_no_epoch(
    ingested, mae, slices, resources, monkeypatch
):
    resources = resources.model_copy(update={"workers": 1})
    original = training.EpochHistory.on_train_epoch_start

    def killing(self, trainer, *rest):
        if trainer.current_epoch == 1:
            for child in multiprocessing.active_children():
                os.kill(child.pid, signal.SIGKILL)
        original(self, trainer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(training.EpochHistory, "on_train_epoch_start", killing)
        with pytest.raises(PipelineError, match="MAE shared: a process that loads slices was kill"):
            train(ingested, mae, slices, resources)
    resumed = train(ingested, mae, slices, resources)
    rows = read_history(folder_of(resumed) / "history.csv")
    assert [row["epoch"] for row in rows] == [0, 1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_store_is_one_line_whoever_reads_it(ingested, mae, slices, resources, workers):
    shard = ingested.case_store("b") / "image/c/0/0/0"
    data = bytearray(shard.read_bytes())
    for place in range(20, len(data) - 300, 40):  # in every slice
        data[place] ^= 4
    shard.write_bytes(data)
    resources = resources.model_copy(update={"workers": workers})
    with pytest.raises(PipelineError) as told:
        train(ingested, mae, slices, resources)
    (line,) = str(told.value).splitlines()
    assert line.startswith(f"store {ingested.case_store('b')}: image cannot be read (")
    assert line.endswith("; delete the store and run again")


def test_only_lesion_free_slices_of_training_cases_are_learnt(ingested):
    cases = read_json(ingested.cases)["cases"]
    train_slices, validation = lesion_free_slices(ingested, cases)
    assert train_slices == [(case, z) for case in "ab" for z in (1, 4, 5)]
    assert validation == [("c", z) for z in (1, 4, 5)]


def test_a_split_that_leaks_is_refused(ingested):
    content = read_json(ingested.split)
    content["subsets"]["2"] = {"train": ["d"], "validation": ["c"], "test": ["a"]}
    write_json(ingested.split, content)
    with pytest.raises(PipelineError, match="a, d both train and test"):
        lesion_free_slices(ingested, read_json(ingested.cases)["cases"])


def test_without_lesion_free_slices_the_fault_is_told(ingested):
    content = read_json(ingested.cases)
    for case in content["cases"].values():
        case["slices_with_lesion"] = list(range(6))
    with pytest.raises(PipelineError, match="the 2 train cases hold no slice without lesion"):
        lesion_free_slices(ingested, content["cases"])


def test_an_interrupted_mae_training_ends_in_the_same_bits(
    ingested, mae, slices, resources, monkeypatch, tmp_path
):
    whole = weights(train(ingested, mae, slices, resources))
    for manifest in (ingested.mae("shared"),):
        folder_of(manifest).rename(tmp_path / "whole")
        manifest.unlink()
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 1)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    assert not ingested.mae("shared").exists()
    resumed = train(ingested, mae, slices, resources)
    assert_same(whole, weights(resumed))
    rows = read_history(folder_of(resumed) / "history.csv")
    assert [row["epoch"] for row in rows] == [0, 1]


def test_a_training_goes_on_from_its_last_epoch_and_not_from_its_best(
    ingested, mae, slices, resources, monkeypatch
):
    def rising(self, batch, _):
        self.log("validation_loss", float(self.current_epoch), batch_size=len(batch["image"]))

    monkeypatch.setattr(MaeTraining, "validation_step", rising)
    mae = mae.model_copy(update={"epochs": 4})
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 3)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    started = []

    def noting(self, trainer, *rest):
        started.append(trainer.current_epoch)
        original(self, trainer, *rest)

    original = training.EpochHistory.on_train_epoch_start
    monkeypatch.setattr(training.EpochHistory, "on_train_epoch_start", noting)
    manifest = train(ingested, mae, slices, resources)
    assert started == [3]
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["epoch"] == 0


def test_a_training_that_was_moved_keeps_its_best_epoch(
    ingested, mae, slices, resources, monkeypatch
):
    losses = (3.0, 1.0, 2.5, 2.0)  # the second epoch is the best; the stop comes after it

    def given(self, batch, _):
        self.log("validation_loss", losses[self.current_epoch], batch_size=len(batch["image"]))

    monkeypatch.setattr(MaeTraining, "validation_step", given)
    mae = mae.model_copy(update={"epochs": 4})
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 2)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    moved = ingested.root.with_name("moved")
    ingested.root.rename(moved)
    manifest = train(Layout(moved, ingested.dataset), mae, slices, resources)
    rows = read_history(folder_of(manifest) / "history.csv")
    assert [row["validation_loss"] for row in rows] == list(losses)
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["epoch"] == 1
    assert not ingested.root.exists()


def test_a_finished_mae_is_not_trained_again_and_other_settings_start_anew(
    ingested, mae, slices, resources, monkeypatch
):
    manifest = train(ingested, mae, slices, resources)
    first = weights(manifest)
    manifest.unlink()
    with monkeypatch.context() as patched:
        patched.setattr(mae_stage, "fit", lambda *_, **__: pytest.fail("trained again"))
        train(ingested, mae, slices, resources)
    assert manifest.exists()
    train(ingested, mae.model_copy(update={"learning_rate": 1e-2}), slices, resources)
    assert not torch.equal(weights(manifest)["mask_token"], first["mask_token"])


def test_a_change_that_is_taken_back_costs_no_second_training(
    ingested, mae, slices, resources, monkeypatch
):
    other = mae.model_copy(update={"learning_rate": 2e-3})
    first = weights(train(ingested, mae, slices, resources))
    second = weights(train(ingested, other, slices, resources))
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)  # no training may start
        assert_same(first, weights(train(ingested, mae, slices, resources)))
        assert_same(second, weights(train(ingested, other, slices, resources)))


def test_a_training_that_was_broken_off_takes_no_finished_one_s_place(
    ingested, mae, slices, resources, monkeypatch
):
    first = weights(train(ingested, mae, slices, resources))
    for rate in (2e-3, 3e-3):
        other = mae.model_copy(update={"learning_rate": rate})
        with monkeypatch.context() as patched:
            kill_after_epoch(patched, 1)
            with pytest.raises(KilledError):
                train(ingested, other, slices, resources)
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        assert_same(first, weights(train(ingested, mae, slices, resources)))


def kill_at_rename_to(monkeypatch, target):
    original = Path.rename

    def dying(self, to):
        if Path(to) == target:
            raise KilledError
        return original(self, to)

    monkeypatch.setattr(Path, "rename", dying)


@pytest.mark.parametrize(
    ("stopped_before", "following"),
    [("it was back", 2e-3), ("it was back", 3e-3), ("the other was kept", 2e-3)],
)
def test_a_training_that_was_on_its_way_back_is_not_lost(
    ingested, mae, slices, resources, monkeypatch, stopped_before, following
):
    one, two, third = (mae.model_copy(update={"learning_rate": x}) for x in (1e-3, 2e-3, following))
    first = weights(train(ingested, one, slices, resources))
    train(ingested, two, slices, resources)
    folder = folder_of(ingested.mae("shared"))
    with monkeypatch.context() as patched:
        kill_at_rename_to(patched, folder if stopped_before == "it was back" else former_of(folder))
        with pytest.raises(KilledError):
            train(ingested, one, slices, resources)
    assert moving_of(folder).exists()
    with monkeypatch.context() as patched:
        if third == two:
            kill_after_epoch(patched, 0)  # no training may start
        train(ingested, third, slices, resources)
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        assert_same(first, weights(train(ingested, one, slices, resources)))
    assert not moving_of(folder).exists()


def test_a_finished_training_on_its_way_back_goes_before_a_kept_one_that_is_not(tmp_path):
    folder, now = tmp_path / "net", "c"
    for place, key in ((folder, "b"), (former_of(folder), "x"), (moving_of(folder), "a")):
        write_json(place / "started.json", {"fingerprint": key})
    write_json(moving_of(folder) / "model.json", {})
    take_back(folder, now)
    assert read_json(former_of(folder) / "started.json") == {"fingerprint": "a"}
    assert not moving_of(folder).exists()
    take_back(folder, "a")
    assert read_json(folder / "started.json") == {"fingerprint": "a"}


def test_a_replaced_training_is_kept_from_the_moment_it_is_replaced(
    ingested, mae, slices, resources
):
    folder = folder_of(train(ingested, mae, slices, resources))
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (1, 1))
    before = time.time() - 1
    train(ingested, mae.model_copy(update={"learning_rate": 2e-3}), slices, resources)
    assert former_of(folder).stat().st_mtime > before


def test_the_masks_of_training_change_with_the_seed(ingested, mae, slices, resources):
    first = weights(train(ingested, mae, slices, resources))
    train_mae(ingested, "shared", mae, slices, SEED + 1, resources)
    assert not torch.equal(weights(ingested.mae("shared"))["mask_token"], first["mask_token"])


def cut(content):
    del content[2000:]


def flip_a_bit(content):
    content[len(content) // 2] ^= 1


damages = pytest.mark.parametrize("damage", [cut, flip_a_bit])


def damage_file(path, damage):
    content = bytearray(path.read_bytes())
    damage(content)
    path.write_bytes(content)


@damages
def test_a_damaged_checkpoint_is_one_line(ingested, mae, slices, resources, monkeypatch, damage):
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 1)
        with pytest.raises(KilledError):
            train(ingested, mae, slices, resources)
    damage_file(folder_of(ingested.mae("shared")) / "checkpoints" / "last.ckpt", damage)
    with pytest.raises(
        PipelineError, match=r"checkpoint .*last.ckpt: damaged .*; delete the folder"
    ):
        train(ingested, mae, slices, resources)


@damages
def test_a_damaged_best_checkpoint_is_one_line(ingested, slices, resources, damage):
    folder = folder_of(segment(ingested, UNET, slices, resources))
    (folder / "model.safetensors").unlink()
    damage_file(folder / "checkpoints" / "best.ckpt", damage)
    with pytest.raises(
        PipelineError, match=r"checkpoint .*best.ckpt: damaged .*; delete the folder"
    ):
        segment(ingested, UNET, slices, resources)


def test_changed_weights_are_noticed(ingested, mae, slices, resources):
    manifest = train(ingested, mae, slices, resources)
    path = folder_of(manifest) / "model.safetensors"
    state = load_file(path)
    state["mask_token"] += 1
    save_file(state, path)
    with pytest.raises(PipelineError, match="its content is not what training wrote"):
        train(ingested, mae, slices, resources)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "not there"), (b"no weights at all", "damaged, or holds more than weights")],
)
def test_a_public_checkpoint_that_cannot_be_used_is_one_line(
    ingested, mae, slices, resources, tmp_path, content, said
):
    path = tmp_path / "mae.pth"
    if content is not None:
        path.write_bytes(content)
    start = mae.model_copy(update={"checkpoint": str(path), "epochs": 0})
    with pytest.raises(PipelineError, match=said) as raised:
        train(ingested, start, slices, resources)
    assert len(str(raised.value).splitlines()) == 1


def test_a_checkpoint_of_another_shape_is_one_line(ingested, mae, slices, resources, tmp_path):
    manifest = train(ingested, mae, slices, resources)
    path = tmp_path / "other.pth"
    torch.save({"model": weights(manifest)}, path)
    start = mae.model_copy(update={"checkpoint": str(path), "epochs": 0, "preset": "small"})
    with pytest.raises(PipelineError, match=r"checkpoint .*other.pth") as raised:
        train(ingested, start, slices, resources)
    assert len(str(raised.value).splitlines()) == 1
    same = mae.model_copy(update={"checkpoint": str(path), "epochs": 0})
    before = weights(manifest)
    train(ingested, same, slices, resources)
    assert_same(before, weights(manifest))
    note = ingested.sources("train_mae shared")
    assert replaced(note) == []
    torch.save({"model": {}}, path)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert replaced(note) == [path], "though it is older"


def segment(layout, experiment, slices, resources):
    train_segmentation(layout, "grcsf", 1, experiment, 2, slices, SEED, resources)
    return layout.model("grcsf", 1)


def test_an_interrupted_segmentation_training_ends_in_the_same_bits(
    with_residuals, experiment, slices, resources, monkeypatch, tmp_path
):
    plateau = {"plateau": {"factor": 0.5, "patience": 1}, "epochs": 3, "warmup_epochs": 1}
    training_settings = experiment.training.model_validate(
        {**experiment.training.model_dump(), **plateau}
    )
    experiment = experiment.model_copy(update={"training": training_settings})
    manifest = segment(with_residuals, experiment, slices, resources)
    whole = weights(manifest)
    folder_of(manifest).rename(tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 2)
        with pytest.raises(KilledError):
            segment(with_residuals, experiment, slices, resources)
    assert_same(whole, weights(segment(with_residuals, experiment, slices, resources)))
    rates = [
        [row["learning_rate"] for row in read_history(folder / "history.csv")]
        for folder in (tmp_path / "whole", folder_of(manifest))
    ]
    assert rates[0] == rates[1]


UNET = Experiment(model="unet", width=2, training=Training(epochs=2, batch_size=4, warmup_epochs=1))


def lose_model(manifest, checkpoint):
    for name in ("model.safetensors", f"checkpoints/{checkpoint}.ckpt"):
        (folder_of(manifest) / name).unlink()


def test_a_model_without_its_best_checkpoint_is_trained_anew(
    ingested, slices, resources, monkeypatch, caplog
):
    manifest = segment(ingested, UNET, slices, resources)
    before = weights(manifest)
    lose_model(manifest, "best")
    caplog.clear()
    with caplog.at_level("INFO"), monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        with pytest.raises(KilledError):
            segment(ingested, UNET, slices, resources)
    best = folder_of(manifest) / "checkpoints" / "best.ckpt"
    said = [record.getMessage() for record in caplog.records]
    assert said.count(f"{best} is missing: starting anew") == 1
    last = best.with_name("last.ckpt")
    assert not last.exists(), "a second stop would go on from the lost training"
    assert_same(before, weights(segment(ingested, UNET, slices, resources)))


def test_an_mae_without_its_best_checkpoint_is_taken_from_its_last(
    ingested, mae, slices, resources, monkeypatch
):
    manifest = train(ingested, mae, slices, resources)
    before = weights(manifest)
    lose_model(manifest, "best")
    with monkeypatch.context() as patched:
        kill_after_epoch(patched, 0)
        assert_same(before, weights(train(ingested, mae, slices, resources)))


def test_a_missing_residual_store_names_its_case(with_residuals, experiment, slices, resources):
    shutil.rmtree(with_residuals.residual_store("mrm", "b"))
    with pytest.raises(PipelineError, match=r"case b: residual store .* run residual-maps again"):
        segment(with_residuals, experiment, slices, resources)


def test_a_checkpoint_that_is_only_used_needs_no_slice(ingested, mae, slices, resources, tmp_path):
    path = tmp_path / "mae.safetensors"
    path.write_bytes(
        (folder_of(train(ingested, mae, slices, resources)) / "model.safetensors").read_bytes()
    )
    content = read_json(ingested.cases)
    for case in content["cases"].values():
        case["slices_with_lesion"] = list(range(6))
    write_json(ingested.cases, content)
    used = mae.model_copy(update={"checkpoint": str(path), "epochs": 0})
    assert_same(load_file(path), weights(train(ingested, used, slices, resources)))


def test_an_mae_is_not_trained_again_where_its_checkpoint_has_moved(
    ingested, mae, slices, resources, monkeypatch, tmp_path
):
    first, moved = tmp_path / "mae.safetensors", tmp_path / "elsewhere" / "weights.safetensors"
    shutil.copy(folder_of(train(ingested, mae, slices, resources)) / "model.safetensors", first)

    def start_from(path):
        return train(ingested, mae.model_copy(update={"checkpoint": str(path)}), slices, resources)

    before = weights(start_from(first))
    moved.parent.mkdir()
    first.rename(moved)
    kill_after_epoch(monkeypatch, 0)
    assert_same(before, weights(start_from(moved)))
    save_file({name: value + 1 for name, value in before.items()}, moved)
    with pytest.raises(KilledError):
        start_from(moved)


def test_trainings_tell_a_gpu_that_is_not_there(ingested, mae, slices, resources):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(PipelineError, match=r"resources\.gpus: found 1"):
        train_mae(ingested, "shared", mae, slices, SEED, resources.model_copy(update={"gpus": 1}))
    assert not folder_of(ingested.mae("shared")).exists()


def test_a_training_that_diverged_is_no_finished_model(ingested, mae, slices, resources):
    wild = mae.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(PipelineError, match=r"diverged, \d+ of its weights"):
        train_mae(ingested, "shared", wild, slices, SEED, resources)
    assert not ingested.mae("shared").exists()


def test_a_batch_is_shared_out_evenly_or_refused():
    assert per_process(21, Resources(gpus=3)) == 7
    assert per_process(24, Resources(gpus=3, nodes=2)) == 4
    assert per_process(21, Resources()) == 21
    with pytest.raises(PipelineError, match="found 21, expected a multiple of the 2 processes"):
        per_process(21, Resources(gpus=2))
