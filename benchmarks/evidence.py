"""Dice by method and number of labelled cases, as a table and a figure, from a finished run.

Run as `python benchmarks/evidence.py --config FILE --output FOLDER` once the configuration's run is
finished (`make evidence` does both). An experiment is called METHOD_N, with N its `labelled_cases`
or `all`, or METHOD alone. Writes DATASET.md, .csv, .svg and .png.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from evidence_figure import Line, Point, write_figure
from evidence_table import Scored, build_table, title

from pipeline.datasets.subsets import labelled_part
from pipeline.errors import PipelineError
from pipeline.evaluation.contrast import contrast_table
from pipeline.evaluation.score_files import read_scores, read_summary
from pipeline.evaluation.tables import write_table
from pipeline.settings import Dataset
from pipeline.settings.reading import load_settings
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout


def main() -> None:
    """Read the run, write table and figure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--dataset", help="needed where the configuration has several")
    parser.add_argument("--output", type=Path, required=True, help="folder of the four files")
    options = parser.parse_args()
    try:
        page = write_evidence(options.config, options.dataset, options.output)
    except PipelineError as error:
        sys.exit(f"error: {error}")
    print(page.read_text("utf-8"))


def write_evidence(config: Path, name: str | None, output: Path) -> Path:
    """Write table and figure of a data set's finished experiments; the table's page.

    Raises:
        PipelineError: no such data set, or an experiment that is not evaluated.
    """
    settings = load_settings(config)
    name = name or (next(iter(settings.datasets)) if len(settings.datasets) == 1 else "")
    if name not in settings.datasets:
        known = ", ".join(settings.datasets)
        raise PipelineError(f"--dataset: found {name!r}, expected one of {known} ({config})")
    dataset, layout = settings.datasets[name], Layout(Path(settings.results), name)
    rows = read_experiments(layout, dataset, settings.seed)
    output.mkdir(parents=True, exist_ok=True)
    table = build_table(rows, dataset, read_contrasts(layout, dataset), settings.seed)
    page = output / f"{name}.md"
    write_table(table, f"Evidence: {name}", page, output / f"{name}.csv")
    write_figure(lines_of(rows), [output / f"{name}{suffix}" for suffix in (".svg", ".png")])
    return page


def read_experiments(layout: Layout, dataset: Dataset, seed: int) -> list[Scored]:
    """All experiments, the fewest labelled cases first, else in the configuration's order.

    Raises:
        PipelineError: one is not evaluated, or on other patients than the first.
    """
    subsets, split = dataset.shared_subsets, read_json(layout.split)["subsets"]
    rows: list[Scored] = []
    for name, experiment in dataset.experiments.items():
        summary = read_summary(layout, name, dataset.evaluation, seed, subsets)
        patients = read_scores(layout, name, subsets).sort_index()
        if rows and list(patients.index) != list(rows[0].patients.index):
            found = f"{layout.scores(name)}: found other patients than of {rows[0].experiment}"
            raise PipelineError(f"{found}, expected the same; run evaluate again")
        part = labelled_part(split[str(subsets[0])], name, experiment, seed)
        method = name.removesuffix(f"_{experiment.labelled_cases or 'all'}")
        counts = len(part["train"]), len(part["validation"])
        score, over = summary["scores"]["dice"], summary["mean_over"]
        rows.append(Scored(name, method, *counts, experiment.residuals, patients, score, over))
    return sorted(rows, key=lambda row: row.labelled)


def read_contrasts(layout: Layout, dataset: Dataset) -> dict[str, dict[str, float]]:
    """Mean AUC of the maps, and of the image itself, of each residual set over the test cases."""
    table = contrast_table(layout, dataset)
    contrasts: dict[str, dict[str, float]] = {}
    for row in table.numbers if table else ():
        contrasts.setdefault(row["residuals"], {})[row["map"]] = row["auc"]
    return contrasts


def lines_of(rows: Sequence[Scored]) -> list[Line]:
    """The figure's lines: a method's points, the fewest labelled cases first."""
    lines: dict[str, list[Point]] = {}
    for row in rows:
        if row.dice["mean"] is None:
            continue
        repeats = [mean for mean in row.dice.get("by_repeat", {}).values() if mean is not None]
        bounds = row.dice["low"], row.dice["high"]
        point = Point(row.training, row.validation, row.dice["mean"], *bounds, repeats)
        lines.setdefault(row.method, []).append(point)
    return [Line(title(method), points) for method, points in lines.items()]


if __name__ == "__main__":
    main()
