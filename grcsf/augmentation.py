"""Slices varied for training: moved with their maps and label, and slightly changed in intensity.

Every number is drawn beforehand from a seed, by a generator of its own: torchvision's functions
take them as arguments, so a resumed training goes on with the same bits, and no other draw of a
training depends on whether its slices are varied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from grcsf.autocast import without_autocast

BEND_POINTS = 5  # of elastic deformations, along each side


@dataclass(frozen=True)
class Strengths:
    """How far slices are varied; 0 leaves that part out."""

    flip: float = 0.0  # probability that left and right change places
    rotate: float = 0.0  # degrees, either way
    scale: float = 0.0  # share: at 0.2 from 0.8 to 1.2 times the size
    shift: float = 0.0  # share of the height and of the width, either way
    elastic: float = 0.0  # share of the sides by which points of a coarse grid move, either way
    gamma: float = 0.0  # at 0.2 exponents from 1/1.2 to 1.2
    noise: float = 0.0  # highest standard deviation, of images in [0, 1]


@dataclass(frozen=True)
class Variation:
    """What is done to one slice."""

    mirrored: bool
    degrees: float  # clockwise, for rows that go down
    scale: float
    shift: tuple[float, float]  # right and down, shares of the width and the height
    bend: torch.Tensor  # (1, 2, 5, 5) float32: (x, y) shares of the sides, over the slice
    exponent: float
    noise: float  # standard deviation
    noise_seed: int


def draw_variations(strengths: Strengths, count: int, seed: Sequence[int]) -> list[Variation]:
    """Variations of `count` slices from `seed`, such as a training's seed, epoch and batch.

    Another strength changes nothing in how the other parts vary.
    """
    # a key of their own keeps these draws apart from others of the same seed, such as masks
    source = np.random.SeedSequence(seed, spawn_key=(1,))
    random = np.random.default_rng(source)
    variations = []
    for _ in range(count):
        flip, degrees, scale, right, down, gamma, noise = random.random(7)
        bend = random.uniform(-1, 1, (1, 2, BEND_POINTS, BEND_POINTS))
        variations.append(
            Variation(
                mirrored=bool(flip < strengths.flip),
                degrees=float(2 * degrees - 1) * strengths.rotate,
                scale=1 + float(2 * scale - 1) * strengths.scale,
                shift=(
                    float(2 * right - 1) * strengths.shift,
                    float(2 * down - 1) * strengths.shift,
                ),
                bend=torch.from_numpy(strengths.elastic * bend).float(),
                exponent=float((1 + strengths.gamma) ** (2 * gamma - 1)),
                noise=float(noise) * strengths.noise,
                noise_seed=int(random.integers(2**63)),
            )
        )
    return variations


def varied(
    batch: Mapping[str, torch.Tensor], variations: Sequence[Variation]
) -> dict[str, torch.Tensor]:
    """A batch in which each slice went through its variation; the batch itself stays as it is.

    Args:
        batch: `image` (B, C, h, w) in [0, 1], a slice or one among its neighbours, which move with
            it; with or without `residuals` (B, R, h, w), in [0, 1] or [-1, 1], and `label`
            (B, 1, h, w) {0, 1}. All are float32.
        variations: one for each slice.

    Returns:
        The same keys, shapes and ranges. What comes from beyond a slice is 0 everywhere: no
        lesion, and a residual of nothing. Residuals keep their values, wherever they move to.
    """
    image = batch["image"]
    # under autocast, coordinates of 16 bits would miss pixels
    with torch.no_grad(), without_autocast(image):
        made = dict(batch)
        for key in {"image", "residuals", "label"} & batch.keys():
            slices = zip(batch[key], variations, strict=True)
            made[key] = torch.stack([moved(part, how, key == "label") for part, how in slices])
        pairs = zip(made["image"], variations, strict=True)
        made["image"] = torch.stack([_with_other_intensities(part, how) for part, how in pairs])
    return made


def moved(planes: torch.Tensor, how: Variation, nearest: bool = False) -> torch.Tensor:
    """Planes (C, h, w) mirrored, then turned, scaled and shifted about the centre, then bent.

    Interpolation is bilinear, or by the nearest pixel; a part that changes nothing keeps all bits.
    """
    # torchvision takes long to import, and few trainings need it
    from torchvision.transforms.v2 import InterpolationMode, functional

    mode: Any = InterpolationMode.NEAREST if nearest else InterpolationMode.BILINEAR
    height, width = planes.shape[-2:]
    if how.mirrored:
        planes = functional.horizontal_flip(planes)
    if (how.degrees, how.scale, *how.shift) != (0, 1, 0, 0):
        right, down = how.shift
        planes = functional.affine(
            planes,
            angle=how.degrees,
            translate=[right * width, down * height],
            scale=how.scale,
            shear=[0.0, 0.0],
            interpolation=mode,
        )
    if how.bend.any():
        # a cubic between the points has no kinks; torchvision counts a side as 2
        fine = interpolate(2 * how.bend, (height, width), mode="bicubic", align_corners=True)
        field = fine.permute(0, 2, 3, 1).to(planes.device)  # (1, h, w, 2)
        planes = functional.elastic(planes, field, interpolation=mode)
    return planes


def _with_other_intensities(image: torch.Tensor, how: Variation) -> torch.Tensor:
    """An image (C, h, w) in [0, 1] under the variation's exponent and noise, clipped to [0, 1]."""
    image = image.clamp(0, 1)  # interpolation rounds
    if how.exponent != 1:
        image = image**how.exponent
    if how.noise > 0:
        # drawn on the processor, so that every device has the same
        generator = torch.Generator().manual_seed(how.noise_seed)
        noise = torch.randn(image.shape, generator=generator).to(image.device)
        image = (image + how.noise * noise).clamp(0, 1)
    return image
