"""Builds the networks and masked models that settings describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import nn

from grcsf.mae.build import MaskedModel, build_masked_model
from grcsf.mae.model import build_mae
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.build import (
    GlobalUnits,
    PretrainedEncoder,
    RegionalUnits,
    build_segmentation_model,
)
from grcsf.models.grcsf import GRCSF
from grcsf.models.mae_unet import MaeUNet
from grcsf.models.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN, Normalisation
from grcsf.models.peers.slices import COLOURS
from pipeline.networks.weights import load_weights
from pipeline.settings import Experiment, Mae, Slices, Training
from pipeline.storage.layout import Layout


def build_network(
    settings: Experiment, residual_count: int, slices: Slices, mae: Mae | None = None
) -> nn.Module:
    """The network of an experiment, with fresh weights.

    `slices` gives the input size; `mae` is the one that `settings.mae_encoder` names, if any.
    """
    gcu, rcu = settings.gcu, settings.rcu
    pretrained = None
    if settings.mae_encoder and mae:
        frozen = settings.mae_encoder.frozen
        pretrained = PretrainedEncoder(mae.preset, mae.image_size, mae.patch_size, frozen)
    network = build_segmentation_model(
        settings.model,
        width=settings.width,
        input_size=slices.size,
        encoder=settings.encoder,
        backbone=settings.backbone,
        gcu=GlobalUnits(gcu.kind, gcu.levels, gcu.start) if gcu else None,
        rcu=RegionalUnits(rcu.levels, rcu.patch_sizes, rcu.importance, rcu.start) if rcu else None,
        residual_maps=residual_count,
        residual_input=settings.residual_input,
        mae=pretrained,
        auxiliary=settings.training.auxiliary,
        context=0 if settings.model == "spin" else settings.neighbours,
    )
    normalise = settings.training.normalise
    if normalise and isinstance(network, SegmentationNetwork):
        network.normalisation = _normalisation(network, normalise)
    return network


def _normalisation(network: SegmentationNetwork, kind: str) -> Normalisation:
    """ImageNet's, or one for training to fill, which comes with a trained network's weights."""
    if kind == "imagenet":
        return Normalisation(IMAGENET_MEAN, IMAGENET_DEVIATION)
    channels = _shown_channels(network)
    return Normalisation([0.0] * channels, [1.0] * channels)


def _shown_channels(network: SegmentationNetwork) -> int:
    """Channels that show the slice, in colours or not, and its neighbours."""
    return (COLOURS if network.colours else 1) + 2 * network.context


def beyond_of(network: nn.Module) -> float:
    """What slices hold that lie beyond a volume's ends: nothing, as its network takes it.

    That is 0, or the mean of a data set, which normalisation makes 0. ImageNet's is of the three
    colours alone, and leaves neighbours as they are.
    """
    if not isinstance(network, SegmentationNetwork) or network.normalisation is None:
        return 0.0
    mean = network.normalisation.mean
    return float(mean[0]) if len(mean) == _shown_channels(network) else 0.0


def arranged(network: nn.Module, settings: Training) -> nn.Module:
    """The network, its kernels in the memory order of its training, which its features follow."""
    if settings.channels_last:
        for weight in network.parameters():
            if weight.dim() == 4:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    return network


def context_of(network: nn.Module) -> int:
    """How many neighbours a network sees on each side of a slice."""
    return network.context if isinstance(network, SegmentationNetwork) else 0


def encoder_of(network: nn.Module) -> nn.Module:
    """The part of a network that returns a list of features, the deepest last."""
    encoder = (network.backbone if isinstance(network, GRCSF) else network).encoder
    assert isinstance(encoder, nn.Module)
    return encoder


def load_mae_encoder(network: nn.Module, layout: Layout, name: str, mae: Mae) -> None:
    """Fill a `mae_unet`'s encoder with a trained MAE's weights.

    Raises:
        PipelineError: the MAE is missing, damaged or of another shape.
    """
    autoencoder = build_mae(mae.preset, image_size=mae.image_size, patch_size=mae.patch_size)
    load_weights(autoencoder, layout.mae(name))
    cast(MaeUNet, network).encoder.load_mae(autoencoder)


def masked_model(settings: Mae) -> MaskedModel:
    """The masked model of these settings, with fresh weights."""
    sizes = {"image_size": settings.image_size, "patch_size": settings.patch_size}
    return build_masked_model(settings.architecture, settings.preset, **sizes)


def empty_masked_model(settings: Mae) -> MaskedModel:
    """The masked model of these settings in evaluation mode, on `meta` and without weights.

    To draw fresh weights of ViT-L takes several times as long as to load trained ones.
    """
    with torch.device("meta"):
        return masked_model(settings).eval()


def masked_models(layout: Layout, maes: Mapping[str, Mae]) -> dict[str, MaskedModel]:
    """Trained masked models by name, in evaluation mode.

    Raises:
        PipelineError: a model is missing or damaged.
    """
    models = {name: empty_masked_model(settings) for name, settings in maes.items()}
    for name, model in models.items():
        load_weights(model, layout.mae(name))
    return models
