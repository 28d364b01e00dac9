"""Where every result lies: `results/<dataset>/<stage>/…`.

Files ending in `.json`, `.csv`, `.md` or `.html`, and figures, are declared to Snakemake; stores,
checkpoints and masks are not, because Snakemake deletes the declared outputs of a job that fails or
runs again.
What an experiment's further repeats make lies a folder deeper, as their name says: `unet/repeat-2`.
Stores and masks of a data set with many cases lie in folders by digest, `ingest/3f/CASE.zarr`, but
for those that lay flat before there were many. `Layout` alone decides where one lies.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pipeline.storage.folders import digest_folder, is_record, matching, stores_in

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
    Result("ingest", "batch-*.json", "manifest"),
    Result("ingest", "*.zarr", "store"),
    Result("split", "split.json", "small"),
    Result("unpack", "manifest.json", "manifest"),
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
    Result("predict", "*/subset-*/batch-*.json", "manifest"),
    Result("predict", "*/repeat-*/subset-*/batch-*.json", "manifest"),
    Result("predict", "*/*/*.zarr", "store"),
    Result("predict", "*/repeat-*/*/*.zarr", "store"),
    Result("postprocess", "*/subset-*.json", "manifest"),
    Result("postprocess", "*/repeat-*/subset-*.json", "manifest"),
    Result("postprocess", "*/subset-*/batch-*.json", "manifest"),
    Result("postprocess", "*/repeat-*/subset-*/batch-*.json", "manifest"),
    Result("evaluate", "*.csv", "small"),
    Result("evaluate", "*.json", "declared"),
    Result("evaluate", "*/batch-*.csv", "small"),
    Result("evaluate", "*/batch-*.json", "declared"),
    Result("compare", "table.md", "small"),
    Result("compare", "table.csv", "declared"),
    Result("tabulate", "*.md", "small"),
    Result("tabulate", "*.csv", "declared"),
    Result("draw", "*.md", "small"),
    Result("draw", "*.svg", "declared"),
    Result("draw", "*.pdf", "declared"),
    Result("draw", "*.png", "declared"),
    Result("report", "report.html", "declared"),
    Result("measure", "batch-*.json", "manifest"),
    Result("measure", "batch-*.json", "small"),  # it holds the table's numbers
    Result("measure", "table.csv", "small"),
    Result("measure", "table.parquet", "declared"),
    Result("measure", "page.html", "declared"),
)
STAGES = tuple(dict.fromkeys(result.stage for result in RESULTS))
UNNAMED = (
    "ingest",
    "split",
    "unpack",
    "compare",
    "report",
    "measure",
)  # of which a data set has one


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
            if kind not in kinds:
                continue
            found = stores_in if kind == "store" else matching
            for path in found(self.stage(stage), pattern):
                if not path.name.startswith(".") and not is_record(path):
                    yield stage, path

    @property
    def by_digest(self) -> Path:
        """The note that stores lie in folders by digest, as the data set has or had many cases."""
        return self.root / self.dataset / "folders.json"

    def _of_case(self, folder: Path, case: str, suffix: str) -> Path:
        """The file or store of a case in a folder of many: one that lies flat stays there."""
        flat = folder / f"{case}{suffix}"
        if not self.by_digest.exists() or os.path.lexists(flat):
            return flat
        return folder / digest_folder(case) / flat.name

    def set_of(self, stage: str, store: Path) -> str:
        """What a store is of: `mrm/fold-1`, or `grcsf/subset-1`; of a case store ""."""
        parts = store.parent.relative_to(self.stage(stage)).parts
        # a residual set may have two digits for a name
        named = stage in UNNAMED or len(parts) > 1
        if named and parts[-1:] == (digest_folder(store.stem),):
            parts = parts[:-1]
        return "/".join(parts)

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
        stem = Path(name).stem
        if stage in UNNAMED:
            return work_name(stage, stem.removeprefix("batch-")) if "batch-" in stem else stage
        batch_or_subset = stem.removeprefix("batch-").removeprefix("subset-")
        named = [folder.removeprefix("subset-") for folder in folders]
        return work_name(stage, *named, batch_or_subset if folders else stem)

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

    def ingest_batch(self, batch: str) -> Path:
        """Manifest of one batch of case stores, which the manifest of all cases takes over."""
        return self.stage("ingest") / f"batch-{batch}.json"

    def case_store(self, case: str) -> Path:
        """Image and label of a case."""
        return self._of_case(self.stage("ingest"), case, ".zarr")

    @property
    def split(self) -> Path:
        """Training, validation and test cases of every subset."""
        return self.stage("split") / "split.json"

    @property
    def unpacked(self) -> Path:
        """Manifest of the weights of an applied model, unpacked as those of trainings."""
        return self.stage("unpack") / "manifest.json"

    def mae(self, name: str) -> Path:
        """Manifest of a trained MAE; its model and checkpoints lie in the folder of its stem."""
        return self.stage("train_mae") / f"{name}.json"

    def residual_batch(self, name: str, batch: str) -> Path:
        """Manifest of one batch of residual stores."""
        return self.stage("residual_maps") / name / f"batch-{batch}.json"

    def residual_store(self, name: str, case: str) -> Path:
        """The residual maps of a case."""
        return self._of_case(self.stage("residual_maps") / name, case, ".zarr")

    def model(self, experiment: str, subset: int) -> Path:
        """Manifest of a trained network; model and checkpoints lie in the folder of its stem."""
        return self.stage("train_segmentation") / experiment / f"subset-{subset}.json"

    def predictions(self, experiment: str, subset: int | str) -> Path:
        """Manifest of the predicted cases; of one batch of them, `subset` is `1/batch-2of4`."""
        return self.stage("predict") / experiment / f"subset-{subset}.json"

    def prediction_store(self, experiment: str, subset: int, case: str) -> Path:
        """The probabilities of a case on the source's grid."""
        folder = self.stage("predict") / experiment / f"subset-{subset}"
        return self._of_case(folder, case, ".zarr")

    def masks(self, experiment: str, subset: int | str) -> Path:
        """Manifest of the written masks; of one batch of them, `subset` is `1/batch-2of4`."""
        return self.stage("postprocess") / experiment / f"subset-{subset}.json"

    def mask(self, experiment: str, subset: int, case: str, suffix: str) -> Path:
        """The mask of a case, in the source's geometry and file format."""
        folder = self.stage("postprocess") / experiment / f"subset-{subset}"
        return self._of_case(folder, case, suffix)

    def uncertainty(self, experiment: str, subset: int, case: str, suffix: str) -> Path:
        """How far an ensemble's networks disagree over a case, in the source's geometry."""
        # in a folder of its own, since a case may have any name
        folder = self.stage("postprocess") / experiment / f"subset-{subset}" / "uncertainty"
        return self._of_case(folder, case, suffix)

    def scores(self, experiment: str) -> Path:
        """One row per patient; of one batch of them, `experiment` is `unet/batch-2of4`."""
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

    def measures(self, batch: str) -> Path:
        """Manifest of one batch of measured masks."""
        return self.stage("measure") / f"batch-{batch}.json"

    def measured(self, case: str, suffix: str) -> Path:
        """What is measured of a case, `.json`, and its DICOM SEG, `.dcm`."""
        # in a folder of its own, since a case may have any name
        note = self._of_case(self.stage("measure") / "cases", case, ".json")
        return note.with_name(f"{case}{suffix}")

    @property
    def cohort_page(self) -> Path:
        """The self-contained page of a cohort."""
        return self.stage("measure") / "page.html"

    def cohort_table(self, suffix: str) -> Path:
        """A row for every scan of a cohort, `.csv` or `.parquet`."""
        return self.stage("measure") / f"table{suffix}"


def work_name(stage: str, *names: object) -> str:
    """How work is named, in one file's name: what `Layout.work_of` says of its result."""
    return " ".join([stage, *map(str, names)]).replace("/", " ")


def stage_version(stage: str) -> int:
    """The integer `VERSION` in `pipeline/<stage>.py`, raised when the stage's output changes."""
    source = Path(__file__).parents[1] / f"{stage}.py"
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return int(ast.literal_eval(node.value))
    raise ValueError(f"{source} has no VERSION")
