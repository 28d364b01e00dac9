"""Parameters and multiplications of a configuration's networks, each shape built and counted once.

Networks are made of shapes alone, so that a ViT-L takes no memory. What differs in its training or
in the origin of its maps only is one shape.
"""

from __future__ import annotations

from functools import cache

from grcsf.complexity import parameter_count, shapes_only, true_macs
from pipeline.methods import Built, network_method, training_method
from pipeline.settings import (
    Dataset,
    Experiment,
    Mae,
    Slices,
    Training,
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
    return parameter_count(_mae(_mae_shape(settings), settings.train_mask_ratios[0])[0])


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
def _mae(settings: Mae, mask_ratio: float) -> Built:
    with shapes_only():
        return training_method(settings, mask_ratio).build()


@cache
def _mae_macs(settings: Mae, mask_ratio: float) -> int:
    model, inputs = _mae(settings, mask_ratio)
    return true_macs(model.eval(), *inputs)


def _network_shape(dataset: Dataset, name: str) -> Shape:
    without = {"training": Training(), "subsets": None, "residuals": None}
    settings = dataset.experiments[name].model_copy(update=without)
    mae = encoder_mae(dataset, name)
    maps = residual_count(dataset, name)
    return settings, maps, dataset.slices, mae and _mae_shape(mae)


def _mae_shape(settings: Mae) -> Mae:
    return Mae(**{key: getattr(settings, key) for key in MAE_SHAPE})
