"""What reading costs a training: the stores against memory-mapped chunks, and the wait in an epoch.

Run as `python benchmarks/reading.py [--repeats 7]`. Random slices of stores as a
training reads them (image, label and two residual maps) are timed in turns with the same compressed
chunks, cut out of one memory-mapped `.npy` and decompressed. Then the demo's GRCSF trains on such
made-up cases with Lightning's profiler, which tells how long the training waited for its batches:
two epochs that read every slice, and eight that find what the first has read in memory.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import lightning
import numcodecs
import numpy as np
import numpy.typing as npt
import zarr
from keeping import keep
from lightning.pytorch.profilers import SimpleProfiler
from scipy import ndimage

from pipeline.settings import QUANTILES, Resources
from pipeline.settings.reading import load_settings
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import write_residuals
from pipeline.storage.zarr_store import open_store, read_array, read_part, stored_array, write_store
from pipeline.train_segmentation import train_segmentation

DEMO = Path(__file__).parents[1] / "config" / "demo.yaml"
DATASET, EXPERIMENT = "head", "grcsf"
ARRAYS = (("ingest", "image"), ("ingest", "label"), ("residual_maps", "residual"))
CODECS = {
    "zarr": "zarr.core.codec_pipeline.BatchedCodecPipeline",
    "zarrs (store.codecs: zarrs)": "zarrs.ZarrsCodecPipeline",
}
NEXT_BATCH, EPOCH = "[_TrainingEpochLoop].train_dataloader_next", "run_training_epoch"


def main() -> None:
    """Measure, print and write `reading.json`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--reads", type=int, default=200, help="of a slice, in one repeat")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = write_cases(Layout(Path(folder) / "large", DATASET), 2, (60, 233, 197), (224, 224))
        ratios = reading_ratios(large, options.repeats, options.reads)
        small = write_cases(Layout(Path(folder) / "small", DATASET), 12, (20, 64, 56), (64, 56))
        shares = waiting_shares(small)
    print(f"{options.reads} random slices of {options.repeats} repeats, a mapped file's rate = 1")
    for name, found in ratios.items():
        print(f"  {name:34} {median(found):.2f} ({min(found):.2f}-{max(found):.2f})")
    print("an epoch of the demo's GRCSF waits for its batches")
    for name, share in shares.items():
        print(f"  {name:34} {share:.1%}")
    keep("reading", {"rates": ratios, "waiting": shares})


def write_cases(
    layout: Layout, count: int, shape: tuple[int, int, int], size: tuple[int, int]
) -> Layout:
    """Stores of smooth images with noise, a lesion in most slices, and noisy residual maps."""
    random = np.random.default_rng(0)
    names = [f"case{index}" for index in range(count)]
    cases = {}
    for name in names:
        smooth = ndimage.gaussian_filter(random.normal(0, 1, shape), 6)
        image = (1000 + 4000 * smooth + random.normal(0, 20, shape)).astype(np.int16)
        label = (smooth > np.quantile(smooth, 0.98)).astype(np.uint8)
        attributes: dict[str, Any] = {
            "shape": shape,
            "slices": shape[0],
            "labelled": True,
            "slices_with_lesion": np.flatnonzero(label.any(axis=(1, 2))).tolist(),
            "empty_slices": [],
            "quantiles": np.quantile(image, QUANTILES).tolist(),
            "fingerprint": name,
        }
        write_store(layout.case_store(name), {"image": image, "label": label}, attributes)
        residual = np.abs(random.normal(0, 0.05, (2, shape[0], *size))).astype(np.float16)
        write_residuals(layout, "mrm", name, residual, {"fingerprint": name})
        cases[name] = {**attributes, "sha256_image": name, "sha256_label": name}
    write_json(layout.cases, {"cases": cases, "set_aside": {}, "outputs": []})
    keys = {name: name for name in names}
    write_json(layout.residual_batch("mrm", "1of1"), {"cases": keys})
    held_out = max(1, count // 4)
    roles = {"train": names[held_out:], "validation": names[:held_out], "test": []}
    write_json(layout.split, {"subsets": {"1": roles}})
    return layout


def reading_ratios(layout: Layout, repeats: int, reads: int) -> dict[str, list[float]]:
    """The stores' rate over the mapped file's, for a new order of slices in every repeat."""
    names = ["case0", "case1"]
    mapped, counts = mapped_chunks(layout, names)
    readers = {name: slice_reader(layout, names, codecs) for name, codecs in CODECS.items()}
    random = np.random.default_rng(1)
    found: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(repeats):
        slices = random.integers((2, counts), size=(reads, 2)).tolist()
        wanted = [(names[case], z) for case, z in slices]
        theirs = seconds(mapped, wanted)
        for name, read in readers.items():
            found[name].append(theirs / seconds(read, wanted))
    return found


def slice_reader(layout: Layout, names: list[str], codecs: str) -> Callable[[str, int], None]:
    """Reads a slice's image, label and residual maps from stores, through these codecs."""
    with zarr.config.set({"codec_pipeline.path": codecs}):
        arrays = {
            (array, name): stored_array(open_store(store_path(layout, stage, name)), array)
            for stage, array in ARRAYS
            for name in names
        }

    def read(name: str, z: int) -> None:
        with zarr.config.set({"codec_pipeline.path": codecs}):
            for _, array in ARRAYS:
                read_part(arrays[array, name], (slice(None), z) if array == "residual" else z)

    return read


def store_path(layout: Layout, stage: str, name: str) -> Path:
    """Where a case's store of a stage lies."""
    return layout.case_store(name) if stage == "ingest" else layout.residual_store("mrm", name)


def mapped_chunks(layout: Layout, names: list[str]) -> tuple[Callable[[str, int], None], int]:
    """Reads a slice's chunks from one memory-mapped file; and the number of slices."""
    codec = numcodecs.Zstd(level=3, checksum=True)
    kept: dict[tuple[str, int], list[tuple[int, int, Any, tuple[int, ...]]]] = {}
    blob, count = bytearray(), 0
    for name in names:
        for stage, array in ARRAYS:
            values = read_array(open_store(store_path(layout, stage, name)), array)
            planes = np.moveaxis(values, 1, 0) if array == "residual" else values[:, None]
            count = len(planes)
            for z, maps in enumerate(planes):
                packed = codec.encode(np.ascontiguousarray(maps))
                place = (len(blob), len(packed), maps.dtype, maps.shape)
                kept.setdefault((name, z), []).append(place)
                blob += packed
    path = layout.root / "chunks.npy"
    np.save(path, np.frombuffer(bytes(blob), np.uint8))
    file: npt.NDArray[np.uint8] = np.load(path, mmap_mode="r")

    def read(name: str, z: int) -> None:
        for start, length, dtype, shape in kept[name, z]:
            values = codec.decode(np.asarray(file[start : start + length]))
            np.frombuffer(values, dtype).reshape(shape)

    return read, count


def seconds(read: Callable[[str, int], None], wanted: list[tuple[str, int]]) -> float:
    """Wall-clock seconds of reading these slices."""
    started = time.perf_counter()
    for name, z in wanted:
        read(name, z)
    return time.perf_counter() - started


def waiting_shares(layout: Layout) -> dict[str, float]:
    """The share of a training that its loader took, with and without its memory of slices."""
    settings = load_settings(DEMO).datasets[DATASET]
    chosen = settings.experiments[EXPERIMENT]
    shares = {}
    for name, cache_mb, epochs in (
        ("all read from the stores", 0, 2),
        ("kept in memory (cache_mb), 8 epochs", 2000, 8),
    ):
        changed = {"epochs": epochs, "patience": None}
        training = chosen.training.model_copy(update=changed)
        experiment = chosen.model_copy(update={"training": training})
        profiler = SimpleProfiler()
        resources = Resources(threads=1, cache_mb=cache_mb)
        with mock.patch.object(lightning, "Trainer", partial(lightning.Trainer, profiler=profiler)):
            train_segmentation(
                layout, f"{EXPERIMENT}{cache_mb}", 1, experiment, 2, settings.slices, 0, resources
            )
        recorded = profiler.recorded_durations
        shares[name] = sum(recorded[NEXT_BATCH]) / sum(recorded[EPOCH])
    return shares


if __name__ == "__main__":
    main()
