"""The network that an experiment's settings describe."""

from torch import nn

from grcsf.models.build import build_segmentation_model
from pipeline.settings import Experiment, Slices


def build_network(settings: Experiment, residual_count: int, slices: Slices) -> nn.Module:
    """The network that an experiment names, with fresh weights."""
    return build_segmentation_model(
        settings.model,
        width=settings.width,
        input_size=slices.size,
        patch_sizes=settings.rcu.patch_sizes,
        residual_maps=residual_count,
    )
