"""Memory that a configuration's trainings will need, before anything is computed.

It is the peak of each training: the libraries, the slices kept in memory, weights, gradients and
Adam's moments, and what the forward pass keeps for the backward pass. Figures in bytes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache

import torch
from torch import Tensor, nn

from grcsf.complexity import kept_for_backward, parameter_count, shapes_only
from grcsf.losses import mixed_loss
from grcsf.mae.build import MASKED_LOSSES, build_masked_model
from pipeline.evaluation.check_record import CaseFacts
from pipeline.networks.build import build_network
from pipeline.settings import Dataset, Experiment, Mae, Resources, encoder_mae, residual_count

FLOAT = 4
# weights, gradients and both moments
TRAINED_COPIES = 4


def memory_needed(
    dataset: Dataset, facts: Sequence[CaseFacts], resources: Resources
) -> dict[str, int]:
    """Bytes at the peak of each training on the processor, by its name."""
    libraries = _libraries()
    needed = {
        f"train_mae {name}": _mae_training(one) for name, one in dataset.mae.items() if one.epochs
    }
    for name, one in dataset.experiments.items():
        needed[f"train_segmentation {name}"] = _segmentation_training(dataset, name, one)
    height, width = dataset.slices.size
    slices = sum(one.shape[0] for one in facts if one.shape and one.labelled)
    maps = max((residual_count(dataset, name) for name in dataset.experiments), default=0)
    cached = min(resources.cache_mb * 10**6, slices * (2 + maps) * height * width * FLOAT)
    return {name: libraries + cached + size for name, size in needed.items()}


def _network(dataset: Dataset, name: str) -> nn.Module:
    with shapes_only():
        return build_network(
            dataset.experiments[name],
            residual_count(dataset, name),
            dataset.slices,
            encoder_mae(dataset, name),
        )


def _mae_training(settings: Mae) -> int:
    """Measured on one slice: which patches are masked decides shapes, so shapes alone do not do."""
    model = build_masked_model(
        settings.architecture,
        settings.preset,
        image_size=settings.image_size,
        patch_size=settings.patch_size,
    )
    image = torch.rand(1, 1, settings.image_size, settings.image_size)
    masks = torch.zeros(1, model.num_patches, dtype=torch.bool)
    masks[:, : round(min(settings.train_mask_ratios) * model.num_patches)] = True
    loss = MASKED_LOSSES[settings.architecture]
    kept = _kept(lambda: loss(model, image, masks), model, [image], settings.precision)
    return FLOAT * TRAINED_COPIES * parameter_count(model) + settings.batch_size * kept


def _segmentation_training(dataset: Dataset, name: str, settings: Experiment) -> int:
    network = _network(dataset, name)
    count, maps = settings.training.batch_size, residual_count(dataset, name)
    with shapes_only():
        image = torch.rand(count, 1, *dataset.slices.size)
        residuals = torch.rand(count, maps, *dataset.slices.size) if maps else None
    given = [image] if residuals is None else [image, residuals]

    def loss() -> Tensor:
        found: Tensor = network(image, residuals)
        return mixed_loss(found, torch.zeros_like(image))

    kept = _kept(loss, network, given, settings.training.precision)
    return FLOAT * TRAINED_COPIES * parameter_count(network) + kept


def _kept(
    run: Callable[[], Tensor], network: nn.Module, given: Sequence[Tensor], precision: str
) -> int:
    owned = [*network.parameters(), *network.buffers(), *given]
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    with torch.autocast("cpu", dtype=dtype, enabled=precision != "fp32"):
        return sum(one.size for one in kept_for_backward(run, owned))


@cache
def _libraries() -> int:
    """Peak memory of a process that has done nothing but import what trains."""
    code = (
        "import pipeline.train_mae, pipeline.train_segmentation;"
        "import pipeline.orchestration.environment;"
        "print(pipeline.orchestration.environment.peak_resident())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout)
