"""A non-contrast heart CT with calcified coronary arteries, and bone of the same brightness.

Axes are the patient's, in mm from the middle: x to the left, y to the back, z to the head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.datasets.phantoms.calcium import ARTERIES, agatston, reference
from pipeline.datasets.phantoms.fields import (
    Array,
    Grid,
    PhantomCase,
    blend,
    blur,
    capsule,
    centred_geometry,
    ct_scan,
    inside,
    lesion_truth,
    oblique,
    radius,
    random_field,
    soft_width,
)
from pipeline.storage.volumes import IDENTITY

DEFAULT_SHAPE = (40, 512, 512)
HEART_CENTRE = (0.0, -12.0, 10.0)
HEART_RADII = (50.0, 43.0, 58.0)
HEART_TURN = np.deg2rad(-32.0)  # in the slice plane: the apex points to the left and front
# directions (z, y, x) from the heart's centre; each artery runs through them on the surface
COURSES = {
    "LAD": ((0.80, -0.58, 0.22), (0.35, -0.80, 0.45), (-0.20, -0.72, 0.66), (-0.55, -0.45, 0.72)),
    "LCX": ((0.84, -0.20, 0.50), (0.45, 0.15, 0.86), (0.00, 0.45, 0.88), (-0.35, 0.72, 0.58)),
    "RCA": ((0.72, -0.58, -0.36), (0.20, -0.50, -0.84), (-0.45, -0.15, -0.86), (-0.78, 0.45, -0.4)),
}
MIDLINE_X = -14.0
MILD_EVERY = 5  # every fifth patient has a single small plaque
ZERO_EVERY = 9  # every ninth patient has no calcium, so that risk group 0 occurs


def heart_case(rng: np.random.Generator, index: int, shape: tuple[int, int, int]) -> PhantomCase:
    """One patient.

    Args:
        rng: the case's own generator.
        index: number of the case; decides vendor, geometry and amount of calcium.
        shape: (z, y, x). Slices are 3 mm apart (2.5 for vendor V4). The field of view in the
            plane is 205 to 240 mm for any shape, so a smaller shape has larger pixels.

    Returns:
        Image int16 HU, label 1 LAD, 2 LCX, 3 RCA.
    """
    fov = rng.uniform(205, 240)
    vendor = index % 4
    grid = Grid(shape, (2.5 if vendor == 3 else 3.0, fov / shape[1], fov / shape[2]))
    tissue, dense, blood = _anatomy(rng, grid)
    shares = np.zeros((3, *shape), np.float32)
    if index % ZERO_EVERY != ZERO_EVERY - 1:
        _draw_coronaries(rng, grid, tissue, shares, mild=index % MILD_EVERY == 1)
    noise_free = blur(tissue, grid, 1.2)
    image = ct_scan(rng, noise_free, sigma=15 + vendor)
    label = reference(image, shares, dense)
    turned = vendor == 2
    direction = oblique(rng.uniform(2, 6), rng.uniform(-5, 5)) if turned else IDENTITY
    geometry = centred_geometry(grid, direction)
    truth = {
        **lesion_truth(label, grid),
        "agatston": agatston(image, label, grid),
        "agatston_noise_free": agatston(noise_free, label, grid),
        "direction": list(geometry.direction),
    }
    decoy = None
    if index % 3 == 0:
        decoy = ct_scan(rng, noise_free + np.float32(320) * blood, sigma=20)
    return PhantomCase(image, label, geometry, truth, decoy)


def _anatomy(rng: np.random.Generator, grid: Grid) -> tuple[Array, Array, Array]:
    """Tissue in HU, and each voxel's share of bone and aortic calcium, and of blood."""
    z, y, x = grid.axes()
    width = soft_width(grid)
    size = rng.uniform(0.95, 1.05)
    tissue = np.full(grid.shape, -100.0, np.float32)  # fat below the skin
    wall = 92 * (1 - radius(z, y, x, (0, 0, MIDLINE_X), (1e6, 92 * size, 138 * size)))
    blend(tissue, -1000, inside(-wall - 34, width))  # air around the patient
    texture = 14 * random_field(rng, grid, 12)
    blend(tissue, 50 + texture, inside(wall + 9 - np.abs(texture) / 5, width))  # muscle
    blend(tissue, -840 + texture * 2, inside(wall, width))  # lung
    _draw_lung_vessels(rng, grid, tissue)
    for centre in ((-112, 8, MIDLINE_X - 48), (-122, 0, MIDLINE_X + 62)):
        dome = 70 * (1 - radius(z, y, x, centre, (78, 84, 66)))
        blend(tissue, 58 + texture / 2, inside(np.minimum(dome, wall), width))  # liver, spleen
    heart = _draw_heart(rng, grid, tissue, size)
    bone = np.zeros(grid.shape, np.float32)
    _draw_bones(rng, grid, tissue, bone, wall)
    _draw_aortic_calcium(rng, grid, tissue, bone)
    return tissue, bone, heart


def _heart_axes(z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Positions in mm along the heart's own axes, which are turned in the slice plane."""
    cos, sin = np.float32(np.cos(HEART_TURN)), np.float32(np.sin(HEART_TURN))
    up, back, left = (axis - np.float32(c) for axis, c in zip((z, y, x), HEART_CENTRE, strict=True))
    return up, cos * back - sin * left, sin * back + cos * left


def _draw_lung_vessels(rng: np.random.Generator, grid: Grid, tissue: Array) -> None:
    half = grid.extent[0] / 2
    for _ in range(90):
        side = rng.choice((-1, 1))
        start = np.array([rng.uniform(-half, half), rng.uniform(0, 40), MIDLINE_X + side * 30])
        reach = np.array([rng.normal(0, 25), rng.uniform(-75, 40), side * rng.uniform(20, 80)])
        thickness = rng.uniform(0.7, 2.2)
        drawn = capsule(grid, start + 0.35 * reach, start + reach, (thickness, thickness / 2))
        if drawn is not None:
            lung = tissue[drawn[0]] < -500
            blend(tissue[drawn[0]], 30, drawn[1] * lung)


def _draw_heart(rng: np.random.Generator, grid: Grid, tissue: Array, size: float) -> Array:
    """Draw the heart, its fat and the great vessels; return each voxel's share of blood."""
    z, y, x = grid.axes()
    width = soft_width(grid)
    lumps = 3 * random_field(rng, grid, 35)
    mediastinum = 30 * (1 - radius(z, y, x, (0, 0, MIDLINE_X + 6), (1e6, 100, 30))) + lumps
    blend(tissue, -95, inside(mediastinum, width))
    up, back, left = _heart_axes(z, y, x)
    outside = (radius(up, back, left, (0, 0, 0), HEART_RADII) - 1) * 48
    blend(tissue, -95, inside(11 + lumps - outside, width))  # fat around the heart
    blend(tissue, 32, inside(np.float32(1.0) - np.abs(outside - 10 - lumps), width))  # pericardium
    heart = inside(-outside - 1.5 + lumps / 3, width)
    blend(tissue, 46, heart)
    grooves = np.abs(random_field(rng, grid, 28))
    blend(tissue, -60, inside(2.5 - 10 * grooves, width) * inside(4 + outside, width) * heart)
    for centre, radii in _vessels(size):
        vessel = inside(min(radii[1:]) * (1 - radius(z, y, x, centre, radii)), width)
        blend(tissue, 44, vessel)
        np.maximum(heart, vessel, out=heart)
    blend(tissue, 20, inside(radius(z, y, x, (0, 42, -4), (1e6, 7, 9)) * -8 + 8, width))
    return heart


def _vessels(size: float) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Centres and radii of the great vessels in mm (z, y, x)."""
    return [
        ((62.0, -14.0, -14.0), (44.0, 16.0 * size, 16.0 * size)),  # ascending aorta
        ((64.0, -24.0, 14.0), (38.0, 13.0, 14.0)),  # pulmonary trunk
        ((60.0, -6.0, -42.0), (52.0, 10.0, 9.0)),  # superior vena cava
        ((0.0, 58.0, 10.0), (1e6, 12.0 * size, 12.0 * size)),  # descending aorta
    ]


def _draw_bones(
    rng: np.random.Generator, grid: Grid, tissue: Array, bone: Array, wall: Array
) -> None:
    """Draw spine, sternum and ribs, whose dense shells lie above 130 HU, and add them to `bone`."""
    z, y, x = grid.axes()
    width = soft_width(grid)
    phase = rng.uniform(0, 24)
    marrow = 190 + 40 * random_field(rng, grid, 9)
    level = np.abs((z + phase) % 24 - 12)
    body = 18 * (1 - radius(z, y, x, (0, 82, MIDLINE_X), (1e6, 16, 20)))
    arch = 9 * (1 - radius(z, y, x, (0, 112, MIDLINE_X), (1e6, 11, 25)))
    canal = 8 * (1 - radius(z, y, x, (0, 104, MIDLINE_X), (1e6, 8, 9)))
    vertebra = np.maximum(np.minimum(body, 10 - level), np.minimum(arch, 8 - level))
    sternum = 7 * (1 - radius(z, y, x, (0, -98, MIDLINE_X), (1e6, 6.5, 17)))
    slope = (z + phase + 0.35 * y) % 26
    rib = np.minimum(4.5 - np.abs(wall + 5), 6.5 - np.abs(slope - 13))
    rib = np.minimum(rib, np.abs(x - MIDLINE_X) - 24)
    blend(tissue, 75, inside(np.minimum(body, level - 10), width))  # discs
    for depth in (vertebra, sternum, rib):
        blend(tissue, 520, inside(depth, width))
        blend(tissue, marrow, inside(depth - 2.5, width))
        np.maximum(bone, inside(depth + 1.5, width), out=bone)
    blend(tissue, 25, inside(canal, width))


def _draw_aortic_calcium(rng: np.random.Generator, grid: Grid, tissue: Array, dense: Array) -> None:
    """Draw plaques on the descending aorta: as bright as coronary plaques, but not labelled."""
    for _ in range(int(rng.integers(1, 5))):
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(-0.45, 0.45) * grid.extent[0]
        y, x = 58 + 11.5 * np.sin(angle), 10 + 11.5 * np.cos(angle)
        drawn = capsule(
            grid,
            (height, y, x),
            (height + rng.uniform(2, 9), y, x + rng.uniform(-3, 3)),
            (1.8, 1.4),
        )
        if drawn is not None:
            box, share = drawn
            blend(tissue[box], rng.uniform(350, 900), share)
            np.maximum(dense[box], share, out=dense[box])


def course(artery: str, steps: int = 120) -> npt.NDArray[np.float64]:
    """Points (steps, 3) in mm (z, y, x) along an artery, in the fat on the heart's surface."""
    knots = np.array(COURSES[artery])
    t = np.linspace(0, len(knots) - 1, steps)
    lines = [np.interp(t, np.arange(len(knots)), knots[:, axis]) for axis in range(3)]
    path = ndimage.gaussian_filter1d(np.stack(lines, axis=1), 8, axis=0, mode="nearest")
    cos, sin = np.cos(HEART_TURN), np.sin(HEART_TURN)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    path = path @ turn.T
    path *= 1 / np.linalg.norm(path / np.array(HEART_RADII), axis=1, keepdims=True)
    path *= 1 + 4.0 / np.linalg.norm(path, axis=1, keepdims=True)  # 4 mm outside, in the fat
    points: npt.NDArray[np.float64] = np.array(HEART_CENTRE) + path @ turn
    return points


def _draw_coronaries(
    rng: np.random.Generator, grid: Grid, tissue: Array, shares: Array, *, mild: bool
) -> None:
    """Draw the arteries and their plaques; write the plaques' share to `shares` (3, z, y, x)."""
    diseased = int(rng.integers(3))
    for number, artery in enumerate(ARTERIES):
        path = course(artery)
        path = path + ndimage.gaussian_filter1d(rng.normal(0, 6, path.shape), 12, axis=0)
        for start, end in zip(path[:-4:4], path[4::4], strict=True):
            drawn = capsule(grid, start, end, (1.7, 1.7))
            if drawn is not None:
                blend(tissue[drawn[0]], 45, drawn[1])
        shown = np.flatnonzero(np.abs(path[:, 0]) < grid.extent[0] / 2 - 2 * grid.spacing[0])
        shown = shown[(shown > 6) & (shown < 108)]
        wanted = int(rng.integers(0, 4)) + 2 * (number == diseased)
        if mild:
            wanted = int(number == diseased)
        for _ in range(wanted if len(shown) else 0):
            place = path[int(rng.choice(shown)) :]
            _draw_plaque(rng, grid, tissue, shares[number], place, mild)


def _draw_plaque(
    rng: np.random.Generator,
    grid: Grid,
    tissue: Array,
    share: Array,
    path: npt.NDArray[np.float64],
    mild: bool,
) -> None:
    """Draw a plaque of one to four unequal beads along the artery, from the start of `path`."""
    density = rng.uniform(380, 1150) * (0.6 if mild else 1)
    beads = 1 if mild else int(rng.integers(1, 5))
    place = 0
    for _ in range(beads):
        start, end = path[place], path[min(place + 2, len(path) - 1)]
        offset = rng.normal(0, 0.5, 3)
        thickness = rng.uniform(1.4, 2.2 if mild else 3.0, 2)
        drawn = capsule(grid, start + offset, end + offset, (thickness[0], thickness[1]))
        if drawn is not None:
            box, part = drawn
            blend(tissue[box], density * rng.uniform(0.7, 1.1), part)
            np.maximum(share[box], part, out=share[box])
        place = min(place + int(rng.integers(1, 4)), len(path) - 1)
