"""What networks cost: parameters and multiplications, counted on shapes alone.

`Method` is what `grcsf complexity` measures: the paper's networks, or those of a configuration.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from grcsf.complexity import parameter_count, shapes_only, true_macs
from grcsf.mae.build import MaskedModel
from grcsf.mae.masking import slice_masks
from grcsf.models.peer_sizes import size_fault
from grcsf.residuals import multi_ratio_residuals
from pipeline.networks.build import build_network, context_of, masked_model
from pipeline.settings import (
    Dataset,
    Experiment,
    Mae,
    Rcu,
    Residuals,
    Slices,
    Training,
    TrainingResources,
    Untrained,
    encoder_mae,
    residual_count,
)
from pipeline.settings.stage_settings import MAE_SHAPE

Built = tuple[nn.Module, tuple[Tensor, ...]]

PATCH_SIZES = ((8, 8, 16), (4, 8, 16), (8, 4, 16), (8, 8, 8), (8, 16, 16))
"""Table 6's, at 1/4, 1/2 and full scale; the first is the paper's choice."""


PEER_NETWORKS = {
    "DeepLabv3": Experiment(model="deeplabv3"),
    "SwinUnet": Experiment(model="swin_unet"),
    "TransUnet": Experiment(model="trans_unet"),
    "SPiN": Experiment(model="spin"),
    "TransFuse": Experiment(model="trans_fuse"),
    "UTNet": Experiment(model="ut_net"),
}
"""The other networks of Table 1 that are trained, as it calls them."""
SAM_SIDE = 1024
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method:
    """A network to be measured; `build` returns it and its inputs of one slice, (1, ., y, x).

    It can be pickled, to be measured by another process.
    """

    name: str
    size: tuple[int, int]
    build: Callable[[], Built]
    masked: bool = False  # its masks have content, whatever the network has


class ResidualPasses(nn.Module):
    """All passes behind the residual maps of one slice, as one network."""

    def __init__(self, models: Sequence[MaskedModel], settings: Residuals) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)
        self._per_map = list(models)
        self._settings = settings

    def forward(self, image: Tensor) -> Tensor:
        """`(1, 1, h, w)` → `(1, R, h, w)`."""
        chosen = self._settings
        # a slice full of tissue costs most
        scheme = "random" if chosen.masks == "random" else "stratified"
        drawn: Any = {"seed": 0, "case": "", "slice_index": 0, "scheme": scheme}
        masks = []
        for part, model in zip(chosen.maps, self._per_map, strict=True):
            # made here, so that they have content where the models are shapes only
            drawn |= {"mask_ratio": part.mask_ratio, "passes": part.passes}
            mask = slice_masks(**drawn, patches=model.num_patches)
            masks.append(torch.from_numpy(mask)[None].to(image.device))  # (1, K, L)
        return multi_ratio_residuals(
            self._per_map, image, masks, visible=chosen.visible, kind=chosen.difference
        )


class OneMask(nn.Module):
    """A masked model with one mask ratio for every slice, as a network of one input."""

    def __init__(self, model: MaskedModel, mask_ratio: float) -> None:
        super().__init__()
        self.model = model
        self._masked = round(mask_ratio * model.num_patches)

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 1, h, w)` → `(B, L, p·p)`."""
        # made here, so that they have content where the model is shapes only
        masks = torch.zeros(len(images), self.model.num_patches, dtype=torch.bool)
        masks[:, : self._masked] = True
        predictions: Tensor = self.model(images, masks.to(images.device))
        return predictions


def paper_methods(size: tuple[int, int]) -> list[Method]:
    """The paper's networks at full width; GRCSF with all patch sizes of Table 6.

    Of the other networks of Table 1 those that take slices of this size, and of SAM, which has a
    size of its own, the image encoder, whose counts the table prints.
    """
    slices = Slices(size=size, percentiles=(0, 100))  # only the size matters here
    methods = [
        network_method("UNet", Experiment(model="unet"), 0, slices),
        network_method("UNet++", Experiment(model="unetpp"), 0, slices),
        network_method("UNet++ with GCU", Experiment(model="grcsf", rcu=None), 0, slices),
    ]
    for patches in PATCH_SIZES:
        grcsf = Experiment(model="grcsf", residuals="mrm", rcu=Rcu(patch_sizes=patches))
        name = f"GRCSF, patches {', '.join(map(str, patches))}"
        methods.append(network_method(name, grcsf, 2, slices))
    faults = left_out(size)
    for title, peer in PEER_NETWORKS.items():
        if title in faults:
            log.info("%s is left out: %s", title, faults[title])
        else:
            methods.append(network_method(title, peer, 0, slices))
    return [*methods, Method("SAM, image encoder", (SAM_SIDE, SAM_SIDE), _sam_encoder)]


def left_out(size: tuple[int, int]) -> dict[str, str]:
    """Why some networks of Table 1 cannot take slices of this size, by title."""
    faults = {title: size_fault(peer.model, size) for title, peer in PEER_NETWORKS.items()}
    return {title: fault for title, fault in faults.items() if fault}


def configured_methods(dataset: Dataset) -> list[Method]:
    """A data set's experiments, and the passes behind its residual sets that have MAEs."""
    methods = []
    for name, experiment in dataset.experiments.items():
        if isinstance(experiment, Untrained):
            log.info("%s is left out: %s", name, experiment.what)
    for name, settings in dataset.networks.items():
        maps, mae = residual_count(dataset, name), encoder_mae(dataset, name)
        methods.append(network_method(name, settings, maps, dataset.slices, mae))
    return methods + [
        _passes(name, residuals, dataset)
        for name, residuals in dataset.residuals.items()
        if isinstance(residuals, Residuals)
    ]


def network_method(
    name: str, settings: Experiment, maps: int, slices: Slices, mae: Mae | None = None
) -> Method:
    """An experiment's network, which sees `maps` residual maps beside the slice."""
    return Method(name, slices.size, partial(_built, settings, maps, slices, mae))


def _built(settings: Experiment, maps: int, slices: Slices, mae: Mae | None) -> Built:
    network = build_network(settings, maps, slices, mae)
    image = torch.rand(1, 1 + 2 * context_of(network), *slices.size)
    return network, (image, torch.rand(1, maps, *slices.size)) if maps else (image,)


def _sam_encoder() -> Built:
    from grcsf.models.peers.sam import Sam  # with transformers, which takes seconds

    encoder = Sam().network.vision_encoder
    return encoder, (torch.rand(1, 3, SAM_SIDE, SAM_SIDE),)


def _passes(name: str, settings: Residuals, dataset: Dataset) -> Method:
    count = sum(part.passes for part in settings.maps)
    build = partial(_built_passes, settings, dataset.mae, dataset.slices.size)
    name = f"residual maps {name}, {count} passes"
    return Method(name, dataset.slices.size, build, masked=True)


def _built_passes(settings: Residuals, known: Mapping[str, Mae], size: tuple[int, int]) -> Built:
    maes = {part.mae: masked_model(known[part.mae]) for part in settings.maps}
    per_map = [maes[part.mae] for part in settings.maps]
    return ResidualPasses(per_map, settings), (torch.rand(1, 1, *size),)


Shape = tuple[Experiment, int, Slices, Mae | None]


def network_parameters(dataset: Dataset, experiment: str) -> int:
    """Parameters of an experiment's network."""
    return parameter_count(_network(_network_shape(dataset, experiment))[0])


def network_macs(dataset: Dataset, experiment: str) -> int:
    """MACs of one slice's forward pass through an experiment's network."""
    return _network_macs(_network_shape(dataset, experiment))


def mae_parameters(settings: Mae) -> int:
    """Parameters of an MAE."""
    return parameter_count(_mae(_mae_shape(settings))[0])


def mae_macs(settings: Mae, mask_ratio: float) -> int:
    """MACs of one slice's pass through an MAE, at this mask ratio."""
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
    with shapes_only(as_on_cpu=True):
        return masked_model(settings), torch.rand(1, 1, settings.image_size, settings.image_size)


@cache
def _mae_macs(settings: Mae, mask_ratio: float) -> int:
    model, image = _mae(settings)
    return true_macs(OneMask(model, mask_ratio).eval(), image)


def _network_shape(dataset: Dataset, name: str) -> Shape:
    """All that an experiment's cost depends on; experiments of equal shape are counted once."""
    chosen = dataset.networks[name]
    # of a training only the heads that help it are part of the network
    training = Training(auxiliary=chosen.training.auxiliary)
    no_shape: dict[str, Any] = {"training": training, "resources": TrainingResources()}
    no_shape |= {"subsets": None, "residuals": None, "pretrained": None}
    settings = chosen.model_copy(update=no_shape)
    mae, maps = encoder_mae(dataset, name), residual_count(dataset, name)
    slices = Slices(size=dataset.slices.size, percentiles=(0, 100))  # only the size matters here
    return settings, maps, slices, mae and _mae_shape(mae)


def _mae_shape(settings: Mae) -> Mae:
    return Mae(**{key: getattr(settings, key) for key in MAE_SHAPE})
