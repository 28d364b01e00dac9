"""A non-contrast heart CT with calcified coronary arteries, and bone of the same brightness.

Axes are the patient's, in mm from the middle: x to the left, y to the back, z to the head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.datasets.phantoms import fields
from pipeline.datasets.phantoms.calcium import ARTERIES, agatston, reference
from pipeline.datasets.phantoms.fields import Array, Grid, PhantomCase, Scene, blend, radius
from pipeline.storage.images.geometry import IDENTITY

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
    """One patient: image int16 HU, label 1 LAD, 2 LCX, 3 RCA; slices 3 mm apart (V4: 2.5).

    `index` decides vendor, geometry and amount of calcium. The field of view in the plane is 205 to
    240 mm for any shape (z, y, x).
    """
    fov = rng.uniform(205, 240)
    vendor = index % 4
    grid = Grid(shape, (2.5 if vendor == 3 else 3.0, fov / shape[1], fov / shape[2]))
    scene = Scene(rng, grid, np.full(shape, -100.0, np.float32))  # fat below the skin
    dense, blood = _draw_anatomy(scene)
    shares = np.zeros((3, *shape), np.float32)
    if index % ZERO_EVERY != ZERO_EVERY - 1:
        _draw_coronaries(scene, shares, mild=index % MILD_EVERY == 1)
    noise_free = fields.blur(scene.tissue, grid, 1.2)
    image = fields.ct_scan(rng, noise_free, sigma=15 + vendor)
    label = reference(image, shares, dense)
    turned = vendor == 2
    direction = fields.oblique(rng.uniform(2, 6), rng.uniform(-5, 5)) if turned else IDENTITY
    truth = {
        "agatston": agatston(image, label, grid),
        "agatston_noise_free": agatston(noise_free, label, grid),
    }
    decoy = None
    if index % 3 == 0:
        decoy = fields.ct_scan(rng, noise_free + np.float32(320) * blood, sigma=20)
    return PhantomCase(image, label, fields.centred_geometry(grid, direction), truth, decoy)


def _draw_anatomy(scene: Scene) -> tuple[Array, Array]:
    """Draw tissue in HU; return each voxel's share of bone and aortic calcium, and of blood."""
    z, y, x = scene.grid.axes()
    size = scene.rng.uniform(0.95, 1.05)
    wall = 92 * (1 - radius(z, y, x, (0, 0, MIDLINE_X), (1e6, 92 * size, 138 * size)))
    scene.draw(-1000, -wall - 34)  # air around the patient
    texture = 14 * scene.random_field(12)
    scene.draw(50 + texture, wall + 9 - np.abs(texture) / 5)  # muscle
    scene.draw(-840 + texture * 2, wall)  # lung
    _draw_lung_vessels(scene)
    for centre in ((-112, 8, MIDLINE_X - 48), (-122, 0, MIDLINE_X + 62)):
        dome = 70 * (1 - radius(z, y, x, centre, (78, 84, 66)))
        scene.draw(58 + texture / 2, np.minimum(dome, wall))  # liver, spleen
    blood = _draw_heart(scene, size)
    dense = _draw_bones(scene, wall)
    _draw_aortic_calcium(scene, dense)
    return dense, blood


def _heart_axes(z: Array, y: Array, x: Array) -> tuple[Array, Array, Array]:
    """Positions in mm along the heart's own axes, which are turned in the slice plane."""
    cos, sin = np.float32(np.cos(HEART_TURN)), np.float32(np.sin(HEART_TURN))
    up, back, left = (axis - np.float32(c) for axis, c in zip((z, y, x), HEART_CENTRE, strict=True))
    return up, cos * back - sin * left, sin * back + cos * left


def _draw_lung_vessels(scene: Scene) -> None:
    rng, half = scene.rng, scene.grid.height / 2
    for _ in range(90):
        side = rng.choice((-1, 1))
        start = np.array([rng.uniform(-half, half), rng.uniform(0, 40), MIDLINE_X + side * 30])
        reach = np.array([rng.normal(0, 25), rng.uniform(-75, 40), side * rng.uniform(20, 80)])
        thickness = rng.uniform(0.7, 2.2)
        box, share = scene.tube(start + 0.35 * reach, start + reach, (thickness, thickness / 2))
        blend(scene.tissue[box], 30, share * (scene.tissue[box] < -500))


def _draw_heart(scene: Scene, size: float) -> Array:
    """Draw the heart, its fat and the great vessels; return each voxel's share of blood."""
    z, y, x = scene.grid.axes()
    lumps = 3 * scene.random_field(35)
    mediastinum = 30 * (1 - radius(z, y, x, (0, 0, MIDLINE_X + 6), (1e6, 100, 30))) + lumps
    scene.draw(-95, mediastinum)
    outside = (radius(*_heart_axes(z, y, x), (0, 0, 0), HEART_RADII) - 1) * 48
    scene.draw(-95, 11 + lumps - outside)  # fat around the heart
    scene.draw(32, np.float32(1.0) - np.abs(outside - 10 - lumps))  # pericardium
    heart = scene.inside(-outside - 1.5 + lumps / 3)
    blend(scene.tissue, 46, heart)
    grooves = scene.inside(2.5 - 10 * np.abs(scene.random_field(28)))
    blend(scene.tissue, -60, grooves * scene.inside(4 + outside) * heart)
    great_vessels = [
        ((62, -14, -14), (44, 16 * size, 16 * size)),  # ascending aorta
        ((64, -24, 14), (38, 13, 14)),  # pulmonary trunk
        ((60, -6, -42), (52, 10, 9)),  # superior vena cava
        ((0, 58, 10), (1e6, 12 * size, 12 * size)),  # descending aorta
    ]
    for centre, radii in great_vessels:
        vessel = scene.inside(min(radii[1:]) * (1 - radius(z, y, x, centre, radii)))
        blend(scene.tissue, 44, vessel)
        np.maximum(heart, vessel, out=heart)
    scene.draw(20, radius(z, y, x, (0, 42, -4), (1e6, 7, 9)) * -8 + 8)  # oesophagus
    return heart


def _draw_bones(scene: Scene, wall: Array) -> Array:
    """Draw spine, sternum and ribs; return their dense shells, which lie above 130 HU."""
    z, y, x = scene.grid.axes()
    phase = scene.rng.uniform(0, 24)
    marrow = 190 + 40 * scene.random_field(9)
    level = np.abs((z + phase) % 24 - 12)
    body = 18 * (1 - radius(z, y, x, (0, 82, MIDLINE_X), (1e6, 16, 20)))
    arch = 9 * (1 - radius(z, y, x, (0, 112, MIDLINE_X), (1e6, 11, 25)))
    vertebra = np.maximum(np.minimum(body, 10 - level), np.minimum(arch, 8 - level))
    sternum = 7 * (1 - radius(z, y, x, (0, -98, MIDLINE_X), (1e6, 6.5, 17)))
    slope = (z + phase + 0.35 * y) % 26
    rib = np.minimum(4.5 - np.abs(wall + 5), 6.5 - np.abs(slope - 13))
    rib = np.minimum(rib, np.abs(x - MIDLINE_X) - 24)
    scene.draw(75, np.minimum(body, level - 10))  # discs
    bone = np.zeros(scene.grid.shape, np.float32)
    for depth in (vertebra, sternum, rib):
        scene.draw(520, depth)
        scene.draw(marrow, depth - 2.5)
        np.maximum(bone, scene.inside(depth + 1.5), out=bone)
    scene.draw(25, 8 * (1 - radius(z, y, x, (0, 104, MIDLINE_X), (1e6, 8, 9))))  # spinal canal
    return bone


def _draw_aortic_calcium(scene: Scene, dense: Array) -> None:
    """Draw plaques on the descending aorta: as bright as coronary plaques, but not labelled."""
    rng = scene.rng
    for _ in range(int(rng.integers(1, 5))):
        angle, height = rng.uniform(0, 2 * np.pi), rng.uniform(-0.45, 0.45) * scene.grid.height
        y, x = 58 + 11.5 * np.sin(angle), 10 + 11.5 * np.cos(angle)
        end = (height + rng.uniform(2, 9), y, x + rng.uniform(-3, 3))
        box, share = scene.tube((height, y, x), end, (1.8, 1.4))
        if share.size:
            blend(scene.tissue[box], rng.uniform(350, 900), share)
            np.maximum(dense[box], share, out=dense[box])


def _course(artery: str) -> npt.NDArray[np.float64]:
    """Points (120, 3) in mm (z, y, x) along an artery, in the fat on the heart's surface."""
    knots = np.array(COURSES[artery])
    t = np.linspace(0, len(knots) - 1, 120)
    lines = [np.interp(t, np.arange(len(knots)), knots[:, axis]) for axis in range(3)]
    path = ndimage.gaussian_filter1d(np.stack(lines, axis=1), 8, axis=0, mode="nearest")
    cos, sin = np.cos(HEART_TURN), np.sin(HEART_TURN)
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    path = path @ turn.T
    path *= 1 / np.linalg.norm(path / np.array(HEART_RADII), axis=1, keepdims=True)
    path *= 1 + 4.0 / np.linalg.norm(path, axis=1, keepdims=True)  # 4 mm outside, in the fat
    points: npt.NDArray[np.float64] = np.array(HEART_CENTRE) + path @ turn
    return points


def _draw_coronaries(scene: Scene, shares: Array, *, mild: bool) -> None:
    """Draw the arteries and their plaques; write the plaques' share to `shares` (3, z, y, x)."""
    rng, grid = scene.rng, scene.grid
    diseased = int(rng.integers(3))
    for number, artery in enumerate(ARTERIES):
        path = _course(artery)
        path = path + ndimage.gaussian_filter1d(rng.normal(0, 6, path.shape), 12, axis=0)
        for start, end in zip(path[:-4:4], path[4::4], strict=True):
            box, share = scene.tube(start, end, (1.7, 1.7))
            blend(scene.tissue[box], 45, share)
        shown = np.flatnonzero(np.abs(path[:, 0]) < grid.height / 2 - 2 * grid.spacing[0])
        shown = shown[(shown > 6) & (shown < 108)]
        many = int(rng.integers(0, 4)) + 2 * (number == diseased)
        wanted = int(number == diseased) if mild else many
        for _ in range(wanted if len(shown) else 0):
            _draw_plaque(scene, shares[number], path[int(rng.choice(shown)) :], mild)


def _draw_plaque(scene: Scene, plaques: Array, path: npt.NDArray[np.float64], mild: bool) -> None:
    """Draw a plaque of one to four unequal beads along the artery, from the start of `path`."""
    rng, last, place = scene.rng, len(path) - 1, 0
    density = rng.uniform(380, 1150) * (0.6 if mild else 1)
    for _ in range(1 if mild else int(rng.integers(1, 5))):
        start, end = path[[place, min(place + 2, last)]] + rng.normal(0, 0.5, 3)
        box, share = scene.tube(start, end, tuple(rng.uniform(1.4, 2.2 if mild else 3.0, 2)))
        if share.size:
            blend(scene.tissue[box], density * rng.uniform(0.7, 1.1), share)
            np.maximum(plaques[box], share, out=plaques[box])
        place = min(place + int(rng.integers(1, 4)), last)
