"""The page of a cohort, which embeds all that it shows: one picture a distribution and extreme."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from grcsf.agatston import RISK_GROUPS
from pipeline.errors import PipelineError
from pipeline.evaluation.case_view import view_case
from pipeline.evaluation.cohort.extremes import extremes
from pipeline.evaluation.cohort.measures import in_words
from pipeline.evaluation.cohort.table import usable
from pipeline.evaluation.colours import ON_BLACK, ON_WHITE, colours_of
from pipeline.evaluation.pages import embedded, rendered
from pipeline.evaluation.pictures import DPI, as_png, case_picture
from pipeline.settings import Dataset
from pipeline.settings.apply.cohort import cohort_result
from pipeline.storage.layout import Layout

SHOWN_FAULTS = 100
BINS = 40
QUARTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
Values = npt.NDArray[np.float64]


def cohort_page(layout: Layout, dataset: Dataset, table: pa.Table, model: str) -> str:
    """HTML of the page; one scan at a time is read for its picture.

    Raises:
        PipelineError: a store or a mask is missing or damaged.
    """
    measured = usable(table)
    faulty = table.filter(pc.is_valid(table["fault"]))
    values = {name: _values(measured, name) for name in ("volume_ml", "lesions", "agatston")}
    named = {"volume_ml": "volume, ml", "lesions": "lesions", "agatston": "Agatston score"}
    chosen = extremes(measured).items()
    content = {
        "dataset": layout.dataset,
        "model": model,
        "counts": _counts(table, measured),
        "quartiles": [
            (named[name], [f"{value:.4g}" for value in np.quantile(found, QUARTILES)])
            for name, found in values.items()
            if found.size
        ],
        "distributions": embedded(distributions(values)) if len(measured) else "",
        "risks": _risks(measured),
        "faults": faulty.select(["case", "fault"])[:SHOWN_FAULTS].to_pylist(),
        "faulty": len(faulty),
        "extremes": [_shown(layout, dataset, measured, *each) for each in chosen],
    }
    return rendered("cohort.html.j2", content)


def _values(measured: pa.Table, column: str) -> Values:
    return np.asarray(measured[column].drop_null().to_numpy(), float)


def _counts(table: pa.Table, measured: pa.Table) -> list[tuple[str, str]]:
    seconds = _values(measured, "seconds")
    empty = int((_values(measured, "lesions") == 0).sum())
    counts = {
        "scans": len(table),
        "with a mask": len(measured),
        "of these without any lesion": empty,
        "set aside": len(table) - len(measured),
    }
    told = [(name, f"{count:,}") for name, count in counts.items()]
    if seconds.size:
        whole, middle = float(seconds.sum()), float(np.median(seconds))
        units = ((3600, "hours"), (60, "minutes"), (1, "seconds"))
        size, unit = next((each for each in units if whole >= 2 * each[0]), units[-1])
        together = f"{whole / size:,.1f} {unit}, {middle:.3g} s a scan (median)"
        told.append(("maps and prediction", together))
    return told


def _risks(measured: pa.Table) -> list[tuple[str, int]]:
    found = measured["risk"].drop_null()
    counts = {one["values"]: one["counts"] for one in found.value_counts().to_pylist()}
    return [(risk, counts.get(risk, 0)) for risk in RISK_GROUPS] if counts else []


def distributions(values: dict[str, Values]) -> bytes:
    """PNG of histograms of the scans with lesion: volume, their number, Agatston where known."""
    titles = {"volume_ml": "volume, ml", "lesions": "lesions", "agatston": "Agatston score"}
    shown = {name: found[found > 0] for name, found in values.items()}
    shown = {name: found for name, found in shown.items() if found.size}
    figure = Figure(figsize=(4.2 * max(1, len(shown)), 2.6), dpi=DPI, layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, max(1, len(shown))))
    for panel, (name, found) in zip(panels, shown.items(), strict=False):
        panel.hist(found, bins=_edges(found), color=ON_WHITE[1])
        if found.max() > 20 * found.min():
            panel.set_xscale("log")
        panel.set_xlabel(f"{titles[name]} (of {found.size:,} scans above 0)", fontsize=8)
        panel.set_ylabel("scans", fontsize=8)
        panel.yaxis.set_major_locator(MaxNLocator(integer=True))
    for panel in panels:
        panel.tick_params(labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    return as_png(figure)


def _edges(found: Values) -> Values:
    """Edges of bins, evenly apart in the scale in which they are drawn."""
    low, high = float(found.min()), float(found.max())
    if high > 20 * low:
        return np.geomspace(low, high, BINS + 1)
    return np.linspace(low, high if high > low else low + 1, BINS + 1)


def _shown(
    layout: Layout, dataset: Dataset, table: pa.Table, case: str, why: list[str]
) -> dict[str, Any]:
    """A scan with its picture, or with why there is none."""
    (row,) = table.filter(pc.field("case") == case).to_pylist()
    measured = {"lesion_ml": row["volume_ml"], "lesions": row["lesions"]}
    if row["agatston"] is not None:
        measured["agatston"] = row["agatston"]
    result, subset = cohort_result(dataset)
    assert dataset.bundle is not None
    experiments = {result: dataset.experiments[dataset.bundle.experiment]}
    alone = dataset.model_copy(update={"experiments": experiments})
    picture, fault = "", ""
    try:
        view = view_case(layout, alone, case, subset)
        picture = embedded(case_picture(view, colours_of([result], ON_BLACK)))
    except PipelineError as error:
        fault = str(error)
    return {
        "case": case,
        "why": ", ".join(why),
        "measures": f"{in_words(measured)}, {row['seconds']:.3g} s",
        "mask": row["segmentation"] or row["mask"],
        "picture": picture,
        "fault": fault,
    }
