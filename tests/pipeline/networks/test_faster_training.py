"""What makes a training faster changes nothing but rounding."""

import shutil

import pytest
import torch
from torch._dynamo.utils import counters

from grcsf.mae.transformer import Attention
from grcsf.models.blocks import SegmentationNetwork
from pipeline.networks import segmentation_training
from pipeline.networks.history import read_history
from pipeline.networks.mae_training import MaeTraining
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.predict import predict
from pipeline.settings import Experiment
from pipeline.storage.folders import folder_of
from pipeline.storage.zarr_store import open_store
from tests.pipeline.results import GRCSF, MAE, RESOURCES, SLICES
from tests.pipeline.trainings import segment, train


def chosen(**changed):
    training = {**GRCSF.training.model_dump(), **changed}
    return Experiment(**{**GRCSF.model_dump(), "training": training})


def losses(manifest):
    epochs = read_history(folder_of(manifest) / "history.csv")
    return [float(epoch[name]) for epoch in epochs for name in ("train_loss", "validation_loss")]


def predicted(layout, settings):
    predict(layout, "grcsf", 1, settings, 2, SLICES, RESOURCES)
    folder = layout.predictions("grcsf", 1).with_suffix("")
    probability = open_store(next(folder.glob("*.zarr")))["probability"][:]
    shutil.rmtree(folder)
    return torch.from_numpy(probability).float()


def test_channels_last_and_bf16_change_rounding_alone(with_residuals, monkeypatch):
    seen, original = [], segmentation_training.augmented

    def noted(module, *rest):
        kernels = [value for value in module.network.parameters() if value.dim() == 4]
        formats = torch.channels_last, torch.contiguous_format
        seen.append(
            tuple(all(k.is_contiguous(memory_format=kind) for k in kernels) for kind in formats)
        )
        return original(module, *rest)

    monkeypatch.setattr(segmentation_training, "augmented", noted)
    plain = losses(segment(with_residuals, chosen(epochs=3)))
    assert len(plain) == 6
    probability = predicted(with_residuals, chosen(epochs=3))
    assert set(seen) == {(False, True)}
    arranged = chosen(epochs=3, channels_last=True)
    of_same_weights = predicted(with_residuals, arranged)
    torch.testing.assert_close(of_same_weights, probability, rtol=0, atol=1e-3)
    seen.clear()
    assert losses(segment(with_residuals, arranged)) == pytest.approx(plain, rel=1e-2)
    assert set(seen) == {(True, False)}
    lowered = losses(
        segment(with_residuals, chosen(epochs=3, channels_last=True, precision="bf16"))
    )
    assert lowered == pytest.approx(plain, rel=2e-2)
    assert lowered != pytest.approx(plain, rel=1e-5)


@pytest.fixture
def traced(monkeypatch):
    """Resources with `compile`, which is traced only: benchmarks/training.py times the compiler."""
    original = torch.compile

    def trace(function, *, dynamic, **_):
        return original(function, dynamic=dynamic, backend="eager")

    monkeypatch.setattr(torch, "compile", trace)
    torch.compiler.reset()
    counters.clear()
    return RESOURCES.model_copy(update={"compile": True})


def test_a_compiled_network_trains_alike_and_is_compiled_for_full_batches_alone(
    with_residuals, monkeypatch, traced
):
    sizes = []

    def noted(network, image, residuals=None):
        if network.training and not torch.compiler.is_compiling():
            sizes.append(len(image))
        return supervised(network, image, residuals)

    supervised = SegmentationNetwork.supervised
    plain = losses(segment(with_residuals, chosen(batch_size=5)))
    shutil.rmtree(folder_of(with_residuals.model("grcsf", 1)))
    monkeypatch.setattr(SegmentationNetwork, "supervised", noted)
    manifest = segment(with_residuals, chosen(batch_size=5), resources=traced)
    assert losses(manifest) == pytest.approx(plain, rel=1e-4)
    assert counters["stats"]["unique_graphs"] == 1
    assert sizes
    assert max(sizes) < 5


def test_compiled_layers_of_an_mae_train_alike(ingested, monkeypatch, traced):
    fused = []

    def noted(layer, tokens):
        fused.append(layer.fused)
        return attend(layer, tokens)

    attend = Attention.forward
    plain = losses(train(ingested))
    shutil.rmtree(folder_of(ingested.mae("shared")))
    assert losses(train(ingested, resources=traced)) == pytest.approx(plain, rel=1e-4)
    assert counters["stats"]["unique_graphs"] > 0
    monkeypatch.setattr(Attention, "forward", noted)
    train(ingested, MAE.model_copy(update={"epochs": 1}))
    assert set(fused) == {False}, "on a CPU two products are faster"


def test_fp16_leaves_the_scaled_gradients_to_the_scaler(tmp_path):
    for precision, fused in (("fp32", True), ("bf16", True), ("fp16", False)):
        network = torch.nn.Module()
        network.weight, network.supervised = torch.nn.Parameter(torch.ones(1)), None
        of_network = SegmentationTraining(network, chosen(precision=precision).training, 0)
        of_mae = MaeTraining(network, MAE.model_copy(update={"precision": precision}), 0, tmp_path)
        groups = of_network.configure_optimizers().param_groups
        groups += of_mae.configure_optimizers()[0].param_groups
        assert {group["fused"] for group in groups} == {fused}


def test_results_from_before_channels_last_was_known_stay_valid():
    assert "channels_last" not in chosen().model_dump(mode="json")["training"]
    arranged = chosen(channels_last=True).model_dump(mode="json")["training"]
    assert arranged["channels_last"] is True
