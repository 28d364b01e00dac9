"""Peak memory of ingest, postprocess and evaluate with few and with many cases.

Run as `python benchmarks/streaming.py [--cases 20 200]`. Head phantoms are written, ingested, given
their own reference as prediction, post-processed and evaluated, each stage in a process of its own.
A stage that holds a few cases at a time takes as much memory for 200 cases as for 20; held all
together they would take what the last line says.
"""

import argparse
import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from keeping import keep

from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.evaluate import evaluate
from pipeline.ingest import ingest
from pipeline.orchestration.environment import peak_resident
from pipeline.postprocess import postprocess
from pipeline.settings import Evaluation, Phantom, Postprocess, Source
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store, read_array, write_store

SHAPE = (40, 128, 112)
EXPERIMENT = "network"
THREADS = 2


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, nargs="+", default=[20, 200])
    options = parser.parse_args()
    peaks = {count: measure(count) for count in options.cases}
    first = peaks[options.cases[0]]
    print(f"{'peak memory, MB':16}" + "".join(f"{count:>6} cases" for count in peaks) + "   ratio")
    for stage in first:
        row = [found[stage] for found in peaks.values()]
        print(f"{stage:16}" + "".join(f"{peak:12.0f}" for peak in row) + f"{row[-1] / row[0]:8.2f}")
    held = 2 * int(np.prod(SHAPE)) * max(options.cases) / 1e6
    print(f"all images of {max(options.cases)} cases together: {held:.0f} MB")
    keep("streaming", {"peak_mb": peaks, "all_images_mb": held})


def measure(count: int) -> dict[str, float]:
    """Peak memory in MB of each stage, with so many cases."""
    with tempfile.TemporaryDirectory() as folder:
        in_a_process(write_phantoms, folder, count)
        found = {"ingest": in_a_process(run_ingest, folder)}
        in_a_process(predict_the_reference, folder)
        found["postprocess"] = in_a_process(run_postprocess, folder)
        found["evaluate"] = in_a_process(run_evaluate, folder)
    return found


def in_a_process(task: Callable[..., None], *arguments: object) -> float:
    """Run a task in a fresh process; its peak memory in MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak_of, (task, arguments))


def peak_of(task: Callable[..., None], arguments: tuple[object, ...]) -> float:
    """Run a task, and tell this process's peak memory in MB."""
    task(*arguments)
    return peak_resident() / 1e6


def layout_of(folder: str) -> Layout:
    """Where the results lie."""
    return Layout(Path(folder), "head")


def write_phantoms(folder: str, count: int) -> None:
    """Head phantoms in ATLAS's layout."""
    write_phantom("head", Path(folder) / "raw", cases=count, seed=1, shape=SHAPE, unlabelled=0)


def run_ingest(folder: str) -> None:
    """The stage."""
    source = Source(adapter="atlas", phantom=Phantom(kind="head", cases=1))
    ingest(layout_of(folder), source, Path(folder) / "raw", [], THREADS)


def predict_the_reference(folder: str) -> None:
    """Make every case a test case, and its reference its prediction."""
    layout = layout_of(folder)
    cases = read_json(layout.cases)["cases"]
    subset = {"train": [], "validation": [], "test": list(cases)}
    write_json(layout.split, {"subsets": {"1": subset}, "unlabelled": []})
    for case in cases:
        label = read_array(open_store(layout.case_store(case)), "label")
        path = layout.prediction_store(EXPERIMENT, 1, case)
        write_store(path, {"probability": label.astype(np.float16)}, {})
    write_json(layout.predictions(EXPERIMENT, 1), {"cases": dict.fromkeys(cases, "reference")})


def run_postprocess(folder: str) -> None:
    """The stage."""
    way = Postprocess(method="components", min_volume_mm3=5)
    postprocess(layout_of(folder), EXPERIMENT, 1, way)


def run_evaluate(folder: str) -> None:
    """The stage."""
    layout = layout_of(folder)
    evaluate(layout, EXPERIMENT, (1,), Evaluation(), Postprocess(), seed=0, threads=THREADS)


if __name__ == "__main__":
    main()
