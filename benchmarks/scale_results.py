"""Results of many cases, made without computing them, for `scale.py` to measure commands on.

One tiny head is ingested for real, and gets residual maps, two predictions and two masks. Every
other case's store, mask and note is a link to that one's: case stores of all, the others of every
tenth case and of those that the report shows. Manifests, scores and summaries have an entry or a
row for each case, as long as those of a real brain. Images are tiny files of their own.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.evaluation.patient_scores import voxel_row
from pipeline.evaluation.report_page.sample import COLUMNS, sampled
from pipeline.evaluation.score_files import read_scores
from pipeline.evaluation.summary import summarise, summarised
from pipeline.ingest import ingest
from pipeline.postprocess import postprocess
from pipeline.settings.reading import load_settings
from pipeline.storage.batches import batch_names, batch_of, batch_part
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of, listed, mask_note, note_many
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store, read_array, write_store

DATASET = "archive"
EXPERIMENTS = ("unetpp", "grcsf")
SHAPE = (6, 24, 20)
SPACING = (3.0, 2.0, 2.0)
SIZE = (32, 32)
GROUPS = 50
TABLE = {
    "title": "Costs",
    "headings": ["Method"],
    "columns": ["dice", "voe", "network_seconds"],
    "rows": [{"labels": ["UNet++"], "experiment": "unetpp"}],  # whose seconds need no maps
}
WITH_STORES = 10  # one case of so many has residual maps and predictions
UNTESTED = 3  # two cases train, one validates, and all others are tested
CASES_PER_JOB = 50
# of a brain of 189 slices, which takes a manifest most of its bytes
BRAIN = {"slices_with_lesion": [*range(70, 110)], "empty_slices": [*range(20), *range(170, 189)]}


def write_results(folder: Path, count: int) -> Layout:
    """Images, a configuration and all results of so many cases; whoever calls works in `folder`."""
    names = [f"sub-{number:06d}" for number in range(1, count + 1)]
    write_images(folder / "images", names, ["train", "train", "validation"])
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(), sort_keys=False), "utf-8")
    layout = Layout(folder / "results", DATASET)
    note_many(layout.by_digest, count)
    template = _made(Layout(folder / "template", DATASET), folder / "images", names[0])
    _link_cases(layout, template, names)
    _link_predictions(layout, template, names[UNTESTED:])
    subset = {"train": names[:2], "validation": names[2:UNTESTED], "test": names[UNTESTED:]}
    split = {"subsets": {"1": subset}, "unlabelled": [], "fractions": {"1": {"test": 1.0}}}
    write_json(layout.split, {**split, "outputs": []})
    return layout


def write_summaries(folder: Path) -> None:
    """What evaluate writes beside its table, from the rows of all cases."""
    settings = load_settings(folder / "config.yaml")
    layout, dataset = Layout(folder / "results", DATASET), settings.datasets[DATASET]
    for name in EXPERIMENTS:
        columns = summarised(dataset.evaluation)
        rows = read_scores(layout, name, (1,), columns=columns).reset_index()
        above = dataset.postprocess.threshold_hu
        summary = summarise(rows, dataset.evaluation, settings.seed, threshold_hu=above)
        sections = {"postprocess": dataset.postprocess.model_dump(mode="json")}
        write_json(layout.summary(name), {**summary, "settings": sections, "outputs": []})


def configuration(cases_per_job: int = CASES_PER_JOB) -> dict[str, Any]:
    """UNet++ and GRCSF, small enough for a CPU."""
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
    dataset = {
        "source": {"adapter": "manifest", "root": "images", "modality": "MR"},
        "slices": {"size": [*SIZE], "percentiles": [0, 99.9]},
        "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8}},
        "residuals": {"mrm": {"preset": "fast", "maps": maps}},
        "experiments": {
            "unetpp": {"model": "unetpp", "width": 4},
            "grcsf": {"model": "grcsf", "width": 4, "residuals": "mrm"},
        },
        "evaluation": {"baseline": "unetpp"},
        "tables": {"table": TABLE},
    }
    resources = {"threads": 1, "cases_per_job": cases_per_job}
    return {"resources": resources, "datasets": {DATASET: dataset}}


def write_images(folder: Path, names: list[str], roles: list[str]) -> None:
    """A small image for each case, of other voxels each; all share one label.

    `roles` are those of the first cases; all others are tested.
    """
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    geometry = Geometry(SHAPE, SPACING)
    image, label = random.integers(1, 99, SHAPE).astype(np.int16), np.zeros(SHAPE, np.uint8)
    label[2:4, 8:12, 8:12] = 1
    write_volume(folder / "label.nii", label, geometry)
    write_volume(folder / "first.nii", image, geometry)
    content = bytearray((folder / "first.nii").read_bytes())
    (folder / "first.nii").unlink()
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "label", "group", "role"])
        for number, name in enumerate(names):
            content[-8:] = (number + 1).to_bytes(8, "little")
            (folder / f"{name}.nii").write_bytes(content)
            role = roles[number] if number < len(roles) else "test"
            writer.writerow([name, f"{name}.nii", "label.nii", group_of(number), role])


def group_of(number: int) -> str:
    """The hospital of a case."""
    return f"hospital {number % GROUPS + 1}"


def _made(template: Layout, images: Path, case: str) -> Layout:
    """The results of one case, which all others are linked to."""
    listed = images / "first.csv"
    lines = (images / "manifest.csv").read_text("utf-8").splitlines()
    listed.write_text("\n".join(lines[:2]), "utf-8")
    settings = load_settings(images.with_name("config.yaml")).datasets[DATASET]
    ingest(template, settings.source, listed, [], 1)
    listed.unlink()
    entry = read_json(template.cases)["cases"][case]
    random = np.random.default_rng(0)
    maps = random.random((2, SHAPE[0], *SIZE)).astype(np.float16)
    known = {"image": entry["sha256_image"], "fingerprint": "maps", "seconds": 1.0}
    write_store(template.residual_store("mrm", case), {"residual": maps}, known, slice_axis=1)
    label = read_array(open_store(template.case_store(case)), "label")
    for shift, name in enumerate(EXPERIMENTS):
        probability = np.roll(label, shift, axis=2).astype(np.float16)
        known = {"fingerprint": "predicted", "seconds": 1.0}
        write_store(template.prediction_store(name, 1, case), {"probability": probability}, known)
        write_json(template.predictions(name, 1), {"cases": {case: "predicted"}, "outputs": []})
        postprocess(template, name, 1, settings.postprocess)
    return template


def _link_cases(layout: Layout, template: Layout, names: list[str]) -> None:
    first = names[0]
    entry = read_json(template.cases)["cases"][first] | BRAIN
    for name in names:
        _link(layout.case_store(name), template.case_store(first))
    cases = {name: {**entry, "group": group_of(n)} for n, name in enumerate(names)}
    write_json(layout.cases, {"cases": cases, "set_aside": {}, "outputs": []})
    for batch, members in in_batches(names[::WITH_STORES], len(names)).items():
        stores = {name: layout.residual_store("mrm", name) for name in members}
        for path in stores.values():
            _link(path, template.residual_store("mrm", first))
        keys = dict.fromkeys(members, "maps")
        _write_manifest(layout.residual_batch("mrm", batch), stores, keys)


def in_batches(names: Sequence[str], whole: int) -> dict[str, list[str]]:
    """Cases of a data set of so many by the batch that they belong to."""
    batches: dict[str, list[str]] = {name: [] for name in batch_names(whole, CASES_PER_JOB)}
    for name in names:
        batches[batch_of(name, len(batches))].append(name)
    return batches


def _link_predictions(layout: Layout, template: Layout, names: list[str]) -> None:
    for number, name in enumerate(EXPERIMENTS):
        write_json(layout.model(name, 1), {"parameters": 1_000_000, "outputs": []})
        write_scores(layout, name, names, seed=number)
    scores = {name: read_scores(layout, name, (1,), columns=COLUMNS) for name in EXPERIMENTS}
    predicted = sorted({*names[::WITH_STORES], *sampled(names, scores, scores)})
    for name in EXPERIMENTS:
        (first, record) = next(iter(read_json(template.masks(name, 1))["cases"].items()))
        mask = folder_of(template.masks(name, 1)) / record["file"]
        for batch, members in in_batches(predicted, len(names)).items():
            part = batch_part(1, batch)
            stores = {case: layout.prediction_store(name, 1, case) for case in members}
            files = {case: layout.mask(name, 1, case, ".nii.gz") for case in members}
            for case in members:
                _link(stores[case], template.prediction_store(name, 1, first))
                _link(files[case], mask)
                _link(mask_note(files[case], case), mask_note(mask, first))
            folder = folder_of(layout.masks(name, 1))
            records = {
                case: {**record, "file": path.relative_to(folder).as_posix()}
                for case, path in files.items()
            }
            keys = dict.fromkeys(members, "predicted")
            _write_manifest(layout.predictions(name, part), stores, keys)
            _write_manifest(layout.masks(name, part), files, records)


def _link(path: Path, made: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(made.absolute())


def _write_manifest(path: Path, outputs: Mapping[str, Path], cases: Mapping[str, Any]) -> None:
    write_json(path, {"cases": dict(cases), "outputs": listed(outputs.values(), path)})


def write_scores(layout: Layout, experiment: str, names: list[str], seed: int) -> None:
    """A row for each case, with every column that evaluate writes."""
    path = layout.scores(experiment)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        for number, row in enumerate(_rows(names, seed)):
            if number == 0:
                writer.writerow(row)
            writer.writerow(row.values())


def _rows(names: list[str], seed: int) -> Iterator[dict[str, Any]]:
    random = np.random.default_rng(seed)
    label, mask = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, bool)
    label[2:4, 8:12, 8:12] = mask[2:4, 9:13, 8:12] = 1
    scores = voxel_row(label, mask, mask, SPACING)
    for number, name in enumerate(names):
        drawn = {key: float(random.random()) for key, value in scores.items() if 0 < value < 1}
        drawn["dice"] = float(random.random())
        size = {"reference_voxels": int(random.integers(1, 5000))}
        known = {"case": name, "group": group_of(number), "subset": 1}
        yield {**known, **scores, **drawn, **size}


if __name__ == "__main__":
    write_summaries(Path(sys.argv[1]))
