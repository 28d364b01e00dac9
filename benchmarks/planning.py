"""Seconds that Snakemake plans for, at ATLAS's full size: Table 1, all ablations, four subsets.

Run as `python benchmarks/planning.py [--cases 16 655] [--folds 4] [--repeats 3]`; folds take the
place of the subsets. `--methods few` plans UNet++ and GRCSF as recommended, for as many cases as an
archive has: `--cases 5000 100000 --repeats 1`. The images are empty files.
Two calls are timed for each number of cases: the dry run when nothing is made, and the call that
finds nothing to do when all is, with every store that the manifests list lying there. Medians by
the clock on the wall and by the processor's time, which does not count what other processes took,
and ratios to the smallest number of cases; beside them the memory that the largest call took.
"""

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from calls import Call, measured
from keeping import keep

from pipeline.storage.batches import batch_names, batch_of
from pipeline.storage.folders import listed, note_many
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import file_stats, write_source_note

ROOT = Path(__file__).parents[1]
COHORTS = 16
CALLS = ("dry run", "nothing to do")
# Snakemake, which would wait a tenth of a second for each job whose results it marks as current.
TOUCHING = """
import sys
from snakemake.cli import main
from snakemake.executors import touch
touch.Executor.SLEEPING_TIME = 0.001
sys.exit(main())
"""
Seconds = tuple[float, float]  # on the wall, of the processor


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, nargs="+", default=[16, 655])
    parser.add_argument("--folds", type=int, help="in place of the subsets")
    parser.add_argument("--methods", choices=("all", "few"), default="all")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    taken: dict[int, dict[str, list[Seconds]]] = {}
    jobs: dict[int, int] = {}
    largest = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for count in options.cases:
            project = Path(folder) / str(count)
            cases = write_project(project, count, options.folds, options.methods)
            dry = [snakemake(project, "-n") for _ in range(options.repeats)]
            jobs[count] = int(re.findall(r"^total +(\d+)$", dry[0].output, re.MULTILINE)[0])
            pretend(project, cases)
            done = [snakemake(project, "--cores", "1") for _ in range(options.repeats)]
            assert "Nothing to be done" in done[0].output, done[0].output
            calls = dict(zip(CALLS, (dry, done), strict=True))
            taken[count] = {
                name: [(each.wall, each.processor) for each in made] for name, made in calls.items()
            }
            largest = max(largest, *(each.peak_mb for each in (*dry, *done)))
            print(f"{count} cases: the largest call so far took {largest:,.0f} MB")
    print_table(taken, jobs)
    figures = {"folds": options.folds, "seconds": taken, "jobs": jobs, "largest_mb": largest}
    keep(f"planning, {options.methods} methods", figures)


def images_of(case: str) -> Path:
    """The folder of a case's image and label."""
    return Path("images", "Training", f"R{case[5:8]}", case, "ses-1", "anat")


def write_project(
    folder: Path, count: int, folds: int | None = None, methods: str = "all"
) -> list[str]:
    """Empty images in the layout of ATLAS, and the configuration; the cases' names."""
    cases = [f"sub-r{index % COHORTS + 1:03d}s{index + 1:03d}" for index in range(count)]
    for case in cases:
        anatomy = folder / images_of(case)
        anatomy.mkdir(parents=True)
        stem = f"{case}_ses-1_space-MNI152NLin2009aSym"
        (anatomy / f"{stem}_T1w.nii.gz").touch()
        (anatomy / f"{stem}_label-L_desc-T1lesion_mask.nii.gz").touch()
    config = few_methods() if methods == "few" else all_methods(folder)
    dataset = config["datasets"]["atlas"]
    dataset["source"]["root"] = "images"
    if folds:
        dataset["split"] = {"by": "group", "folds": folds}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    return cases


def read_config(name: str) -> dict[str, Any]:
    """A configuration of the checkout."""
    config: dict[str, Any] = yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text("utf-8"))
    return config


def few_methods() -> dict[str, Any]:
    """UNet++ and GRCSF as recommended, on a CPU."""
    config = read_config("recommended-atlas")
    config["resources"]["gpus"] = 0
    return config


def all_methods(folder: Path) -> dict[str, Any]:
    """Those of the ablations and of Table 1, with SAM's checkpoint."""
    config, paper = read_config("ablations"), read_config("atlas")
    dataset = config["datasets"]["atlas"]
    for part in ("experiments", "tables"):
        dataset[part] |= paper["datasets"]["atlas"][part]
    checkpoint = folder / dataset["experiments"]["sam"]["checkpoint"]
    checkpoint.parent.mkdir()
    checkpoint.touch()
    return config


def snakemake(project: Path, *arguments: str, start: Sequence[str] = ("-m", "snakemake")) -> Call:
    """A call of Snakemake on the project's configuration."""
    command = [sys.executable, *start, "-s", f"{ROOT}/workflow/Snakefile", *arguments]
    return measured([*command, "--configfile", "config.yaml"], project)


def pretend(project: Path, cases: list[str]) -> None:
    """Make every output that a run has, with residual stores and a sixteenth of all predicted."""
    summary = snakemake(project, "--summary").output
    layout = Layout(project / "results", "atlas")
    note_many(layout.by_digest, len(cases))
    names = re.findall(r"^(results/\S+)\t", summary, re.MULTILINE)
    divided = any("ingest/batch-" in name for name in names)
    batches = sorted({batch_in(name) for name in names} - {""})
    members = {name: of_batches(tuple(cases), int(name.split("of")[1]))[name] for name in batches}
    for name in names:
        path, batch = project / name, batch_in(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        stores = pretended(layout, path, members[batch] if batch else cases, divided)
        for store in stores:
            store.mkdir(parents=True, exist_ok=True)
        entries = {case: {} for case in cases} if path == layout.cases else {}
        content = {"cases": entries, "outputs": listed(stores, path)}
        path.write_text(json.dumps(content), "utf-8")
        if batch and path.parent == layout.stage("ingest"):
            note_sources(project, layout.sources(layout.work_of(path)), members[batch])
    note_sources(project, layout.sources("ingest"), [] if divided else cases)
    snakemake(project, "--touch", "--forceall", "--cores", "1", start=("-c", TOUCHING))


def batch_in(name: str) -> str:
    """The batch whose manifest this is, or ""."""
    return name.partition("/batch-")[2].partition(".")[0]


@cache
def of_batches(cases: tuple[str, ...], number: int) -> dict[str, list[str]]:
    """The cases of each batch."""
    members: dict[str, list[str]] = {name: [] for name in batch_names(number, 1)}
    for case in cases:
        members[batch_of(case, number)].append(case)
    return members


def pretended(layout: Layout, manifest: Path, cases: list[str], divided: bool) -> list[Path]:
    """The stores and masks that a manifest lists."""
    stage, *folders = manifest.relative_to(layout.root / layout.dataset).parts
    if stage == "ingest":
        whole = divided and manifest == layout.cases
        return [] if whole else [layout.case_store(case) for case in cases]
    if stage == "residual_maps":
        return [layout.residual_store("/".join(folders[:-1]), case) for case in cases]
    if stage not in ("predict", "postprocess"):
        return []
    experiment, subset = re.findall(r"^(.+)/subset-(\d+)", "/".join(folders))[0]
    tested = [case for case in cases if batch_of(case, 16) == "1of16"]
    if stage == "predict":
        return [layout.prediction_store(experiment, int(subset), case) for case in tested]
    return [layout.mask(experiment, int(subset), case, ".zarr") for case in tested]


def note_sources(project: Path, note: Path, cases: list[str]) -> None:
    """Note the images of cases as ingest does."""
    files = (file for case in cases for file in (project / images_of(case)).glob("*.nii.gz"))
    read = {path.relative_to(project): seen for path, seen in file_stats(files).items()}
    write_source_note(note, read, {})


def print_table(taken: dict[int, dict[str, list[Seconds]]], jobs: dict[int, int]) -> None:
    """Medians, and ratios to the fewest cases."""
    fewest = min(taken)
    print(f"{'call':<16}{'cases':>7}{'jobs':>6}{'wall s':>9}{'processor s':>13}{'ratio':>8}")
    for call in CALLS:
        base = median(seconds for _, seconds in taken[fewest][call])
        for count, calls in taken.items():
            wall = median(seconds for seconds, _ in calls[call])
            processor = median(seconds for _, seconds in calls[call])
            ratio = f"{processor / base:.2f}"
            print(f"{call:<16}{count:>7}{jobs[count]:>6}{wall:>9.1f}{processor:>13.1f}{ratio:>8}")


if __name__ == "__main__":
    main()
