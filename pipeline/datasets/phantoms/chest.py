"""A chest CT with irregular lung tumours, many of which touch the chest wall or a vessel.

Axes are the patient's, in mm from the middle: x to the left, y to the back, z to the head.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.datasets.phantoms import fields
from pipeline.datasets.phantoms.fields import Array, Grid, Mask, PhantomCase, Scene, blend, radius

DEFAULT_SHAPE = (120, 512, 512)
HEIGHT_MM = 300.0
SLICE_MM = (0.625, 5.0)
MIRRORED = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)  # y and x, as in most NIfTI files
LUNG_HU, SOFT_HU, FAT_HU, MARROW_HU, CORTEX_HU = -850, 45, -105, 190, 620


def chest_case(rng: np.random.Generator, index: int, shape: tuple[int, int, int]) -> PhantomCase:
    """One patient: image int16 HU, label 0/1; every third grid is oblique, the others mirrored.

    The field of view in the plane is 330 to 390 mm for any shape (z, y, x); slices are at most 5 mm
    apart, so that few slices still show the middle of the chest.
    """
    fov = rng.uniform(330, 390)
    thickness = float(np.clip(HEIGHT_MM / shape[0], *SLICE_MM)) * rng.uniform(0.85, 1.0)
    grid = Grid(shape, (thickness, fov / shape[1], fov / shape[2]))
    scene = Scene(rng, grid, np.full(shape, -1000.0, np.float32))
    label = _draw_tumours(scene, _draw_anatomy(scene))
    image = fields.ct_scan(rng, fields.blur(scene.tissue, grid, 1.0), sigma=rng.uniform(14, 28))
    if index % 3 == 2:
        direction = fields.oblique(rng.uniform(-8, 8), rng.uniform(4, 12))
    else:
        direction = MIRRORED
        # the file's axes run against the patient's, and the anatomy must stay in place
        image, label = image[:, ::-1, ::-1], label[:, ::-1, ::-1]
    return PhantomCase(image, label, fields.centred_geometry(grid, direction))


def _draw_anatomy(scene: Scene) -> Array:
    """Draw tissue in HU; return the depth in mm inside the lungs, vessels ignored."""
    z, y, x = scene.grid.axes()
    girth = scene.rng.uniform(0.93, 1.03)
    lumps = scene.random_field(40)
    chest = 115 * (1 - _superellipse(y, x, 114 * girth, 160 * girth)) + 2.5 * lumps
    scene.draw(FAT_HU, chest)
    texture = scene.random_field(9)
    scene.draw(SOFT_HU + 8 * texture, chest - 11 - 3 * lumps)
    cage, wall = _thorax(z, y, x, girth)
    scene.draw(FAT_HU + 40, 1.2 - np.abs(wall + 11))  # between muscles
    lung = np.minimum(wall, _beside_mediastinum(scene, lumps))
    posterior = 45 * y / np.float32(90)  # in a lying patient, blood sinks to the back
    scene.draw(LUNG_HU + posterior + 14 * texture, lung)
    _draw_bones(scene, cage, chest)
    _draw_mediastinum(scene, lung)
    for side in (-1, 1):
        _draw_vessel_tree(scene, lung, side)
    return lung


def _superellipse(y: Array, x: Array, half_y: float, half_x: float) -> Array:
    """Relative distance from the axis of a flattened cylinder along z; 1 on its surface."""
    power = np.float32(2.4)
    powers = np.abs(y / np.float32(half_y)) ** power + np.abs(x / np.float32(half_x)) ** power
    result: Array = powers ** (1 / power)
    return result


def _thorax(z: Array, y: Array, x: Array, girth: float) -> tuple[Array, Array]:
    """Depth in mm inside the rib cage, and inside the part of it above the diaphragm."""
    narrow = 1 - 0.38 * np.clip((z - 20) / np.float32(140), 0, 1) ** 2
    section = _superellipse(y / narrow, x / narrow, 84 * girth, 130 * girth)
    cage = (1 - section) * narrow * 88
    spine_bulge = 30 * (radius(z, y, x, (0, 84, 0), (1e6, 32, 34)) - 1)
    domes = [60 * (radius(z, y, x, (-165, 5, side), (95, 105, 80)) - 1) for side in (-62, 66)]
    return cage, np.minimum(np.minimum(cage, spine_bulge), np.minimum(*domes))


def _beside_mediastinum(scene: Scene, lumps: Array) -> Array:
    """Distance in mm from the heart and the vessels between the lungs; positive in the lungs."""
    z, y, x = scene.grid.axes()
    size = scene.rng.uniform(0.92, 1.08)
    heart = 45 * (radius(z, y, x, (-55, -22, 20), (58 * size, 46 * size, 60 * size)) - 1)
    middle = 30 * (radius(z, y, x, (30, -5, 2), (1e6, 78, 33)) - 1)
    arch = 18 * (radius(z, y, x, (55, 2, 20), (18, 42, 22)) - 1)
    depth: Array = np.minimum(np.minimum(heart, middle), arch) + 2 * lumps
    return depth


def _draw_mediastinum(scene: Scene, lung: Array) -> None:
    """Draw heart, great vessels, airways and oesophagus in the fat between the lungs."""
    z, y, x = scene.grid.axes()
    between = scene.inside(26 * (1 - radius(z, y, x, (30, -8, 2), (1e6, 74, 29))))
    blend(scene.tissue, FAT_HU + 20, between * scene.inside(-lung - 1))
    parts = [
        ((-58, -22, 20), (52, 41, 54), 44),  # heart
        ((15, -22, -12), (40, 15, 15), 46),  # ascending aorta
        ((15, -24, 14), (26, 13, 14), 46),  # pulmonary trunk
        ((58, -2, 10), (13, 34, 15), 46),  # aortic arch
        ((30, -8, -30), (70, 9, 8), 44),  # superior vena cava
        ((-60, 48, 22), (122, 12, 12), 46),  # descending aorta
        ((0, 40, 4), (1e6, 6, 8), 25),  # oesophagus
    ]
    for centre, radii, value in parts:
        depth = min(radii[1:]) * (1 - radius(z, y, x, centre, radii))
        blend(scene.tissue, value, scene.inside(depth) * scene.inside(1 - lung))
    airway = [((180, 6, 0), (18, 14, 0)), ((18, 14, 0), (0, 20, 32)), ((18, 14, 0), (-6, 18, -28))]
    for start, end in airway:
        for bore, filling in ((9.5, 20.0), (8.0, -1000.0)):
            box, share = scene.tube(start, end, (bore, bore * 0.85))
            blend(scene.tissue[box], filling, share)


def _draw_bones(scene: Scene, cage: Array, chest: Array) -> None:
    """Draw spine, discs, sternum, sloping ribs and shoulder blades: dense shells around marrow."""
    z, y, x = scene.grid.axes()
    phase = scene.rng.uniform(0, 26)
    level = np.abs((z + phase) % 26 - 13)
    body = 17 * (1 - radius(z, y, x, (0, 76, 0), (1e6, 15, 18)))
    arch = np.minimum(9 * (1 - radius(z, y, x, (0, 98, 0), (1e6, 13, 22))), chest - 5)
    vertebra = np.maximum(np.minimum(body, 11 - level), np.minimum(arch, 8 - level))
    sternum = 6 * (1 - radius(z, y, x, (40, -93, 0), (110, 6, 20)))
    slope = (z + phase + 0.45 * y + 0.1 * np.abs(x)) % 27
    rib = np.minimum(4.0 - np.abs(cage + 5), 6.0 - np.abs(slope - 13.5))
    rib = np.minimum(rib, np.abs(x) - 22)
    blade_side = np.abs(x) - 98 - 0.25 * y
    blade = np.minimum(3 - np.abs(blade_side + 0.8 * (y - 70)) * 0.7, 26 - np.abs(y - 72))
    blade = np.minimum(np.minimum(blade, z - 10), chest - 14)
    scene.draw(80, np.minimum(body, level - 11))
    for depth in (vertebra, sternum, rib, blade):
        scene.draw(CORTEX_HU, depth)
        scene.draw(MARROW_HU, depth - 2.2)
    scene.draw(25, 7 * (1 - radius(z, y, x, (0, 95, 0), (1e6, 7, 8))))  # spinal canal


def _draw_vessel_tree(scene: Scene, lung: Array, side: int) -> None:
    """Draw vessels that branch from a hilum into the lung; `side` is -1 or 1 along x."""
    rng = scene.rng
    tips = [(np.array([5.0, 12.0, 26.0 * side]), 5.5, np.array([0.0, 0.0, float(side)]), 0)]
    while tips:
        start, thickness, heading, order = tips.pop()
        for _ in range(5 if order == 0 else 2):
            turn = heading + rng.normal(0, 1.0 if order == 0 else 0.55, 3) * np.array((1.3, 1, 0.8))
            turn /= np.linalg.norm(turn)
            end = start + turn * rng.uniform(14, 26) * (0.93**order)
            thinner = thickness * rng.uniform(0.68, 0.82)
            box, share = scene.tube(start, end, (thickness * 0.85, thinner))
            blend(scene.tissue[box], 35, share * (lung[box] > 0))
            if share.size and order < 6 and thinner > 0.5:
                tips.append((end, thinner, turn, order + 1))


def _draw_tumours(scene: Scene, lung: Array) -> Mask:
    """Draw one or two tumours into the lung; return their mask."""
    rng, slices = scene.rng, scene.grid.shape[0]
    label = np.zeros(scene.grid.shape, np.uint8)
    edge = min(3, (slices - 1) // 2)
    inner = np.zeros((slices, 1, 1), bool)
    inner[edge : slices - edge] = True
    for _ in range(2 if rng.random() < 0.25 else 1):
        size = float(np.exp(rng.uniform(np.log(7), np.log(26))))
        touching = rng.random() < 0.55
        low, high = (0.15 * size, 0.7 * size) if touching else (1.1 * size, 3 * size)
        allowed = (lung > low) & (lung < max(high, low + 4)) & inner
        candidates = np.flatnonzero(allowed if allowed.any() else lung > 2)
        if len(candidates):
            place = np.unravel_index(int(rng.choice(candidates)), label.shape)
            _draw_tumour(scene, lung, label, scene.grid.point(place), size)
    return label


def _draw_tumour(
    scene: Scene, lung: Array, label: Mask, middle: npt.NDArray[np.float64], size: float
) -> None:
    """Draw a lobulated mass with spicules, which ends at the pleura, and add it to the label."""
    box = scene.grid.box(middle - 2.2 * size, middle + 2.2 * size)
    patch = scene.part(box)
    centre = scene.grid.point([(cut.start + cut.stop - 1) / 2 for cut in box])
    stretch = np.exp(scene.rng.normal(0, 0.18, 3))
    away = radius(*patch.grid.axes(), middle - centre, size * stretch)
    lobes = 0.2 * patch.random_field(0.9 * size)
    spicules = 0.16 * np.abs(patch.random_field(max(0.3 * size, 2.0)))
    depth = np.minimum((1 - away + lobes + spicules) * np.float32(size), lung[box] + 0.5)
    share = patch.inside(depth)
    necrosis = fields.inside((0.45 - away) * np.float32(size), 6.0) if size > 16 else 0
    blend(patch.tissue, 38 + 10 * patch.random_field(8) - 22 * necrosis, share)
    if (share > 0.5).any():
        label[box][fields.largest_part(share > 0.5)] = 1
