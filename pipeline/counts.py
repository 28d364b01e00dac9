"""Parameters and multiplications of a configuration's networks, each shape built and counted once.

Networks are made of shapes alone, so that a ViT-L takes no memory. What differs in its training or
in the origin of its maps only is one shape.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from grcsf.complexity import parameter_count, shapes_only, true_macs
from grcsf.mae.build import MaskedModel
from pipeline.methods import Built, OneMask, masked_model, network_method
from pipeline.settings import (
    Dataset,
    Experiment,
    Mae,
    Slices,
    Training,
    TrainingResources,
    encoder_mae,
    residual_count,
)
from pipeline.settings.stages import MAE_SHAPE

Shape = tuple[Experiment, int, Slices, Mae | None]


def network_parameters(dataset: Dataset, experiment: str) -> int:
    """Of an experiment's network."""
    return parameter_count(_network(_network_shape(dataset, experiment))[0])


def network_macs(dataset: Dataset, experiment: str) -> int:
    """Of a slice's forward pass through an experiment's network."""
    return _network_macs(_network_shape(dataset, experiment))


def mae_parameters(settings: Mae) -> int:
    """Of an MAE."""
    return parameter_count(_mae(_mae_shape(settings))[0])


def mae_macs(settings: Mae, mask_ratio: float) -> int:
    """Of one slice's pass with this share of its patches masked."""
    return _mae_macs(_mae_shape(settings), mask_ratio)


@cache
def _network(shape: Shape) -> Built:
    with shapes_only():
        return network_method("", *shape).build()


@cache
def _network_macs(shape: Shape) -> int:
    network, inputs = _network(shape)
    return true_macs(network.eval(), *inputs)


@cache
def _mae(settings: Mae) -> tuple[MaskedModel, Tensor]:
    with shapes_only():
        return masked_model(settings), torch.rand(1, 1, settings.image_size, settings.image_size)


@cache
def _mae_macs(settings: Mae, mask_ratio: float) -> int:
    model, image = _mae(settings)
    return true_macs(OneMask(model, mask_ratio).eval(), image)


def _network_shape(dataset: Dataset, name: str) -> Shape:
    no_shape = {
        "training": Training(),
        "resources": TrainingResources(),
        "subsets": None,
        "residuals": None,
    }
    settings = dataset.experiments[name].model_copy(update=no_shape)
    mae = encoder_mae(dataset, name)
    maps = residual_count(dataset, name)
    return settings, maps, dataset.slices, mae and _mae_shape(mae)


def _mae_shape(settings: Mae) -> Mae:
    return Mae(**{key: getattr(settings, key) for key in MAE_SHAPE})
