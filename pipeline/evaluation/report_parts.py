"""The report's smaller tables: scores by lesion size, calcium, split, groups, notes, units."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Mapping, Sequence
from itertools import islice
from typing import Any

import pandas as pd

from grcsf.lesions import SIZE_GROUPS, size_group
from pipeline.evaluation.case_view import shown_residuals
from pipeline.evaluation.tables import TextTable
from pipeline.networks.history import (
    History,
    contributions,
    idle_units,
    last_factors,
    unit_title,
)
from pipeline.settings import HEALTHY, Dataset, GradCam, external_set

LOSSES = ("masked_loss", "average_slice", "patch_mean")
ROLES = ("train", "validation", "test")
MOST_ROWS = 1000  # of a table with a row for each case


def size_table(summaries: Mapping[str, Mapping[str, Any]]) -> TextTable:
    """Mean Dice of each experiment by lesion size: the paper's three groups, then quarters."""
    table = TextTable(["Lesion voxels", "Cases", *summaries])
    first = next(iter(summaries.values()))
    for kind, of in (("by_lesion_size", ""), ("by_lesion_quartile", " of 4")):
        for group, content in first[kind].items():
            low, high = content["voxels"] or (0, 0)
            title = group if not of else f"quarter {group}{of}"
            reach = f"{low:,}" if low == high else f"{low:,}–{high:,}"
            seen = f" ({reach})" if content["patients"] else ""
            cells = _dice_cells(summaries, kind, group)
            table.rows.append([title.replace("-", "–") + seen, str(content["patients"]), *cells])
    return table


def repeat_table(summaries: Mapping[str, Mapping[str, Any]]) -> TextTable | None:
    """Mean Dice of each repeat, and their standard deviation; None if nothing is repeated."""
    repeated = {name: summary for name, summary in summaries.items() if "repeats" in summary}
    most = max((summary["repeats"] for summary in repeated.values()), default=0)
    table = TextTable(["Method", *(f"Repeat {n}" for n in range(1, most + 1)), "Deviation"])
    for name, summary in repeated.items():
        dice = summary["scores"]["dice"]
        means = [dice["by_repeat"].get(str(n)) for n in range(1, most + 1)]
        figures = [*means, dice["sd_over_repeats"]]
        cells = ["–" if value is None else f"{value:.3f}" for value in figures]
        table.rows.append([name, *cells])
    return table if repeated else None


def cohort_table(summaries: Mapping[str, Mapping[str, Any]]) -> TextTable | None:
    """Mean Dice of each experiment by cohort; None if there are fewer than two cohorts."""
    first = next(iter(summaries.values()))["by_group"]
    if len(first) < 2:
        return None
    table = TextTable(["Group", "Cases", *summaries])
    for group, content in first.items():
        cells = _dice_cells(summaries, "by_group", group)
        table.rows.append([group, str(content["patients"]), *cells])
    return table


def _dice_cells(summaries: Mapping[str, Mapping[str, Any]], kind: str, group: str) -> list[str]:
    dice = [summary[kind][group]["dice"] for summary in summaries.values()]
    return ["–" if value is None else f"{value:.3f}" for value in dice]


def dice_by_size(scores: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, list[float]]]:
    """Size group of Fig. 9 → experiment → Dice of each of its patients."""
    sizes = next(iter(scores.values()))["reference_voxels"]
    of = sizes[sizes > 0].map(size_group)
    return {group.replace("-", "–"): _dice_of(scores, of, group) for group in SIZE_GROUPS}


def dice_by_cohort(scores: Mapping[str, pd.DataFrame]) -> dict[str, dict[str, list[float]]]:
    """Cohort → experiment → Dice of each of its patients."""
    of = next(iter(scores.values()))["group"].fillna("")
    return {str(group): _dice_of(scores, of, group) for group in sorted(set(of) - {""})}


def _dice_of(
    scores: Mapping[str, pd.DataFrame], of: pd.Series[str], group: str
) -> dict[str, list[float]]:
    cases = of.index[of == group]
    return {name: rows["dice"].loc[cases].tolist() for name, rows in scores.items()}


def agatston_table(scores: Mapping[str, pd.DataFrame], shown: Container[str]) -> TextTable:
    """Agatston score and risk group of the shown cases: the reference's, then each experiment's."""
    table = TextTable(["Case", "Reference", *scores])
    first = next(iter(scores.values()))
    for case in filter(shown.__contains__, first.index):
        sides = [("reference", first), *(("prediction", rows) for rows in scores.values())]
        cells = [
            f"{rows[f'agatston_{side}'].loc[case]:.1f} ({rows[f'risk_{side}'].loc[case]})"
            for side, rows in sides
        ]
        table.rows.append([str(case), *(cell.replace("-", "–") for cell in cells)])
    return table


def split_table(split: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]]) -> TextTable:
    """Cases of every subset or fold by role, its actual test fraction and its test groups."""
    part = "Fold" if "folds" in split else "Subset"
    table = TextTable([part, *(role.capitalize() for role in ROLES), "Test fraction"])
    grouped = any(case["group"] for case in cases.values())
    if grouped:
        table.headings.append("Test groups")
    for number in sorted(split["subsets"], key=int):
        roles = split["subsets"][number]
        fraction = split["fractions"].get(number, {}).get("test")
        row = [number, *(str(len(roles[role])) for role in ROLES)]
        row.append("–" if fraction is None else f"{fraction:.1%}")
        if grouped:
            row.append(", ".join(sorted({cases[case]["group"] for case in roles["test"]})))
        table.rows.append(row)
    return table


def group_table(split: Mapping[str, Any], cases: Mapping[str, Mapping[str, Any]]) -> TextTable:
    """Cases of every group by role; empty if the data set has no groups.

    Over folds, each of which has all cases, they count as tested.
    """
    roles = ROLES if "folds" not in split else ROLES[-1:]
    role_of = {
        case: role for parts in split["subsets"].values() for role in roles for case in parts[role]
    }
    counts = Counter(
        (case["group"], role_of.get(name, "unlabelled"))
        for name, case in cases.items()
        if case["role"] != HEALTHY and not external_set(case["role"])
    )
    table = TextTable(["Group", *(role.capitalize() for role in (*ROLES, "unlabelled"))])
    for group in sorted({group for group, _ in counts if group}):
        row = [str(counts[group, role]) for role in (*ROLES, "unlabelled")]
        table.rows.append([group, *row])
    return table


def set_aside_rows(faults: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
    """The cases set aside, each with its faults; of very many, how many more there are."""
    rows = [(name, "; ".join(why)) for name, why in islice(faults.items(), MOST_ROWS)]
    more = len(faults) - len(rows)
    return [*rows, (f"{more:,} more", "see ingest/manifest.json")] if more else rows


def note_rows(cases: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The notes of ingest: each note once, with its cases."""
    noted = defaultdict(list)
    for name, case in cases.items():
        for note in case.get("notes", ()):
            noted[note].append(name)
    return [(note, _listed(names, len(cases))) for note, names in noted.items()]


def _listed(names: Sequence[str], whole: int) -> str:
    if len(names) == whole and whole > 1:
        return f"all {whole}"
    return ", ".join(names) if len(names) <= 10 else f"{', '.join(names[:8])} … ({len(names)})"


def learning_table(losses: Mapping[str, Mapping[str, float]]) -> TextTable:
    """Masked validation loss of every MAE beside those of predictions that need no learning."""
    headings = ["MAE", "Masked loss", "Average slice", "Patch's own mean", "Against the average"]
    table = TextTable(headings)
    for name, kept in losses.items():
        masked, average, mean = (kept[key] for key in LOSSES)
        better = 1 - masked / average if average else 0.0
        verdict = f"{better:.0%} lower" if masked < average else "**not lower: it has not learnt**"
        table.rows.append([name, f"{masked:.4f}", f"{average:.4f}", f"{mean:.4f}", verdict])
    return table


def residual_note(dataset: Dataset, *, given_back: bool = False) -> str:
    """An explanation of the residual maps in the pictures; "" if no experiment has any."""
    name = shown_residuals(dataset)
    if name is None:
        return ""
    if given_back:
        return (
            "Residual maps are not shown: with store.keep: until_predicted they are deleted once "
            "nothing is predicted with them any more."
        )
    chosen = dataset.residuals[name]
    if isinstance(chosen, GradCam):
        return (
            f"Maps ({name}): Grad-CAM of {chosen.grad_cam}, where its deepest features speak for a "
            "lesion, each slice over its own maximum; the green line is the reference."
        )
    formula = {
        "abs": "the absolute difference between the image and its reconstruction",
        "squared": "the squared difference between the image and its reconstruction",
        "ssim": "1 − the local structural similarity of the image and its reconstruction",
        "signed": "the image minus its reconstruction",
    }[chosen.difference]
    passes = " and ".join(str(part.passes) for part in chosen.maps)
    look = "Bright is"
    if chosen.signed:
        look = "Orange is brighter, blue darker and grey as foreseen: strong colours are"
    return (
        f"Residual maps ({name}): {formula} by a masked autoencoder that has learned lesion-free "
        f"slices only, averaged over {passes} passes of {chosen.masks} masks. {look} what the "
        "autoencoder could not foresee: lesions, and also edges and fine texture. All maps of a "
        "case share one scale; the green line is the reference."
    )


def data_summary(dataset: Dataset, listed: Mapping[str, Mapping[str, Any]], aside: int) -> str:
    """Numbers of cases by kind, from ingest's manifest, which set `aside` so many."""
    cases, external = {}, Counter[str]()
    for name, case in listed.items():
        if of := external_set(case["role"]):
            external[of] += 1
        else:
            cases[name] = case
    labelled = sum(case["labelled"] for case in cases.values())
    healthy = sum(case["role"] == HEALTHY for case in cases.values())
    others = len(cases) - labelled - healthy
    groups = len({case["group"] for case in cases.values() if case["group"]})
    origin = "synthetic cases (phantoms)" if dataset.source.phantom else "cases"
    return (
        f"{len(cases)} {origin}: {labelled} with a reference, {others} without"
        + (f", {healthy} healthy that only autoencoders learn from" if healthy else "")
        + "".join(f", {count} of external {name}" for name, count in external.items())
        + (f", {aside} set aside" if aside else "")
        + (f"; {groups} groups" if groups else "")
        + f". Split by {dataset.split.by}"
        + (f" into {dataset.split.folds} folds." if dataset.split.folds else ".")
    )


def unit_table(histories: Mapping[str, Mapping[str, History]]) -> TextTable | None:
    """A row for each unit of each training, and a note for each that stayed at nothing.

    `histories`: experiment → run (subset) → its rows. None if no training recorded units.
    """
    headings = ["Training", "Unit", "First epoch", "Highest", "Last epoch", "Factors at the end"]
    table = TextTable(headings, names=2)
    for title, runs in histories.items():
        for run, history in runs.items():
            training = ", ".join(filter(None, (title, run)))
            for unit, values in contributions(history).items():
                shares = (values[0], max(values), values[-1])
                factors = last_factors(history, unit).items()
                learnt = ", ".join(f"{name} {value:.3g}" for name, value in factors)
                cells = [*(f"{share:.1%}" for share in shares), learnt or "–"]
                table.rows.append([training, unit_title(unit), *cells])
            table.notes += [f"{training}: {line}." for line in idle_units(history)]
    return table if table.rows else None
