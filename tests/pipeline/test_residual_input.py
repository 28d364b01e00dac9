"""Residual maps as input channels: trained, predicted, exported and counted as any network."""

import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file

from pipeline.networks.build import build_network
from pipeline.networks.weights import keep_model
from pipeline.orchestration import job_files
from pipeline.planning.network_costs import network_macs, network_parameters
from pipeline.predict import predict
from pipeline.prediction.bundle import open_bundle
from pipeline.settings import Dataset, Experiment
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES, TRAINING
from tests.pipeline.tools.bundles import exported
from tests.pipeline.trainings import segment

INTO = {"model": "unetpp", "residuals": "mrm", "residual_input": True, "width": 4}
CHOSEN = Experiment(**INTO, training=TRAINING)


def dataset(**over):
    experiments = {"u": {**INTO, "residuals": None, "residual_input": False}, "into": INTO}
    return Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "x", "modality": "MR"},
            "slices": SLICES,
            "mae": {"shared": MAE},
            "residuals": {"mrm": RESIDUALS},
            "experiments": experiments | over,
        }
    )


def probability(layout):
    predict(layout, "grcsf", 1, CHOSEN, 2, SLICES, RESOURCES)
    return read_array(open_store(layout.prediction_store("grcsf", 1, "d")), "probability")


def test_a_training_learns_from_the_maps_and_a_prediction_changes_with_them(with_residuals):
    manifest = segment(with_residuals, CHOSEN)
    weights = load_file(folder_of(manifest) / "model.safetensors")
    assert weights["encoder.nodes.0.0.weight"].shape == (4, 3, 3, 3)
    before = probability(with_residuals)
    path = with_residuals.residual_store("mrm", "d")
    store = open_store(path)
    maps = read_array(store, "residual")
    attributes = {**store.attrs.asdict(), "fingerprint": "another"}
    write_store(path, {"residual": 1 - maps}, attributes, slice_axis=1)
    assert np.abs(probability(with_residuals) - before).max() > 0
    key = read_json(manifest)["fingerprint"]
    assert read_json(segment(with_residuals, CHOSEN))["fingerprint"] == key, "d is no case of it"
    path = with_residuals.residual_store("mrm", "a")
    attributes = {**open_store(path).attrs.asdict(), "fingerprint": "another"}
    write_store(path, {"residual": 1 - maps}, attributes, slice_axis=1)
    assert read_json(segment(with_residuals, CHOSEN))["fingerprint"] != key


def test_two_more_channels_are_counted_by_hand():
    chosen = dataset()
    more = 2 * 9 * 4  # two channels into four 3×3 filters
    counts = [network_parameters(chosen, name) for name in ("into", "u")]
    assert counts[0] - counts[1] == more
    macs = [network_macs(chosen, name) for name in ("into", "u")]
    assert macs[0] - macs[1] == more * 32 * 32


@pytest.mark.parametrize("stage", ["train_segmentation", "predict"])
def test_a_job_waits_for_the_residual_stores(with_residuals, stage):
    batch = with_residuals.residual_batch("mrm", "1of1")
    for name, waits in (("into", True), ("u", False)):
        names = {"experiment": name, "subset": 1}
        assert (batch in job_files.read_files(with_residuals, dataset(), stage, names)) == waits


def test_a_bundle_brings_the_maes_along_and_is_opened(ingested, tmp_path):
    from grcsf.mae.build import build_masked_model

    mae = build_masked_model(MAE.architecture, MAE.preset, image_size=32, patch_size=8)
    keep_model(mae, ingested.mae("shared"), "x", {})
    keep_model(build_network(CHOSEN, 2, SLICES), ingested.model("into", 1), "x", {})
    write_json(ingested.split, {**read_json(ingested.split), "digest": "0123456789abcdef"})
    model = exported((ingested, dataset()), tmp_path / "b.zip", "into")
    with zipfile.ZipFile(model) as archive:
        assert "masks), as input channels." in archive.read("MODEL_CARD.md").decode()
    bundle = open_bundle(model, tmp_path / "t")
    assert sorted(bundle.files) == ["mae-shared.safetensors", "network.safetensors"]
    assert bundle.maps == 2
    assert bundle.dataset.experiments["into"].residual_input
