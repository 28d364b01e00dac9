"""Residual maps: what a masked autoencoder of healthy slices fails to reconstruct.

Every slice is reconstructed under K masks; the mean reconstruction is compared with the slice
(section 3.3.1, Eq. 3–5). Masks say 1 = masked.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from grcsf.mae.build import MaskedModel
from grcsf.resampling import resize
from grcsf.transfer import send

Visible = Literal["paste", "ignore", "predict"]
Kind = Literal["abs", "squared", "ssim", "signed"]

# Sequences (slices × passes) of one forward. On one CPU thread ViT-B takes the same time, within
# 30 %, from 5 to 40, so few suffice and keep memory low. 320 keep an H200 busy, and bound ViT-L's
# widest activation, (320, 99, 4096) at 50 %, to 0.5 GB in float32.
SEQUENCES = {"cpu": 10, "cuda": 320}
BACKGROUND = 0.05  # a patch without a brighter pixel shows no tissue
LEAST_TISSUE = 16  # patches; a share of fewer cannot be masked


def tissue_patches(model: MaskedModel, images: Tensor) -> Tensor:
    """Patches that show tissue: a pixel of theirs exceeds 5 % of the intensities' range.

    Args:
        model: defines the patches.
        images: (B, 1, h, w), in [0, 1], of any size.

    Returns:
        (B, L) bool, 1 = tissue; always includes a slice's 16 brightest patches.
    """
    small = _at_model_size(model, images)
    peaks = model.patchify(small).amax(dim=2)  # (B, L)
    brightest = peaks.argsort(dim=1, descending=True, stable=True)[:, :LEAST_TISSUE]
    return (peaks > BACKGROUND).scatter(1, brightest, True)


@torch.inference_mode()
def mean_reconstruction(
    model: MaskedModel,
    images: Tensor,
    masks: Tensor,
    *,
    visible: Visible,
    counted: Tensor | None = None,
) -> Tensor:
    """Mean reconstruction of each slice over its K passes (Eq. 3, 4).

    All B·K sequences run in one forward. The mean is clipped to [0, 1], the range of intensities.
    Clipping follows averaging, so that overshoots of single passes cancel as in the paper's mean.

    Args:
        model: the masked autoencoder, or SimMIM in its place.
        images: (B, 1, H, W), in [0, 1], at the model's own size.
        masks: (B, K, L) bool, 1 = masked; every row masks the same number of patches.
        visible: what a pass contributes to a patch that it saw. `paste`: the slice's own pixels.
            `ignore`: nothing, only passes that masked the patch count; a patch that no pass masked
            keeps its pixels, so that its residual is 0. `predict`: the raw, untrained output.
        counted: (B, L) bool, 1 = reconstructed; other patches keep their pixels. None: all are 1.

    Returns:
        (B, 1, H, W) float32, in [0, 1].

    Raises:
        ValueError: an unknown rule, or masks that do not fit images or model.
    """
    _check_choice("visible", visible, get_args(Visible))
    _check_masks(model, images, masks)
    predictions = model.predict_passes(images.to(model.dtype), masks)  # (B·K, L, p·p)
    patches = model.patchify(images.float())  # (B, L, p·p)
    mean = average_passes(predictions.reshape(*masks.shape, -1), patches, masks, visible=visible)
    if counted is not None and not bool(counted.all()):
        mean = torch.where(send(counted, mean.device).unsqueeze(-1), mean, patches)
    return model.unpatchify(mean).clamp(0.0, 1.0)


def average_passes(
    predictions: Tensor, patches: Tensor, masks: Tensor, *, visible: Visible
) -> Tensor:
    """Mean over the passes of every patch's reconstruction (Eq. 4).

    Args:
        predictions: (B, K, L, v), of every pass.
        patches: (B, L, v), the slice's own pixels.
        masks: (B, K, L) bool, 1 = masked; rows may mask different numbers.
        visible: see `mean_reconstruction`.

    Returns:
        (B, L, v) float32, not clipped.
    """
    predictions = predictions.float()
    if visible == "predict":
        return predictions.mean(dim=1)
    hidden = send(masks, predictions.device).unsqueeze(-1).float()  # (B, K, L, 1)
    # Sums over the passes suffice, so patches become images once, not K times.
    predicted, times = (predictions * hidden).sum(dim=1), hidden.sum(dim=1)
    if visible == "paste":
        passes = masks.shape[1]
        return (predicted + (passes - times) * patches) / passes
    return torch.where(times > 0, predicted / times.clamp(min=1), patches)


def residual_map(images: Tensor, reconstructions: Tensor, kind: Kind) -> Tensor:
    """How far each pixel is from its reconstruction (Eq. 5 and Table 7).

    Args:
        images: (B, 1, H, W), in [0, 1].
        reconstructions: (B, 1, H, W), in [0, 1].
        kind: `abs` |I − R|, `squared` (I − R)², `ssim` 1 − SSIM with a Gaussian window of
            σ = 1.5 (Wang et al. 2004), clipped to [0, 1], or `signed` I − R, which is below 0
            where the image is darker than its reconstruction.

    Returns:
        (B, 1, H, W) float32, in [0, 1]; `signed` in [−1, 1].

    Raises:
        ValueError: an unknown kind, or shapes that differ.
    """
    _check_choice("kind", kind, get_args(Kind))
    if images.shape != reconstructions.shape:
        shapes = f"{tuple(images.shape)} and {tuple(reconstructions.shape)}"
        raise ValueError(f"images and reconstructions differ in shape: {shapes}")
    if kind == "ssim":
        return _dissimilarity(images, reconstructions)
    difference = images.float() - reconstructions.float()
    if kind == "signed":
        return difference
    return difference.abs() if kind == "abs" else difference.square()


def least_residual(kind: Kind) -> float:
    """The lower end of a kind's values; the upper one is 1."""
    return -1.0 if kind == "signed" else 0.0


@torch.inference_mode()
def multi_ratio_residuals(
    models: Sequence[MaskedModel],
    images: Tensor,
    masks: Sequence[Tensor],
    *,
    visible: Visible,
    kind: Kind,
    counted: Sequence[Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
    sequences: int | None = None,
    fitting: dict[tuple[int, int], int] | None = None,
) -> Tensor:
    """One residual map of each slice for each mask ratio (section 3.3.1, Fig. 1).

    Args:
        models: R models, one per ratio; the same object may stand for several.
        images: (B, 1, h, w), in [0, 1], of any size and on the models' device.
        masks: R tensors (B, K_r, L_r) bool, 1 = masked; all passes of a slice mask the same
            number of patches.
        visible: see `mean_reconstruction`.
        kind: see `residual_map`.
        counted: R tensors (B, L_r) bool, 1 = reconstructed; residuals of other patches are 0.
            None: all are 1.
        dtype: precision of the models' matrix products. Weights already in it are used as they are
            (fastest: cast the model once); float32 weights go through autocast.
        sequences: slices × passes of one forward, at least one slice. By default it depends on the
            device. It is halved until the device's memory suffices.
        fitting: by map and number of visible patches, the sequences that fitted after halving.
            Filled here; hand it to the next batch, so that memory runs out once, not every time.

    Returns:
        (B, R, h, w) float32, in [0, 1]; `signed` in [−1, 1].

    Raises:
        ValueError: models and masks differ in number, weights cannot serve `dtype`, or see
            `mean_reconstruction`.
    """
    if len(models) != len(masks):
        raise ValueError(f"{len(models)} models but masks for {len(masks)} ratios")
    limit = sequences or SEQUENCES.get(images.device.type, SEQUENCES["cuda"])
    fitting = {} if fitting is None else fitting
    maps = images.new_empty(len(images), len(models), *images.shape[-2:], dtype=torch.float32)
    for place, (model, ratio_masks) in enumerate(zip(models, masks, strict=True)):
        _check_masks(model, images, ratio_masks)
        passes = ratio_masks.shape[1]
        everywhere = torch.ones(len(images), model.num_patches, dtype=torch.bool)
        where = everywhere if counted is None else counted[place]
        with _full_float32(), _precision(model, dtype, images.device):
            for chosen in _equally_visible(ratio_masks):
                there = chosen if isinstance(chosen, slice) else send(chosen, images.device)
                part = _Slices(images[there], ratio_masks[chosen], where[chosen])
                key = (place, int((~part.masks[0, 0]).sum()))
                step = max(1, min(limit, fitting.get(key, limit)) // passes)
                residuals, fits = _in_steps(model, part, visible, kind, step)
                maps[there, place] = residuals[:, 0]
                if fits < step:
                    fitting[key] = fits * passes
    return maps


class _Slices(NamedTuple):
    """Slices, their masks and the patches that count: (B, 1, h, w), (B, K, L), (B, L)."""

    images: Tensor
    masks: Tensor
    counted: Tensor


def _equally_visible(masks: Tensor) -> list[Tensor | slice]:
    """Groups of slices with equally many visible patches, which share a forward."""
    numbers = (~masks[:, 0]).sum(dim=1)
    if bool((numbers == numbers[0]).all()):
        return [slice(None)]
    return [torch.nonzero(numbers == number).squeeze(1) for number in torch.unique(numbers)]


def _in_steps(
    model: MaskedModel, slices: _Slices, visible: Visible, kind: Kind, step: int
) -> tuple[Tensor, int]:
    """Residuals of `step` slices at a time, halved until memory suffices; the step that fits."""
    split = partial(torch.split, split_size_or_sections=step)
    parts = map(_Slices, *map(split, slices))
    try:
        return torch.cat([_slice_residuals(model, part, visible, kind) for part in parts]), step
    except torch.OutOfMemoryError:
        if step == 1:
            raise
    # outside the handler, whose traceback holds the tensors that fill the memory
    return _in_steps(model, slices, visible, kind, step // 2)


def _slice_residuals(model: MaskedModel, slices: _Slices, visible: Visible, kind: Kind) -> Tensor:
    """Residuals, computed at the model's size and resized to the images' (Fig. 1)."""
    images, masks, counted = slices
    small = _at_model_size(model, images)
    reconstructions = mean_reconstruction(model, small, masks, visible=visible, counted=counted)
    maps = residual_map(small, reconstructions, kind)
    if not bool(counted.all()):  # the window of the structural similarity reaches across patches
        maps = maps * patch_pixels(model, send(counted, maps.device))
    height, width = images.shape[-2:]
    return resize(maps, (height, width)).clamp(least_residual(kind), 1.0)


def _at_model_size(model: MaskedModel, images: Tensor) -> Tensor:
    return resize(images.float(), (model.image_size, model.image_size), clamp=True)


def patch_pixels(model: MaskedModel, chosen: Tensor) -> Tensor:
    """Mask of the pixels of chosen patches: (B, L) bool → (B, 1, H, W) bool."""
    return model.unpatchify(chosen.unsqueeze(-1).expand(-1, -1, model.patch_size**2))


def _dissimilarity(images: Tensor, reconstructions: Tensor) -> Tensor:
    # Imported here: torchmetrics takes seconds to import, and the other kinds do not need it.
    from torchmetrics.functional.image import structural_similarity_index_measure

    # In float64: variances are differences of near-equal numbers. In float32 a rounding of 1e-7
    # in a reconstruction grows to 1e-4 in a flat region of the map.
    _, similarity = structural_similarity_index_measure(
        reconstructions.double(), images.double(), data_range=1.0, return_full_image=True
    )
    return (1.0 - similarity).clamp(0.0, 1.0).float()


def _precision(
    model: MaskedModel, dtype: torch.dtype, device: torch.device
) -> AbstractContextManager[object]:
    if model.dtype == dtype:
        return nullcontext()
    if model.dtype != torch.float32:
        raise ValueError(f"weights are {model.dtype} and cannot compute in {dtype}")
    return torch.autocast(device.type, dtype)


@contextmanager
def _full_float32() -> Iterator[None]:
    """Keep cuDNN from rounding float32 convolutions to TF32, so that CPU and GPU agree to 1e-5."""
    cudnn = torch.backends.cudnn
    with cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


def _check_masks(model: MaskedModel, images: Tensor, masks: Tensor) -> None:
    if not len(images):
        raise ValueError("there is no slice to reconstruct")
    expected = (len(images), model.num_patches)
    if masks.ndim != 3 or not masks.shape[1] or (len(masks), masks.shape[2]) != expected:
        shape = tuple(masks.shape)
        raise ValueError(f"masks are {shape}, expected ({expected[0]}, passes, {expected[1]})")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}: found {value!r}, expected one of: {', '.join(choices)}")
