"""Seconds and memory of post-processing one large CT, against one connected-component labelling.

Run as `python benchmarks/postprocess.py [--slices 800] [--repeats 3]`. A synthetic volume of
`slices` × 512 × 512 with half a million bright components is post-processed in every way that the
stage offers: the computation alone, on arrays in memory, and the whole stage, which reads the
prediction and the image and writes the mask. Each runs in a process of its own, interleaved with
`scipy.ndimage.label` of the voxels above 130 HU; the table gives the median ratio of processor
seconds over the repeats, its range, and the largest peak memory.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy import ndimage

from grcsf.calcium import postprocess_calcium
from grcsf.components import filter_components
from pipeline.devices import peak_memory
from pipeline.layout import Layout
from pipeline.masks import hounsfield
from pipeline.postprocess import postprocess
from pipeline.settings import Postprocess
from pipeline.stores import open_store, read_array, write_json, write_store

SPACING = (3.0, 0.5, 0.5)  # mm
LAYOUT, EXPERIMENT, CASE = "large", "network", "heart"
LABEL = "scipy.ndimage.label"
WAYS = {
    "> 130 HU": Postprocess(method="calcium"),
    "> 130 HU, at least 5 mm³": Postprocess(method="calcium", min_volume_mm3=5),
    "whole candidates": Postprocess(method="calcium", grow=True),
    "components of at least 5 mm³": Postprocess(method="components", min_volume_mm3=5),
}


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--slices", type=int, default=800)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(write_case, folder, options.slices)
        measured: dict[str, list[tuple[float, float]]] = {}
        for _ in range(options.repeats):
            measured.setdefault(LABEL, []).append(in_a_process(label_once, folder))
            for name, way in WAYS.items():
                measured.setdefault(name, []).append(in_a_process(compute_once, folder, way))
                measured.setdefault(f"{name}: stage", []).append(
                    in_a_process(run_stage, folder, way)
                )
    print(f"{options.slices} × 512 × 512 voxels, {options.repeats} repeats\n")
    print_table(measured)


def print_table(measured: dict[str, list[tuple[float, float]]]) -> None:
    """Print ratios to the labelling of the same repeat, and peaks."""
    print(f"{'':40} {'× label':>8}  {'range':12} peak GB")
    for name, runs in measured.items():
        pairs = zip(runs, measured[LABEL], strict=True)
        ratios = [seconds / reference for (seconds, _), (reference, _) in pairs]
        spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
        print(f"{name:40} {median(ratios):8.2f}  {spread:12} {max(peak for _, peak in runs):.2f}")


def in_a_process(task: Callable[..., Any], *arguments: object) -> Any:
    """Run a task in a fresh process, whose peak memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(task, arguments)


def write_case(folder: str, slices: int) -> None:
    """A case store of smooth bright blobs with noise, and a prediction of a third of its lines."""
    random = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(random.normal(0, 1, (-(-slices // 8), 64, 64)), 1.2)
    blobs /= blobs.std()
    hu = np.empty((slices, 512, 512), np.int16)
    for z in range(slices):
        smooth = np.kron(blobs[z // 8], np.ones((8, 8)))
        hu[z] = -50 + 100 * smooth + random.normal(0, 20, (512, 512))
    layout = Layout(Path(folder), LAYOUT)
    attributes = {
        "case": CASE,
        "units": "HU",
        "shape": hu.shape,
        "spacing": SPACING,
        "origin": (0.0, 0.0, 0.0),
        "direction": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
        "source_suffix": ".nii.gz",
        "sha256_image": "synthetic",
    }
    write_store(layout.case_store(CASE), {"image": hu}, attributes)
    probability = np.zeros(hu.shape, np.float16)
    probability[:, ::3] = hu[:, ::3] > 100
    write_store(layout.prediction_store(EXPERIMENT, 1, CASE), {"probability": probability}, {})
    write_json(layout.predictions(EXPERIMENT, 1), {"cases": {CASE: "synthetic"}})


def label_once(folder: str) -> tuple[float, float]:
    """Label the voxels above 130 HU."""
    above = read_array(open_store(Layout(Path(folder), LAYOUT).case_store(CASE)), "image") > 130
    with measuring() as found:
        ndimage.label(above)
    return found["seconds"], found["peak"]


def compute_once(folder: str, way: Postprocess) -> tuple[float, float]:
    """Post-process a prediction in memory."""
    layout = Layout(Path(folder), LAYOUT)
    hu = hounsfield(open_store(layout.case_store(CASE)))
    raw = np.zeros(hu.shape, bool)
    raw[:, ::3] = hu[:, ::3] > 100
    with measuring() as found:
        if way.method == "calcium":
            postprocess_calcium(raw, hu, SPACING, min_volume_mm3=way.min_volume_mm3, grow=way.grow)
        else:
            filter_components(raw, SPACING, way.min_volume_mm3, in_place=True)
    return found["seconds"], found["peak"]


def run_stage(folder: str, way: Postprocess) -> tuple[float, float]:
    """The stage: read the prediction, post-process it, write the mask."""
    layout = Layout(Path(folder), LAYOUT)
    layout.mask(EXPERIMENT, 1, CASE, ".nii.gz").unlink(missing_ok=True)
    with measuring() as found:
        postprocess(layout, EXPERIMENT, 1, way)
    return found["seconds"], found["peak"]


@contextmanager
def measuring() -> Iterator[dict[str, float]]:
    """Processor seconds of a block, and the process's peak memory in GB after it."""
    found: dict[str, float] = {}
    started = time.process_time()
    yield found
    found["seconds"] = time.process_time() - started
    found["peak"] = peak_memory() / 1e9


if __name__ == "__main__":
    main()
