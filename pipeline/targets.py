"""What a configuration asks for: every manifest, table and page of a data set.

Snakemake is asked for these by name, because it does not miss a file between others that are up to
date, unless it is asked for; and a deleted file has to be missed.
`grcsf plan` counts them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.layout import STAGES, Layout
from pipeline.settings import Dataset, GradCam, Table


def table_experiments(table: Table) -> list[str]:
    """The experiments that stand in a table's rows, each once."""
    return list(dict.fromkeys(row.experiment for row in table.rows))


def used_residuals(chosen: Dataset, experiments: Iterable[str]) -> list[str]:
    """The residual sets that these experiments see."""
    names = {chosen.experiments[name].residuals for name in experiments}
    return sorted(name for name in names if name)


def used_maes(chosen: Dataset, experiments: Sequence[str]) -> list[str]:
    """The MAEs behind these experiments: of their residual maps, and of their encoders."""
    sets = [chosen.residuals[name] for name in used_residuals(chosen, experiments)]
    maps = {one.mae for chosen_set in sets for one in getattr(chosen_set, "maps", ())}
    encoders = (chosen.experiments[name].mae_encoder for name in experiments)
    return sorted(maps | {one.mae for one in encoders if one})


def models_behind(layout: Layout, chosen: Dataset, residuals: str) -> list[Path]:
    """Manifests of the models that make a residual set: MAEs, or the networks of Grad-CAM."""
    settings = chosen.residuals[residuals]
    if isinstance(settings, GradCam):
        return [layout.model(settings.grad_cam, one) for one in chosen.subsets_with(residuals)]
    return [layout.mae(mae) for mae in sorted({one.mae for one in settings.maps})]


def manifests(
    layout: Layout, chosen: Dataset, experiments: Sequence[str], batches: Sequence[str]
) -> list[Path]:
    """The experiments' scores and every manifest on the way to them, each once.

    Args:
        layout: of the data set.
        chosen: its settings.
        experiments: names.
        batches: of each residual set.
    """
    residuals = used_residuals(chosen, experiments)
    models = {path for name in residuals for path in models_behind(layout, chosen, name)}
    models |= {layout.mae(name) for name in used_maes(chosen, experiments)}
    paths = [
        layout.cases,
        layout.split,
        *sorted(models),
        *(layout.residual_batch(name, batch) for name in residuals for batch in batches),
        *(
            path(experiment, subset)
            for path in (layout.model, layout.predictions, layout.masks)
            for experiment in experiments
            for subset in chosen.subsets_of(experiment)
        ),
        *(path(one) for path in (layout.scores, layout.summary) for one in experiments),
    ]
    return list(dict.fromkeys(paths))


def tables(layout: Layout, chosen: Dataset) -> list[Path]:
    """The tables of chosen experiments."""
    return [
        layout.chosen_table(name, suffix) for name in chosen.tables for suffix in (".md", ".csv")
    ]


def everything(layout: Layout, chosen: Dataset, batches: Sequence[str]) -> list[Path]:
    """The report, every table, and every manifest on the way to them."""
    return [
        *manifests(layout, chosen, list(chosen.experiments), batches),
        *tables(layout, chosen),
        *map(layout.table, (".md", ".csv")),
        layout.report,
    ]


def tables_alone(layout: Layout, chosen: Dataset, batches: Sequence[str]) -> list[Path]:
    """Every table of chosen experiments, and every manifest on the way to it; none without one."""
    rows = [name for table in chosen.tables.values() for name in table_experiments(table)]
    if not rows:
        return []
    return [
        *manifests(layout, chosen, list(dict.fromkeys(rows)), batches),
        *tables(layout, chosen),
    ]


def job_counts(layout: Layout, chosen: Dataset, batches: Sequence[str]) -> dict[str, int]:
    """Jobs of each stage that a run of everything has, when nothing is made yet."""
    # what one job writes differs in the suffix alone
    asked = {path.with_suffix("") for path in everything(layout, chosen, batches)}
    counts = Counter(path.relative_to(layout.root / layout.dataset).parts[0] for path in asked)
    phantom = {"phantom": 1} if chosen.source.phantom else {}
    return phantom | {stage: counts[stage] for stage in STAGES if counts[stage]}
