"""The network that an experiment's settings describe."""

from torch import nn

from grcsf.models.build import GlobalUnits, RegionalUnits, build_segmentation_model
from grcsf.models.grcsf import GRCSF
from pipeline.settings import Experiment, Slices


def build_network(settings: Experiment, residual_count: int, slices: Slices) -> nn.Module:
    """The network that an experiment names, with fresh weights."""
    gcu, rcu = settings.gcu, settings.rcu
    return build_segmentation_model(
        settings.model,
        width=settings.width,
        input_size=slices.size,
        encoder=settings.encoder,
        backbone=settings.backbone,
        gcu=GlobalUnits(gcu.kind, gcu.levels) if gcu else None,
        rcu=RegionalUnits(rcu.levels, rcu.patch_sizes, rcu.importance) if rcu else None,
        residual_maps=residual_count,
    )


def encoder_of(network: nn.Module) -> nn.Module:
    """The part of a network that gives its features as a list, the deepest last."""
    backbone = network.backbone if isinstance(network, GRCSF) else network
    encoder = backbone.encoder
    assert isinstance(encoder, nn.Module)
    return encoder
