"""A T1-weighted head in MNI space with dark lesions of low contrast; the cohort is the scanner.

Axes are those of the files, in mm from the middle of the field of view: x to the right, y to the
front, z to the top.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from pipeline.datasets.phantoms import fields
from pipeline.datasets.phantoms.fields import Array, Grid, Mask, PhantomCase, Scene, blend, radius
from pipeline.storage.images.geometry import Geometry

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
    """One patient: image int16 in arbitrary units, label 0/1; voxels grow as the shape shrinks.

    The cohort decides the scanner: contrast, noise, bias field, units. All lesions together have
    up to 100 voxels in size class 0, up to 1,000 in 1, more in 2 (an eighth of the brain at most).
    """
    z, y, x = (length / n for length, n in zip(FIELD_OF_VIEW, shape, strict=True))
    grid = Grid(shape, (z, y, x))
    scene = Scene(rng, grid, np.full(shape, 0.015, np.float32))
    depth = _draw_anatomy(scene)
    label, darkening, contrasts = _lesions(scene, depth, size_class)
    scene.tissue[:] *= 1 - darkening
    truth = {"size_class": size_class, "darkening": contrasts}
    return PhantomCase(_scan(scene, cohort), label, mni_geometry(grid), truth)


def mni_geometry(grid: Grid) -> Geometry:
    """This grid in MNI space, where x and y run against ITK's (LPS) axes."""
    z, y, x = (low - 0.5 + step / 2 for low, step in zip(MNI_CORNER, grid.spacing, strict=True))
    direction = (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
    return Geometry(grid.shape, grid.spacing, (z, -y, -x), direction)


def _draw_anatomy(scene: Scene) -> Array:
    """Draw signal, with white matter at 1; return the depth in mm below the brain's surface."""
    z, y, x = _warped(scene)
    cerebrum = _cerebral_radius(z, y, x)
    depth = (1 - cerebrum) * np.float32(68)
    _draw_skull_and_face(scene, z, y, x, depth)
    scene.draw(CSF, depth + 3.5)
    hemisphere = np.minimum(depth, _fold_depth(z, y, x, cerebrum, depth))
    scene.draw(GREY, hemisphere - 0.7)
    scene.draw(WHITE, hemisphere - 4.2)
    below = _draw_cerebellum_and_stem(scene, z, y, x, depth)
    _draw_deep_structures(scene, z, y, x)
    brain: Array = np.maximum(hemisphere, below)
    return brain


def _warped(scene: Scene) -> tuple[Array, Array, Array]:
    """Each voxel's position in the template: scaled, and bent by a smooth random field."""
    scale = scene.rng.uniform(0.95, 1.05, 3).astype(np.float32)
    z, y, x = (
        (axis - middle) * factor + np.float32(2.6) * scene.random_field(55)
        for axis, middle, factor in zip(scene.grid.axes(), CENTRE, scale, strict=True)
    )
    return z, y, x


def _cerebral_radius(z: Array, y: Array, x: Array) -> Array:
    """Relative distance from the centre of the cerebrum with its temporal lobes, 1 on its edge."""
    height = np.where(z > 0, np.float32(1 / 66), np.float32(1 / 44))
    breadth = 66 * (1 - y * np.float32(0.0014))
    body = np.sqrt((z * height) ** 2 + (y * np.float32(1 / 85)) ** 2 + (x / breadth) ** 2)
    temporal = radius(z, y, np.abs(x), (-32, 8, 40), (24, 38, 23))
    # a temporal lobe is smaller than the body, so its relative distance is rescaled to the same mm
    distance: Array = np.minimum(body, 1 + (temporal - 1) * np.float32(27 / 68))
    return distance


@lru_cache(maxsize=1)
def _fold_template() -> Array:
    """Random gyral pattern that all heads share, 240 mm wide at 2 mm; 0 along a sulcus."""
    grid = Grid((120,) * 3, (FOLD_STEP,) * 3)
    return Scene(np.random.default_rng(2009), grid, np.empty(0)).random_field(9.0)


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
    folds: Array = np.minimum(np.minimum(sulcus, fissure), sylvian)
    return folds


def _draw_skull_and_face(scene: Scene, z: Array, y: Array, x: Array, depth: Array) -> None:
    """Draw everything around the brain: scalp, bone with marrow, muscle of the neck."""
    thick = 3.2 + 0.7 * scene.random_field(40)
    neck = 50 * (1 - radius(z, y, x, (-90, -22, 0), (80, 52, 54)))
    face = 45 * (1 - radius(z, y, x, (-62, 42, 0), (46, 46, 50)))
    soft = np.maximum(neck, face)
    scene.draw(0.95, soft)
    scene.draw(0.48 + 0.12 * scene.random_field(14), soft - 6)
    cavity = 14 * (1 - radius(z, y, np.abs(x), (-46, 58, 16), (14, 20, 11)))
    scene.draw(0.03, cavity)
    scene.draw(0.95, depth + 3.5 + 3.2 * thick)  # scalp
    scene.draw(0.10, depth + 3.5 + 2.0 * thick)
    below = scene.inside(depth + 4.2 + thick)
    blend(scene.tissue, 0.55, scene.inside(depth + 3.5 + 1.4 * thick) * (1 - below))  # marrow
    scene.draw(0.10, depth + 3.9 + 0.4 * thick)


def _draw_cerebellum_and_stem(scene: Scene, z: Array, y: Array, x: Array, depth: Array) -> Array:
    """Draw both below the cerebrum, whose depth in mm is given; return their depth in mm."""
    ball = radius(z, y, np.abs(x), (-46, -52, 20), (25, 29, 32))
    cerebellum = (1 - ball) * 27
    folia = np.abs((ball * 6 + 0.04 * y) % 1 - 0.5) * 2  # thin leaves, finer than the cerebrum's
    stem = 13 * (1 - radius(z, y - 0.25 * (z + 40), x, (-52, -20, 0), (48, 13, 14)))
    both: Array = np.maximum(cerebellum, stem)
    blend(scene.tissue, CSF, scene.inside(both + 3.5) * scene.inside(3 - depth))
    scene.draw(GREY - 0.06 + 0.1 * folia, cerebellum)
    scene.draw(0.93, cerebellum - 12)
    scene.draw(0.90, stem)
    scene.draw(CSF, 5 * (1 - radius(z, y, x, (-46, -36, 0), (11, 5, 6))))  # fourth ventricle
    return both


def _draw_deep_structures(scene: Scene, z: Array, y: Array, x: Array) -> None:
    """Draw callosum, basal ganglia and ventricles, mirrored at the midline."""
    side = np.abs(x)
    callosum = 4 * (1 - np.abs(radius(z, y, side, (4, -2, 0), (18, 36, 30)) - 1) * 5)
    share = scene.inside(np.minimum(callosum, z - 2)) * scene.inside(14 - side)
    blend(scene.tissue, WHITE, share)
    grey = [
        ((2, -14, 11), (9, 15, 9), 0.78),  # thalamus
        ((0, 6, 25), (10, 17, 6), 0.72),  # putamen
        ((9, 18, 13), (9, 13, 5), 0.70),  # caudate
    ]
    for centre, radii, value in grey:
        scene.draw(value, radii[2] * (1 - radius(z, y, side, centre, radii)))
    bend = z - 12 + 0.012 * (y + 4) ** 2
    body = 6 * (1 - radius(bend, y, side, (0, -4, 9), (7, 34, 6.5)))
    horn = 6 * (1 - radius(z, y, side - 0.35 * np.abs(y + 34), (2, -42, 15), (8, 17, 6)))
    third = 2.5 * (1 - radius(z, y, x, (-3, -8, 0), (9, 13, 2.4)))
    scene.draw(CSF, np.maximum(np.maximum(body, horn), third))


def _lesions(scene: Scene, depth: Array, size_class: int) -> tuple[Mask, Array, list[float]]:
    """Label, darkening (each voxel's lost share of signal), and the darkening of each core."""
    rng, grid = scene.rng, scene.grid
    label, darkening = np.zeros(grid.shape, np.uint8), np.zeros(grid.shape, np.float32)
    brain = depth > 1.0
    low, high = SIZE_CLASSES[size_class]
    high = max(min(high, int(LARGEST_MM3 / grid.voxel_mm3)), low + 1)
    wanted = round(float(np.exp(rng.uniform(np.log(low), np.log(high)))))
    wanted = min(wanted, int(np.count_nonzero(brain)) // 8)
    several = size_class > 0 and rng.random() < 0.4
    contrasts = []
    for voxels in [round(wanted * 0.8), wanted - round(wanted * 0.8)] if several else [wanted]:
        contrast = float(rng.uniform(0.12, 0.2) if rng.random() < 0.25 else rng.uniform(0.25, 0.55))
        lesion = _lesion(scene, brain & (label == 0), voxels)
        label[lesion] = 1
        edge = fields.blur(lesion.astype(np.float32), grid, 2.5)
        np.maximum(darkening, edge * np.float32(contrast), out=darkening)
        contrasts.append(round(contrast, 3))
    return label, darkening, contrasts


def _lesion(scene: Scene, brain: npt.NDArray[np.bool_], voxels: int) -> npt.NDArray[np.bool_]:
    """An irregular connected region of about `voxels` voxels of the brain."""
    rng, grid = scene.rng, scene.grid
    reach = float(np.cbrt(voxels * grid.voxel_mm3 * 0.24))  # radius of a ball of this volume
    centre = np.unravel_index(int(rng.choice(np.flatnonzero(brain))), grid.shape)
    stretch = np.exp(rng.normal(0, 0.25, 3))
    distance = radius(*grid.axes(), grid.point(centre), reach * stretch)
    distance *= 1 + 0.22 * scene.random_field(max(1.1 * reach, 5.0))
    distance = np.where(brain, distance, np.inf)
    return fields.largest_part(distance < np.partition(distance.ravel(), voxels)[voxels])


def _scan(scene: Scene, cohort: int) -> npt.NDArray[np.int16]:
    """The image of the cohort's scanner: contrast, blur, bias field, Rician noise, units."""
    rng, grid = scene.rng, scene.grid
    scanner = np.random.default_rng([cohort, 2018])
    power, units = scanner.uniform(0.8, 1.25), scanner.choice((180, 420, 900, 1800))
    sigma, bias = scanner.uniform(0.018, 0.04), scanner.uniform(0.03, 0.1)
    fwhm = scanner.uniform(0.8, 1.6)
    signal = fields.blur(np.clip(scene.tissue, 0, 2) ** np.float32(power), grid, fwhm)
    signal = signal * np.exp(np.float32(bias) * scene.random_field(90))
    real = signal + np.float32(sigma) * rng.standard_normal(grid.shape, dtype=np.float32)
    imaginary = np.float32(sigma) * rng.standard_normal(grid.shape, dtype=np.float32)
    scanned = np.hypot(real, imaginary) * np.float32(units * rng.uniform(0.85, 1.15))
    stored: npt.NDArray[np.int16] = np.rint(np.minimum(scanned, 32767)).astype(np.int16)
    return stored
