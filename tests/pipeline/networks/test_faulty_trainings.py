"""What a training cannot go on from is one line that says what to do, and loses no epoch."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import PipelineError
from pipeline.networks.nodes import per_process
from pipeline.networks.trainer import user_fault
from pipeline.settings import Resources
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.source_notes import source_changes
from pipeline.train_mae import lesion_free_slices
from tests.pipeline.results import MAE, RESOURCES, UNET
from tests.pipeline.trainings import (
    assert_same,
    killed_before_epoch,
    segment,
    train,
    weights,
)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_store_is_one_line_whoever_reads_it(ingested, workers):
    shard = ingested.case_store("b") / "image/c/0/0/0"
    data = bytearray(shard.read_bytes())
    for place in range(20, len(data) - 300, 40):  # in every slice
        data[place] ^= 4
    shard.write_bytes(data)
    chosen = RESOURCES.model_copy(update={"workers": workers})
    with pytest.raises(PipelineError) as raised:
        train(ingested, MAE, resources=chosen)
    (line,) = str(raised.value).splitlines()
    assert line.startswith(f"store {ingested.case_store('b')}: image cannot be read (")
    assert line.endswith("; delete the store and run again")


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


def test_a_damaged_checkpoint_is_one_line(ingested):
    def assert_damage_is_told(name):
        path = folder_of(ingested.model("grcsf", 1)) / "checkpoints" / name
        whole = path.read_bytes()
        flipped = bytearray(whole)
        flipped[len(whole) // 2] ^= 1
        for damaged in (whole[:2000], flipped):
            path.write_bytes(damaged)
            message = rf"checkpoint .*{name}: damaged .*; delete the folder"
            with pytest.raises(PipelineError, match=message):
                segment(ingested, UNET)
        path.write_bytes(whole)

    with killed_before_epoch(1):
        segment(ingested, UNET)
    assert_damage_is_told("last.ckpt")
    manifest = segment(ingested, UNET)
    (folder_of(manifest) / "model.safetensors").unlink()
    assert_damage_is_told("best.ckpt")


def test_changed_weights_are_noticed(with_mae):
    path = folder_of(with_mae.mae("shared")) / "model.safetensors"
    state = load_file(path)
    state["mask_token"] += 1
    save_file(state, path)
    with pytest.raises(PipelineError, match="its content is not what training wrote"):
        train(with_mae, MAE)


def test_a_checkpoint_of_another_shape_is_one_line(with_mae, tmp_path):
    manifest = with_mae.mae("shared")
    before, path = weights(manifest), tmp_path / "other.pth"
    torch.save({"model": before}, path)
    same = MAE.model_copy(update={"checkpoint": str(path), "epochs": 0})
    with pytest.raises(PipelineError, match=r"checkpoint .*other.pth") as raised:
        train(with_mae, same.model_copy(update={"preset": "small"}))
    assert len(str(raised.value).splitlines()) == 1
    train(with_mae, same)
    assert_same(before, weights(manifest))
    note = with_mae.sources("train_mae shared")
    assert source_changes(note).replaced == []
    torch.save({"model": {}}, path)
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert source_changes(note).replaced == [path], "though it is older"


def test_trainings_tell_a_gpu_that_is_not_there(ingested):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(PipelineError, match=r"resources\.gpus: found 1"):
        train(ingested, MAE, resources=RESOURCES.model_copy(update={"gpus": 1}))
    assert not folder_of(ingested.mae("shared")).exists()


def test_a_training_that_diverged_is_no_finished_model(ingested):
    wild = MAE.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(PipelineError, match=r"diverged, \d+ of its weights"):
        train(ingested, wild)
    assert not ingested.mae("shared").exists()


def test_a_batch_is_shared_out_evenly_or_refused():
    assert per_process(21, Resources(gpus=3)) == 7
    assert per_process(24, Resources(gpus=3, nodes=2)) == 4
    assert per_process(21, Resources()) == 21
    with pytest.raises(PipelineError, match="found 21, expected a multiple of the 2 processes"):
        per_process(21, Resources(gpus=2))


def test_a_killed_loading_process_is_told_where_its_error_broke_a_lock():
    error = RuntimeError("release unlocked lock")
    error.__context__ = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")
    told = user_fault(error, "unet, subset 1", None)
    assert str(told).startswith("unet, subset 1: a process that loads slices was killed")
    assert user_fault(RuntimeError("release unlocked lock"), "unet", None) is None
