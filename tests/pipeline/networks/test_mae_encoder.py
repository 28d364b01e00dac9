"""A network on an MAE's encoder starts from its weights, keeps them if frozen, and follows it."""

import shutil

import numpy as np
import pytest
import torch

from grcsf.mae.model import build_mae
from pipeline import train_segmentation as stage
from pipeline.networks.weights import keep_model
from pipeline.predict import predict
from pipeline.settings import Experiment
from pipeline.storage.files import read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import MAE, RESOURCES, SLICES, TRAINING
from tests.pipeline.trainings import assert_same, killed_before_epoch, nothing_trained, weights


def keep_mae(layout, seed):
    """Leave an MAE of random weights where `train_mae` leaves a trained one."""
    torch.manual_seed(seed)
    autoencoder = build_mae("tiny", image_size=32, patch_size=8)
    keep_model(autoencoder, layout.mae("shared"), f"seed {seed}", {})
    return autoencoder.state_dict()


@pytest.fixture
def given(ingested):
    return keep_mae(ingested, 1)


def segment(layout, *, frozen):
    encoder = {"mae": "shared", "frozen": frozen}
    network = Experiment(model="mae_unet", mae_encoder=encoder, width=4, training=TRAINING)
    train_segmentation(layout, "m", 1, network, 0, SLICES, 5, RESOURCES, MAE)
    return layout.model("m", 1), network


def assert_encoder_is(state, mae):
    encoder = {key: value for key, value in state.items() if key.startswith("encoder.")}
    assert encoder
    for key, value in encoder.items():
        assert torch.equal(value, mae[key.removeprefix("encoder.")]), key


def test_a_frozen_encoder_is_the_mae_s_and_only_another_mae_trains_the_network_anew(
    given, ingested
):
    manifest, network = segment(ingested, frozen=True)
    before = read_json(manifest)["fingerprint"]
    assert_encoder_is(weights(manifest), given)
    with nothing_trained():
        segment(ingested, frozen=True)
    other = keep_mae(ingested, 2)
    segment(ingested, frozen=True)
    assert read_json(manifest)["fingerprint"] != before
    assert_encoder_is(weights(manifest), other)
    shutil.rmtree(ingested.stage("train_mae"))  # prediction needs the network's own weights only
    predict(ingested, "m", 1, network, 0, SLICES, RESOURCES, MAE)
    store = open_store(ingested.prediction_store("m", 1, "d"))
    assert np.isfinite(read_array(store, "probability")).all()


def test_an_encoder_that_learns_starts_from_the_mae_s_and_resumes_to_the_same_bits(
    given, ingested, monkeypatch, tmp_path
):
    original, started = stage.fit, {}

    def watched(module, *rest, **options):
        state = module.network.state_dict()
        started.update({key: value.clone() for key, value in state.items()})
        return original(module, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "fit", watched)
        manifest, _ = segment(ingested, frozen=False)
    trained = weights(manifest)
    assert_encoder_is(started, given)
    assert not torch.equal(trained["encoder.norm.weight"], given["norm.weight"])
    folder_of(manifest).rename(tmp_path / "whole")
    with killed_before_epoch(1):
        segment(ingested, frozen=False)
    assert_same(trained, weights(segment(ingested, frozen=False)[0]))
