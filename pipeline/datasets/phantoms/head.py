"""A T1-weighted head in MNI space with dark lesions of low contrast; the cohort is the scanner.

Axes are those of the files, in mm from the middle of the field of view: x to the right, y to the
front, z to the top.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.datasets.phantoms.fields import (
    Array,
    Grid,
    PhantomCase,
    blend,
    blur,
    inside,
    lesion_truth,
    radius,
    random_field,
    soft_width,
)
from pipeline.storage.volumes import Geometry

DEFAULT_SHAPE = (189, 233, 197)
FIELD_OF_VIEW = (189.0, 233.0, 197.0)  # mm, as of MNI152NLin2009aSym at 1 mm
MNI_CORNER = (-72.0, -134.0, -98.0)  # mm, right-anterior-superior, of the first voxel at 1 mm
SIZE_CLASSES = ((25, 90), (160, 800), (1300, 12000))  # in voxels; Fig. 9 divides at 100 and 1,000
LARGEST_MM3 = 90_000
CENTRE = np.array((-8.0, 0.0, 0.0), np.float32)  # of the cerebrum
CSF, GREY, WHITE = 0.28, 0.70, 1.0
FOLD_STEP = 2.0


def head_case(
    rng: np.random.Generator, shape: tuple[int, int, int], cohort: int, size_class: int
) -> PhantomCase:
    """One patient.

    Args:
        rng: the case's own generator.
        shape: (z, y, x); the head keeps its size in mm, voxels grow as the shape shrinks.
        cohort: decides the scanner: contrast, noise, bias field, units.
        size_class: size of all lesions together: 0 up to 100 voxels, 1 up to 1,000, 2 above. In a
            brain of less than 8,000 voxels, class 2 is smaller.

    Returns:
        Image int16 in arbitrary units, label 0/1.
    """
    sizes = zip(FIELD_OF_VIEW, shape, strict=True)
    spacing = [length / n for length, n in sizes]
    grid = Grid(shape, (spacing[0], spacing[1], spacing[2]))
    tissue, brain = _anatomy(rng, grid)
    label, darkening, contrasts = _lesions(rng, grid, brain, size_class)
    tissue *= 1 - darkening
    image = _scan(rng, tissue, grid, cohort)
    geometry = mni_geometry(grid)
    truth = {
        **lesion_truth(label, grid),
        "size_class": size_class,
        "darkening": contrasts,
        "direction": list(geometry.direction),
    }
    return PhantomCase(image, label, geometry, truth)


def mni_geometry(grid: Grid) -> Geometry:
    """This grid in MNI space, where x and y run against ITK's (LPS) axes."""
    corner = [low - 0.5 + step / 2 for low, step in zip(MNI_CORNER, grid.spacing, strict=True)]
    direction = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
    return Geometry(grid.shape, grid.spacing, (corner[0], -corner[1], -corner[2]), direction)


def _anatomy(rng: np.random.Generator, grid: Grid) -> tuple[Array, Array]:
    """Signal, with white matter at 1, and the depth in mm below the brain's surface."""
    z, y, x = _warped(rng, grid)
    width = soft_width(grid)
    cerebrum = _cerebral_radius(z, y, x)
    depth = (1 - cerebrum) * np.float32(68)
    tissue = _skull_and_face(rng, grid, (z, y, x), depth)
    blend(tissue, CSF, inside(depth + 3.5, width))
    folded = _fold_depth(z, y, x, cerebrum, depth)
    hemisphere = np.minimum(depth, folded)
    blend(tissue, GREY, inside(hemisphere - 0.7, width))
    blend(tissue, WHITE, inside(hemisphere - 4.2, width))
    below = _draw_cerebellum_and_stem(tissue, (z, y, x), depth, width)
    _draw_deep_structures(tissue, z, y, x, width)
    return tissue, np.maximum(hemisphere, below)


def _warped(rng: np.random.Generator, grid: Grid) -> tuple[Array, Array, Array]:
    """Each voxel's position in the template: scaled, and bent by a smooth random field."""
    axes = [axis - middle for axis, middle in zip(grid.axes(), CENTRE, strict=True)]
    scale = rng.uniform(0.95, 1.05, 3).astype(np.float32)
    warped = [
        axis * factor + np.float32(2.6) * random_field(rng, grid, 55)
        for axis, factor in zip(axes, scale, strict=True)
    ]
    return warped[0], warped[1], warped[2]


def _cerebral_radius(z: Array, y: Array, x: Array) -> Array:
    """Relative distance from the cerebrum's centre, 1 on its surface.

    The cerebrum is flatter below, narrower in front, and has temporal lobes.
    """
    height = np.where(z > 0, np.float32(1 / 66), np.float32(1 / 44))
    breadth = 66 * (1 - y * np.float32(0.0014))
    body = np.sqrt((z * height) ** 2 + (y * np.float32(1 / 85)) ** 2 + (x / breadth) ** 2)
    temporal = radius(z, y, np.abs(x), (-32, 8, 40), (24, 38, 23))
    # a temporal lobe is smaller than the body, so its relative distance is rescaled to the same mm
    result: Array = np.minimum(body, 1 + (temporal - 1) * np.float32(27 / 68))
    return result


@lru_cache(maxsize=1)
def _fold_template() -> Array:
    """Random gyral pattern that all heads share, 240 mm wide at 2 mm; 0 along a sulcus."""
    return random_field(np.random.default_rng(2009), Grid((120,) * 3, (FOLD_STEP,) * 3), 9.0)


def _fold_depth(z: Array, y: Array, x: Array, cerebrum: Array, depth: Array) -> Array:
    """Distance in mm to the nearest sulcus or fissure."""
    # along a radius the pattern hardly changes, so that sulci run inwards
    stretch = (np.float32(0.6) + np.float32(0.4) * cerebrum) / np.maximum(cerebrum, 0.15)
    places = np.stack([axis * stretch / np.float32(FOLD_STEP) + 60 for axis in (z, y, x)])
    pattern = ndimage.map_coordinates(_fold_template(), places, order=1, mode="grid-wrap")
    sulcus = np.maximum(np.abs(pattern) * np.float32(5.0), (depth - 21) * np.float32(0.8))
    callosum = radius(z, y, x, (14, 0, 0), (11, 40, 40))
    fissure = np.maximum(np.abs(x) - 0.4, (1.25 - callosum) * 24)
    fissure = np.where(z < -4, np.maximum(fissure, 40 - np.abs(y)), fissure)
    sylvian = np.maximum(np.abs(z + 12 + y * np.float32(0.25)) - 0.3, 36 - np.abs(x))
    sylvian = np.maximum(sylvian, np.abs(y - 8) - 30)
    result: Array = np.minimum(np.minimum(sulcus, fissure), sylvian)
    return result


def _skull_and_face(
    rng: np.random.Generator, grid: Grid, place: tuple[Array, Array, Array], depth: Array
) -> Array:
    """Signal of everything around the brain: air, scalp, bone with marrow, muscle of the neck."""
    z, y, x = place
    width = soft_width(grid)
    thick = 3.2 + 0.7 * random_field(rng, grid, 40)
    scalp = inside(depth + 3.5 + 3.2 * thick, width)
    tissue = np.full(grid.shape, 0.015, np.float32)
    neck = 50 * (1 - radius(z, y, x, (-90, -22, 0), (80, 52, 54)))
    face = 45 * (1 - radius(z, y, x, (-62, 42, 0), (46, 46, 50)))
    soft = np.maximum(neck, face)
    blend(tissue, 0.95, inside(soft, width))
    blend(tissue, 0.48 + 0.12 * random_field(rng, grid, 14), inside(soft - 6, width))
    cavity = 14 * (1 - radius(z, y, np.abs(x), (-46, 58, 16), (14, 20, 11)))
    blend(tissue, 0.03, inside(cavity, width))
    blend(tissue, 0.95, scalp)
    blend(tissue, 0.10, inside(depth + 3.5 + 2.0 * thick, width))
    diploe = inside(depth + 3.5 + 1.4 * thick, width) * (1 - inside(depth + 4.2 + thick, width))
    blend(tissue, 0.55, diploe)
    blend(tissue, 0.10, inside(depth + 3.9 + 0.4 * thick, width))
    return tissue


def _draw_cerebellum_and_stem(
    tissue: Array, place: tuple[Array, Array, Array], depth: Array, width: float
) -> Array:
    """Draw both below the cerebrum, whose depth in mm is given; return their depth in mm."""
    z, y, x = place
    ball = radius(z, y, np.abs(x), (-46, -52, 20), (25, 29, 32))
    cerebellum = (1 - ball) * 27
    folia = np.abs((ball * 6 + 0.04 * y) % 1 - 0.5) * 2  # thin leaves, finer than the cerebrum's
    stem = 13 * (1 - radius(z, y - 0.25 * (z + 40), x, (-52, -20, 0), (48, 13, 14)))
    fluid = inside(np.maximum(cerebellum, stem) + 3.5, width) * inside(3 - depth, width)
    blend(tissue, CSF, fluid)
    blend(tissue, GREY - 0.06 + 0.1 * folia, inside(cerebellum, width))
    blend(tissue, 0.93, inside(cerebellum - 12, width))
    blend(tissue, 0.90, inside(stem, width))
    fourth = 5 * (1 - radius(z, y, x, (-46, -36, 0), (11, 5, 6)))
    blend(tissue, CSF, inside(fourth, width))
    result: Array = np.maximum(cerebellum, stem)
    return result


def _draw_deep_structures(tissue: Array, z: Array, y: Array, x: Array, width: float) -> None:
    """Draw callosum, basal ganglia and ventricles, mirrored at the midline."""
    side = np.abs(x)
    callosum = 4 * (1 - np.abs(radius(z, y, side, (4, -2, 0), (18, 36, 30)) - 1) * 5)
    blend(tissue, WHITE, inside(np.minimum(callosum, z - 2), width) * inside(14 - side, width))
    grey = [
        ((2, -14, 11), (9, 15, 9), 0.78),  # thalamus
        ((0, 6, 25), (10, 17, 6), 0.72),  # putamen
        ((9, 18, 13), (9, 13, 5), 0.70),  # caudate
    ]
    for centre, radii, value in grey:
        blend(tissue, value, inside(radii[2] * (1 - radius(z, y, side, centre, radii)), width))
    bend = z - 12 + 0.012 * (y + 4) ** 2
    body = 6 * (1 - radius(bend, y, side, (0, -4, 9), (7, 34, 6.5)))
    horn = 6 * (1 - radius(z, y, side - 0.35 * np.abs(y + 34), (2, -42, 15), (8, 17, 6)))
    third = 2.5 * (1 - radius(z, y, x, (-3, -8, 0), (9, 13, 2.4)))
    fluid = np.maximum(np.maximum(body, horn), third)
    blend(tissue, CSF, inside(fluid, width))


def _lesions(
    rng: np.random.Generator, grid: Grid, depth: Array, size_class: int
) -> tuple[npt.NDArray[np.uint8], Array, list[float]]:
    """Label, darkening (each voxel's lost share of signal), and the darkening of each core."""
    label = np.zeros(grid.shape, np.uint8)
    darkening = np.zeros(grid.shape, np.float32)
    tissue = depth > 1.0
    low, high = SIZE_CLASSES[size_class]
    high = max(min(high, int(LARGEST_MM3 / grid.voxel_mm3)), low + 1)
    wanted = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    wanted = min(wanted, int(np.count_nonzero(tissue)) // 8)
    several = size_class > 0 and rng.random() < 0.4
    parts = [round(wanted * 0.8), wanted - round(wanted * 0.8)] if several else [wanted]
    contrasts = []
    for voxels in parts:
        contrast = float(rng.uniform(0.12, 0.2) if rng.random() < 0.25 else rng.uniform(0.25, 0.55))
        shape = _lesion(rng, grid, tissue & (label == 0), voxels)
        label[shape] = 1
        edge = blur(shape.astype(np.float32), grid, 2.5)
        np.maximum(darkening, edge * np.float32(contrast), out=darkening)
        contrasts.append(round(contrast, 3))
    return label, darkening, contrasts


def _lesion(
    rng: np.random.Generator, grid: Grid, tissue: npt.NDArray[np.bool_], voxels: int
) -> npt.NDArray[np.bool_]:
    """An irregular connected region of about `voxels` voxels of brain tissue."""
    reach = float(np.cbrt(voxels * grid.voxel_mm3 * 0.24))  # radius of a ball of this volume
    candidates = np.flatnonzero(tissue)
    centre = np.unravel_index(int(rng.choice(candidates)), grid.shape)
    middle = grid.points(np.array(centre)[None])[0]
    stretch = np.exp(rng.normal(0, 0.25, 3))
    z, y, x = grid.axes()
    distance = radius(z, y, x, middle, reach * stretch)
    distance *= 1 + 0.22 * random_field(rng, grid, max(1.1 * reach, 5.0))
    distance = np.where(tissue, distance, np.inf)
    limit = np.partition(distance.ravel(), voxels)[voxels]
    parts, _ = ndimage.label(distance < limit)
    largest = int(np.argmax(np.bincount(parts.ravel())[1:])) + 1
    region: npt.NDArray[np.bool_] = parts == largest
    return region


def _scan(
    rng: np.random.Generator, tissue: Array, grid: Grid, cohort: int
) -> npt.NDArray[np.int16]:
    """The image of the cohort's scanner: contrast, blur, bias field, Rician noise, units."""
    scanner = np.random.default_rng([cohort, 2018])
    power, units = scanner.uniform(0.8, 1.25), scanner.choice((180, 420, 900, 1800))
    sigma, bias = scanner.uniform(0.018, 0.04), scanner.uniform(0.03, 0.1)
    fwhm = scanner.uniform(0.8, 1.6)
    signal = blur(np.clip(tissue, 0, 2) ** np.float32(power), grid, fwhm)
    signal = signal * np.exp(np.float32(bias) * random_field(rng, grid, 90))
    real = signal + np.float32(sigma) * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(grid.shape, dtype=np.float32)
    gain = units * rng.uniform(0.85, 1.15)
    scanned: npt.NDArray[Any] = np.hypot(real, imaginary) * np.float32(gain)
    stored: npt.NDArray[np.int16] = np.rint(np.minimum(scanned, 32767)).astype(np.int16)
    return stored
