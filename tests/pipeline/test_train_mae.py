"""MAE trainings resume to the same bits, start anew for new settings, and see no test case."""

import shutil

import pytest
from safetensors.torch import load_file, save_file

from pipeline import train_mae as stage
from pipeline.networks.history import read_history
from pipeline.settings import Mae
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.train_mae import lesion_free_slices, train_mae
from tests.pipeline.results import MAE, RESOURCES, SLICES
from tests.pipeline.trainings import (
    SEED,
    KilledError,
    assert_same,
    begins,
    differing,
    killed_before_epoch,
    nothing_trained,
    train,
    weights,
)


def test_only_lesion_free_slices_of_training_cases_are_learnt(ingested):
    cases = read_json(ingested.cases)["cases"]
    train_slices, validation = lesion_free_slices(ingested, cases)
    assert train_slices == [(case, z) for case in "ab" for z in (1, 4, 5)]
    assert validation == [("c", z) for z in (1, 4, 5)]


def test_all_slices_of_healthy_scans_are_learnt_and_none_validates(ingested):
    cases = read_json(ingested.cases)["cases"]
    cases["e"] |= {"role": "healthy"}
    train_slices, validation = lesion_free_slices(ingested, cases)
    assert train_slices == [
        *((case, z) for case in "ab" for z in (1, 4, 5)),
        *(("e", z) for z in (1, 2, 3, 4, 5)),  # 0 is empty
    ]
    assert validation == [("c", z) for z in (1, 4, 5)]


def test_a_batch_holds_slices_of_labelled_cases_and_of_healthy_scans(ingested):
    manifest = read_json(ingested.cases)
    manifest["cases"]["e"] |= {"role": "healthy"}
    write_json(ingested.cases, manifest)
    mixed = MAE.model_copy(update={"epochs": 1, "batch_size": 11})
    history = read_history(folder_of(train(ingested, mixed)) / "history.csv")
    assert [row["epoch"] for row in history] == [0]


@pytest.mark.parametrize(("length", "epochs"), [({"epochs": 7}, 7), ({"steps": 3}, 2)])
def test_a_training_begins_with_the_batches_epochs_and_precision_that_are_chosen(
    ingested, monkeypatch, length, epochs
):
    begun = begins(monkeypatch, stage)
    small = {"preset": "tiny", "image_size": 32, "patch_size": 8, "batch_size": 3}
    with pytest.raises(KilledError):
        train(ingested, Mae(**small, **length, precision="bf16"))
    assert begun.items() >= {"epochs": epochs, "precision": "bf16"}.items()
    assert [loader.batch_size for loader in begun["loaders"]] == [3, 3]


def epochs_of(manifest):
    return [row["epoch"] for row in read_history(folder_of(manifest) / "history.csv")]


def test_an_interrupted_mae_training_ends_in_the_same_bits(ingested, trained_once):
    with killed_before_epoch(1):
        train(ingested, MAE)
    assert not ingested.mae("shared").exists()
    resumed = train(ingested, MAE)
    assert_same(weights(resumed), weights(trained_once.mae("shared")))
    assert epochs_of(resumed) == [0, 1]


def test_a_finished_mae_is_not_trained_again_and_other_settings_start_anew(with_mae):
    manifest = with_mae.mae("shared")
    first = weights(manifest)
    manifest.unlink()
    with nothing_trained():
        train(with_mae, MAE)
    assert manifest.exists()
    train(with_mae, MAE.model_copy(update={"learning_rate": 1e-2}))
    assert "mask_token" in differing(weights(manifest), first)
    train_mae(with_mae, "shared", MAE, SLICES, SEED + 1, RESOURCES)
    assert "mask_token" in differing(weights(manifest), first), "the masks are others"
    assert not list(manifest.parent.glob(".*")), "nothing is left of the one that was replaced"


def test_a_lost_mae_is_taken_from_its_last_checkpoint(with_mae):
    manifest = with_mae.mae("shared")
    before = weights(manifest)
    checkpoints = folder_of(manifest) / "checkpoints"
    assert [file.name for file in checkpoints.iterdir()] == ["last.ckpt"]
    (folder_of(manifest) / "model.safetensors").unlink()
    with nothing_trained():
        assert_same(before, weights(train(with_mae, MAE)))


@pytest.fixture
def checkpoint(trained_once, tmp_path):
    """Weights of an MAE, as a user may have them."""
    path = tmp_path / "mae.safetensors"
    shutil.copy(folder_of(trained_once.mae("shared")) / "model.safetensors", path)
    return path


def test_a_checkpoint_that_is_only_used_needs_no_slice(ingested, checkpoint):
    content = read_json(ingested.cases)
    for case in content["cases"].values():
        case["slices_with_lesion"] = list(range(6))
    write_json(ingested.cases, content)
    used = MAE.model_copy(update={"checkpoint": str(checkpoint), "epochs": 0})
    assert_same(load_file(checkpoint), weights(train(ingested, used)))


def test_an_mae_is_not_trained_again_where_its_checkpoint_has_moved(ingested, checkpoint):
    def start_from(path):
        chosen = MAE.model_copy(update={"checkpoint": str(path)})
        return weights(train(ingested, chosen))

    before = start_from(checkpoint)
    moved = checkpoint.rename(checkpoint.with_name("elsewhere.safetensors"))
    with nothing_trained():
        assert_same(before, start_from(moved))
    save_file({name: value + 1 for name, value in before.items()}, moved)
    with killed_before_epoch(0):
        start_from(moved)
