"""Variants of masked training: the adversarial term, SimMIM, pictures of what is predicted."""

import numpy as np
import torch
from matplotlib.image import imread

from grcsf.resampling import resize
from pipeline.networks.history import read_history
from pipeline.residual_maps import residual_maps
from pipeline.settings import Adversarial
from pipeline.storage.folders import folder_of
from pipeline.storage.slices import SliceDataset
from pipeline.storage.zarr_store import open_store, read_array, verify_store
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES
from tests.pipeline.trainings import (
    SEED,
    differing,
    killed_before_epoch,
    nothing_trained,
    train,
    weights,
)


def judged(start_epoch):
    """An MAE with an adversarial term from this epoch on."""
    term = Adversarial(weight=0.5, start_epoch=start_epoch)
    return MAE.model_copy(update={"adversarial": term})


def test_the_adversarial_term_changes_training_from_its_first_epoch_on(ingested, trained_once):
    plain = weights(trained_once.mae("shared"))
    waiting = weights(train(ingested, judged(start_epoch=9), "late"))
    assert differing(plain, waiting) == [], "before its first epoch it changes nothing"
    manifest = train(ingested, judged(start_epoch=1), "judged")
    state = weights(manifest)
    # the discriminator is no part of the model: `differing` asserts the same names
    assert "decoder_pred.weight" in differing(plain, state)
    assert all(torch.isfinite(value).all() for value in state.values())
    rows = read_history(folder_of(manifest) / "history.csv")
    assert all(np.isfinite([row["train_loss"], row["validation_loss"]]).all() for row in rows)


def test_an_adversarial_training_that_runs_away_falls_back_to_the_masked_loss(
    ingested, trained_once, monkeypatch
):
    broken = torch.tensor(float("nan"))
    monkeypatch.setattr("pipeline.networks.mae_training.generator_term", lambda *_: broken)
    state = weights(train(ingested, judged(start_epoch=1)))
    assert differing(weights(trained_once.mae("shared")), state) == []


def test_an_interrupted_adversarial_training_ends_in_the_same_bits(ingested):
    chosen = judged(start_epoch=0)
    whole = weights(train(ingested, chosen, "whole"))
    with killed_before_epoch(1):
        train(ingested, chosen)
    assert differing(whole, weights(train(ingested, chosen))) == []


def test_simmim_trains_on_the_same_slices_and_makes_residual_maps(ingested):
    chosen = MAE.model_copy(update={"architecture": "simmim"})
    state = weights(train(ingested, chosen))
    assert any(name.startswith("network.vit.") for name in state)
    residual_maps(
        ingested, "mrm", "1of1", RESIDUALS, {"shared": chosen}, (1,), SLICES, SEED, RESOURCES
    )
    maps = read_array(open_store(ingested.residual_store("mrm", "d")), "residual")
    assert maps.shape == (2, 6, 32, 32)
    assert 0 <= maps.min() < maps.max() <= 1


def test_another_difference_makes_another_store(with_residuals):
    squared = RESIDUALS.model_copy(update={"difference": "squared"})
    settings = squared, {"shared": MAE}, (1,), SLICES, SEED, RESOURCES
    residual_maps(with_residuals, "other", "1of1", *settings)
    stores = [open_store(with_residuals.residual_store(name, "d")) for name in ("mrm", "other")]
    assert stores[0].attrs["fingerprint"] != stores[1].attrs["fingerprint"]
    plain, other = (read_array(store, "residual").astype(np.float32) for store in stores)
    # equal up to the two float16 roundings and the resizing, which is none at this size
    np.testing.assert_allclose(other, plain**2, atol=2e-3)


def test_signed_maps_are_the_same_but_for_their_sign_and_reach_the_network_with_it(with_residuals):
    signed = RESIDUALS.model_copy(update={"difference": "signed"})
    settings = signed, {"shared": MAE}, (1,), SLICES, SEED, RESOURCES
    residual_maps(with_residuals, "signed", "1of1", *settings)
    paths = [with_residuals.residual_store(name, "d") for name in ("mrm", "signed")]
    verify_store(paths[1])
    plain, kept = (read_array(open_store(path), "residual") for path in paths)
    assert kept.min() < 0 < kept.max()
    np.testing.assert_array_equal(np.abs(kept), plain)
    stores = {"d": with_residuals.case_store("d")}
    for size in (SLICES.size, (40, 24)):  # also where it is resized
        slices = SLICES.model_copy(update={"size": size})
        item = SliceDataset([("d", 3)], stores, slices, {"d": paths[1]})[0]
        expected = resize(torch.from_numpy(kept[:, 3]).float()[None], size)[0]
        torch.testing.assert_close(item["residuals"], expected)
        assert item["residuals"].min() < 0


def test_pictures_show_validation_slices_and_are_no_reason_to_train_again(ingested):
    every_second = MAE.model_copy(update={"picture_epochs": 2, "epochs": 3})
    folder = folder_of(train(ingested, every_second)) / "pictures"
    names = {f"epoch-000{epoch}-masked-{ratio}.png" for epoch in (1, 3) for ratio in (50, 75)}
    assert {path.name for path in folder.iterdir()} == names
    image, shown, reconstruction = np.split(imread(folder / max(names)), 3, axis=1)
    visible = ~np.isclose(shown, 0.5, atol=0.01)
    np.testing.assert_allclose(reconstruction[visible], image[visible], atol=0.01)
    assert np.abs(reconstruction - image)[~visible].max() > 0.05
    with nothing_trained():
        train(ingested, every_second.model_copy(update={"picture_epochs": 0}))
