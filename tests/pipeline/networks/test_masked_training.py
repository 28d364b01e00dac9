"""Variants of masked training: the adversarial term, SimMIM, pictures of what is predicted."""

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from safetensors.torch import load_file

from pipeline import train_mae as mae_stage
from pipeline.networks import trainer as training
from pipeline.networks.history import read_history
from pipeline.residual_maps import residual_maps
from pipeline.settings import Adversarial
from pipeline.storage.layout import folder_of
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.train_mae import train_mae

SEED = 5
JUDGED = Adversarial(weight=0.5, start_epoch=1)
pytestmark = pytest.mark.usefixtures("one_thread")


def train(layout, mae, slices, resources, name="shared"):
    train_mae(layout, name, mae, slices, SEED, resources)
    return load_file(folder_of(layout.mae(name)) / "model.safetensors")


def differing(left, right):
    return [name for name, value in left.items() if not torch.equal(value, right[name])]


def test_the_adversarial_term_changes_training_from_its_first_epoch_on(
    ingested, mae, slices, resources
):
    plain = train(ingested, mae, slices, resources)
    late = mae.model_copy(update={"adversarial": JUDGED.model_copy(update={"start_epoch": 9})})
    waiting = train(ingested, late, slices, resources, "late")
    assert differing(plain, waiting) == [], "before its first epoch it changes nothing"
    judged = train(
        ingested, mae.model_copy(update={"adversarial": JUDGED}), slices, resources, "judged"
    )
    assert "decoder_pred.weight" in differing(plain, judged)
    assert all(torch.isfinite(value).all() for value in judged.values())
    assert judged.keys() == plain.keys(), "the discriminator is no part of the model"
    rows = read_history(folder_of(ingested.mae("judged")) / "history.csv")
    assert all(np.isfinite([row["train_loss"], row["validation_loss"]]).all() for row in rows)


def test_an_adversarial_training_that_runs_away_falls_back_to_the_masked_loss(
    ingested, mae, slices, resources, monkeypatch
):
    plain = train(ingested, mae, slices, resources)
    broken = torch.tensor(float("nan"))
    monkeypatch.setattr("pipeline.networks.mae_training.generator_term", lambda *_: broken)
    chosen = mae.model_copy(update={"adversarial": JUDGED})
    assert differing(plain, train(ingested, chosen, slices, resources, "judged")) == []


def test_an_interrupted_adversarial_training_ends_in_the_same_bits(
    ingested, mae, slices, resources, monkeypatch
):
    chosen = mae.model_copy(
        update={"adversarial": JUDGED.model_copy(update={"start_epoch": 0}), "epochs": 3}
    )
    whole = train(ingested, chosen, slices, resources, "whole")
    original = training.EpochHistory.on_train_epoch_start

    class KilledError(Exception):
        pass

    def dying(self, trainer, *rest):
        if trainer.current_epoch == 2:
            raise KilledError
        original(self, trainer, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(training.EpochHistory, "on_train_epoch_start", dying)
        with pytest.raises(KilledError):
            train(ingested, chosen, slices, resources)
    assert differing(whole, train(ingested, chosen, slices, resources)) == []


def test_simmim_trains_on_the_same_slices_and_makes_residual_maps(
    ingested, mae, residuals, slices, resources
):
    chosen = mae.model_copy(update={"architecture": "simmim"})
    state = train(ingested, chosen, slices, resources)
    assert any(name.startswith("network.vit.") for name in state)
    residual_maps(
        ingested, "mrm", "1of1", residuals, {"shared": chosen}, (1,), slices, SEED, resources
    )
    maps = read_array(open_store(ingested.residual_store("mrm", "d")), "residual")
    assert maps.shape == (2, 6, 32, 32)
    assert 0 <= maps.min() < maps.max() <= 1


@pytest.mark.parametrize("difference", ["squared", "ssim"])
def test_other_differences_make_other_stores(
    ingested, mae, residuals, slices, resources, difference
):
    train(ingested, mae, slices, resources)

    def made(settings, name):
        residual_maps(
            ingested, name, "1of1", settings, {"shared": mae}, (1,), slices, SEED, resources
        )
        store = open_store(ingested.residual_store(name, "d"))
        return read_array(store, "residual").astype(np.float32), store.attrs["fingerprint"]

    plain, key = made(residuals, "mrm")
    other, other_key = made(residuals.model_copy(update={"difference": difference}), "other")
    assert key != other_key
    assert 0 <= other.min() < other.max() <= 1
    if difference == "squared":
        # equal up to the two float16 roundings and the resizing, which is none at this size
        np.testing.assert_allclose(other, plain**2, atol=2e-3)
    else:
        assert np.abs(other - plain).max() > 0.05


def test_pictures_show_validation_slices_as_often_as_asked(ingested, mae, slices, resources):
    every_second = mae.model_copy(update={"picture_epochs": 2, "epochs": 3})
    train(ingested, every_second, slices, resources)
    folder = folder_of(ingested.mae("shared")) / "pictures"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        f"epoch-000{epoch}-masked-{ratio}.png" for epoch in (1, 3) for ratio in (50, 75)
    ]
    picture = imread(folder / names[-1])
    image, shown, reconstruction = np.split(picture, 3, axis=1)
    assert np.ptp(image) > 0.5
    visible = ~np.isclose(shown, 0.5, atol=0.01)
    assert 0.2 < visible.mean() < 0.4
    np.testing.assert_allclose(reconstruction[visible], image[visible], atol=0.01)
    assert np.abs(reconstruction - image)[~visible].max() > 0.05


def test_pictures_are_no_reason_to_train_again(ingested, mae, slices, resources, monkeypatch):
    never = mae.model_copy(update={"picture_epochs": 0})
    train(ingested, never, slices, resources)
    assert not (folder_of(ingested.mae("shared")) / "pictures").exists()
    monkeypatch.setattr(mae_stage, "fit", lambda *_, **__: pytest.fail("trained again"))
    train(ingested, mae, slices, resources)
