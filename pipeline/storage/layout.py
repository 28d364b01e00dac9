"""Where every result lies: `results/<dataset>/<stage>/…`, and which batch a case belongs to.

Files ending in `.json`, `.csv`, `.md` or `.html`, and figures, are declared to Snakemake; stores,
checkpoints and masks are not, because Snakemake deletes the declared outputs of a job that fails or
runs again.
What an experiment's further repeats make lies a folder deeper, as their name says: `unet/repeat-2`.
"""

from __future__ import annotations

import ast
import fnmatch
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Kind = Literal["manifest", "small", "declared", "store"]


class Result(NamedTuple):
    """Where results of a stage lie.

    A `manifest` lists models, masks or each `store`. A `small` one is the first file of a job that
    lists nothing, and is compared with the job's record. Other files are `declared` beside these.
    """

    stage: str
    pattern: str  # of their paths below the stage's folder
    kind: Kind


RESULTS = (
    Result("ingest", "manifest.json", "manifest"),
    Result("ingest", "*.zarr", "store"),
    Result("split", "split.json", "small"),
    Result("train_mae", "*.json", "manifest"),
    Result("train_mae", "*/fold-*.json", "manifest"),
    Result("residual_maps", "*/batch-*.json", "manifest"),
    Result("residual_maps", "*/fold-*/batch-*.json", "manifest"),
    Result("residual_maps", "*/*.zarr", "store"),
    Result("residual_maps", "*/fold-*/*.zarr", "store"),
    Result("train_segmentation", "*/subset-*.json", "manifest"),
    Result("train_segmentation", "*/repeat-*/subset-*.json", "manifest"),
    Result("predict", "*/subset-*.json", "manifest"),
    Result("predict", "*/repeat-*/subset-*.json", "manifest"),
    Result("predict", "*/*/*.zarr", "store"),
    Result("predict", "*/repeat-*/*/*.zarr", "store"),
    Result("postprocess", "*/subset-*.json", "manifest"),
    Result("postprocess", "*/repeat-*/subset-*.json", "manifest"),
    Result("evaluate", "*.csv", "small"),
    Result("evaluate", "*.json", "declared"),
    Result("compare", "table.md", "small"),
    Result("compare", "table.csv", "declared"),
    Result("tabulate", "*.md", "small"),
    Result("tabulate", "*.csv", "declared"),
    Result("draw", "*.md", "small"),
    Result("draw", "*.svg", "declared"),
    Result("draw", "*.pdf", "declared"),
    Result("draw", "*.png", "declared"),
    Result("report", "report.html", "declared"),
)
STAGES = tuple(dict.fromkeys(result.stage for result in RESULTS))
UNNAMED = ("ingest", "split", "compare", "report")  # of which a data set has one


@dataclass(frozen=True)
class Layout:
    """The paths of one data set's results under `root/dataset`."""

    root: Path
    dataset: str
    shared: Path | None = None  # the folder of residual stores that several projects share

    def stage(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.root / self.dataset / stage

    def existing(self, *kinds: Kind) -> Iterator[tuple[str, Path]]:
        """Every result of these kinds that is there, with its stage, in the order of the stages."""
        for stage, pattern, kind in RESULTS:
            if kind in kinds:
                for path in matching(self.stage(stage), pattern):
                    if not path.name.startswith(".") and not is_record(path):
                        yield stage, path

    @property
    def locks(self) -> Path:
        """Files that say who works on the data set, and what was stopped half-way."""
        return self.stage("running")

    @property
    def last_run(self) -> Path:
        """What the last call left for the next one: its code, and where it was recorded."""
        return self.locks / "last.json"

    def work_of(self, declared: Path) -> str:
        """The work that a declared file results from, as its lock is named: `predict unet 2`.

        A name with a folder in it is written without its stroke: `predict unet repeat-2 1`.
        """
        stage, *folders, name = declared.relative_to(self.root / self.dataset).parts
        if stage in UNNAMED:
            return stage
        batch_or_subset = Path(name).stem.removeprefix("batch-").removeprefix("subset-")
        return work_name(stage, *folders, batch_or_subset if folders else Path(name).stem)

    def sources(self, work: str) -> Path:
        """What the files looked like that `ingest`, or `train_mae <name>`, was given and read."""
        return self.locks / f"{work}.sources.json"

    @property
    def cluster_runs(self) -> Path:
        """The names that the data set's calls have given their jobs on a cluster."""
        return self.locks / "cluster.json"

    @property
    def phantom_truth(self) -> Path:
        """What is known about the phantoms, written after the last of them."""
        return self.stage("phantom") / "truth.json"

    def check(self, suffix: str) -> Path:
        """What `grcsf check` found, `.json` or `.html`."""
        return self.stage("check") / f"check{suffix}"

    @property
    def cases(self) -> Path:
        """Manifest of ingest: every case with its digests, and the cases set aside."""
        return self.stage("ingest") / "manifest.json"

    def case_store(self, case: str) -> Path:
        """Image and label of a case."""
        return self.stage("ingest") / f"{case}.zarr"

    @property
    def split(self) -> Path:
        """Training, validation and test cases of every subset."""
        return self.stage("split") / "split.json"

    def mae(self, name: str) -> Path:
        """Manifest of a trained MAE; its model and checkpoints lie in the folder of its stem."""
        return self.stage("train_mae") / f"{name}.json"

    def residual_batch(self, name: str, batch: str) -> Path:
        """Manifest of one batch of residual stores."""
        return self.stage("residual_maps") / name / f"batch-{batch}.json"

    def residual_store(self, name: str, case: str) -> Path:
        """The residual maps of a case."""
        return self.stage("residual_maps") / name / f"{case}.zarr"

    def model(self, experiment: str, subset: int) -> Path:
        """Manifest of a trained network; model and checkpoints lie in the folder of its stem."""
        return self.stage("train_segmentation") / experiment / f"subset-{subset}.json"

    def predictions(self, experiment: str, subset: int) -> Path:
        """Manifest of the predicted cases."""
        return self.stage("predict") / experiment / f"subset-{subset}.json"

    def prediction_store(self, experiment: str, subset: int, case: str) -> Path:
        """The probabilities of a case on the source's grid."""
        return self.stage("predict") / experiment / f"subset-{subset}" / f"{case}.zarr"

    def masks(self, experiment: str, subset: int) -> Path:
        """Manifest of the written masks."""
        return self.stage("postprocess") / experiment / f"subset-{subset}.json"

    def mask(self, experiment: str, subset: int, case: str, suffix: str) -> Path:
        """The mask of a case, in the source's geometry and file format."""
        return self.stage("postprocess") / experiment / f"subset-{subset}" / f"{case}{suffix}"

    def uncertainty(self, experiment: str, subset: int, case: str, suffix: str) -> Path:
        """How far an ensemble's networks disagree over a case, in the source's geometry."""
        # in a folder of its own, since a case may have any name
        folder = self.stage("postprocess") / experiment / f"subset-{subset}" / "uncertainty"
        return folder / f"{case}{suffix}"

    def scores(self, experiment: str) -> Path:
        """One row per patient."""
        return self.stage("evaluate") / f"{experiment}.csv"

    def summary(self, experiment: str) -> Path:
        """Means over patients, intervals, and counts of undefined values."""
        return self.stage("evaluate") / f"{experiment}.json"

    def table(self, suffix: str) -> Path:
        """The comparison of all experiments, `.md` or `.csv`."""
        return self.stage("compare") / f"table{suffix}"

    def chosen_table(self, name: str, suffix: str) -> Path:
        """A table of chosen experiments, `.md` or `.csv`."""
        return self.stage("tabulate") / f"{name}{suffix}"

    def figure(self, name: str, suffix: str) -> Path:
        """A figure, `.svg`, `.pdf` or `.png`, or its caption, `.md`."""
        return self.stage("draw") / f"{name}{suffix}"

    @property
    def report(self) -> Path:
        """The self-contained page."""
        return self.stage("report") / "report.html"


def matching(folder: Path, pattern: str) -> Iterator[Path]:
    """The sorted paths of a pattern below a folder, of which only names are held: they are many."""
    first, _, rest = pattern.partition("/")
    try:
        with os.scandir(folder) as entries:
            names = sorted(fnmatch.filter((entry.name for entry in entries), first))
    except OSError:  # it is not there, no folder, or closed, as for a glob
        return
    for name in names:
        if rest:
            yield from matching(folder / name, rest)
        else:
            yield folder / name


def folder_of(manifest: Path) -> Path:
    """The undeclared folder that belongs to a manifest: `…/name.json` → `…/name/`."""
    return manifest.with_suffix("")


def mask_note(mask: Path, case: str) -> Path:
    """What postprocess notes beside a mask: its fingerprint, voxels and SHA-256."""
    return mask.with_name(f"{case}.json")


RECORD = ".provenance.json"


def work_name(stage: str, *names: object) -> str:
    """How work is named, in one file's name: what `Layout.work_of` says of its result."""
    return " ".join([stage, *map(str, names)]).replace("/", " ")


def record_of(declared: Path) -> Path:
    """The record of the job that declares this file: `…/name.json` → `…/name.provenance.json`."""
    return declared.with_name(declared.stem + RECORD)


def is_record(path: Path) -> bool:
    """Whether a file is a record of a job, and no manifest; no result's name has a full stop."""
    return path.name.endswith(RECORD)


def batch_names(cases: int, cases_per_job: int) -> list[str]:
    """Names of the batches: a power of two, so a case stays in one while others come and go."""
    batches = 1
    while batches * cases_per_job < cases:
        batches *= 2
    return [f"{index + 1}of{batches}" for index in range(batches)]


def batch_of(case: str, batches: int) -> str:
    """The batch of a case: a stable function of its name."""
    index = int.from_bytes(hashlib.sha256(case.encode()).digest()[-4:], "big") % batches
    return f"{index + 1}of{batches}"


def in_batch(case: str, batch: str) -> bool:
    """Whether `case` belongs to the batch called `batch`, such as `2of4`."""
    return batch_of(case, int(batch.split("of")[1])) == batch


def stage_version(stage: str) -> int:
    """The integer `VERSION` in `pipeline/<stage>.py`, raised when the stage's output changes."""
    source = Path(__file__).parents[1] / f"{stage}.py"
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return int(ast.literal_eval(node.value))
    raise ValueError(f"{source} has no VERSION")
