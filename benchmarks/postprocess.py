"""Seconds and memory of post-processing one large CT, against one connected-component labelling.

Run as `python benchmarks/postprocess.py [--slices 800] [--repeats 5]`. A synthetic volume of
`slices` × 512 × 512 with half a million bright components is post-processed in every way that the
stage offers: the computation alone, on arrays in memory, and the whole stage, which reads the
prediction and the image and writes the mask. Each way has a process of its own, whose peak memory
is noted after a first run. Then processor seconds are taken, in turns with `scipy.ndimage.label` of
the voxels above 130 HU: the table gives the median ratio of the two and its range. The seconds are
those of the program; what a kernel takes to hand out a gigabyte differs tenfold from run to run on
a shared machine, for either side.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from keeping import keep
from scipy import ndimage

from grcsf.calcium import postprocess_calcium
from grcsf.components import filter_components
from pipeline.orchestration.environment import peak_resident
from pipeline.postprocess import postprocess
from pipeline.settings import Postprocess
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from pipeline.storage.masks import read_hu, thresholded_mask
from pipeline.storage.zarr_store import open_store, read_array, write_store

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
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    print(f"{options.slices} × 512 × 512 voxels, {options.repeats} repeats\n")
    print(f"{'':40} {'× label':>8}  {'range':12} peak GB")
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(write_case, folder, options.slices)
        for name, way in WAYS.items():
            for task, of in ((compute, ""), (run_stage, ": stage")):
                ratios, peak = in_a_process(measure, task, folder, way, options.repeats)
                spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
                print(f"{name + of:40} {median(ratios):8.2f}  {spread:12} {peak:.2f}", flush=True)
                figures[name + of] = {"ratios": ratios, "peak_gb": peak}
    keep("postprocess", figures)


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


def measure(
    task: Callable[[Layout, Postprocess], float], folder: str, way: Postprocess, repeats: int
) -> tuple[list[float], float]:
    """Seconds of a task over those of a labelling, turn by turn, and its peak memory in GB."""
    layout = Layout(Path(folder), LAYOUT)
    task(layout, way)
    peak = peak_resident() / 1e9
    above = read_array(open_store(layout.case_store(CASE)), "image") > 130
    ratios = []
    for _ in range(repeats):
        seconds = task(layout, way)
        started = os.times().user
        ndimage.label(above)
        ratios.append(seconds / (os.times().user - started))
    return ratios, peak


def compute(layout: Layout, way: Postprocess) -> float:
    """Seconds of post-processing a prediction in memory."""
    hu = read_hu(open_store(layout.case_store(CASE)))
    raw = thresholded_mask(layout, EXPERIMENT, 1, CASE, 0.5)
    started = os.times().user
    if way.method == "calcium":
        volume = way.min_volume_mm3
        postprocess_calcium(raw, hu, SPACING, min_volume_mm3=volume, grow=way.grow, in_place=True)
    else:
        filter_components(raw, SPACING, way.min_volume_mm3, in_place=True)
    return os.times().user - started


def run_stage(layout: Layout, way: Postprocess) -> float:
    """Seconds of the stage: read the prediction, post-process it, write the mask."""
    layout.mask(EXPERIMENT, 1, CASE, ".nii.gz").unlink(missing_ok=True)
    started = os.times().user
    postprocess(layout, EXPERIMENT, 1, way)
    return os.times().user - started


if __name__ == "__main__":
    main()
