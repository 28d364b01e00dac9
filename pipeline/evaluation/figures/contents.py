"""Which figures a data set has, by its configuration alone, and what they show."""

from __future__ import annotations

from pipeline.settings import Dataset, Residuals


def guided_pair(chosen: Dataset) -> tuple[str, str] | None:
    """The network without residual maps and the one with them that a figure shows side by side.

    The baseline, or else the first one; and the first GRCSF, or else the first one with maps.
    """
    networks = chosen.networks
    plain = [name for name, network in networks.items() if network.residuals is None]
    guided = [name for name, network in networks.items() if network.residuals]
    if not plain or not guided:
        return None
    first = (name for name in guided if networks[name].model == "grcsf")
    baseline = chosen.evaluation.baseline
    return baseline if baseline in plain else plain[0], next(first, guided[0])


def figure_faults(chosen: Dataset) -> dict[str, str]:
    """Every figure with the reason why this data set has none; "" where it has it."""
    pair, sources = guided_pair(chosen), sets_shown(chosen, "residual-sources")
    maes = "" if sets_shown(chosen, "reconstruction") else "no experiment has maps of an MAE"
    return {
        "methods": "",
        "lesion-size": "",
        "reconstruction": maes,
        "residual-guidance": "" if pair else "it takes a network with maps and one without",
        "residual-sources": "" if len(sources) > 1 else "it takes two residual sets",
    }


def figures_of(chosen: Dataset) -> list[str]:
    """The figures that a data set has."""
    return [name for name, fault in figure_faults(chosen).items() if not fault]


def sets_shown(chosen: Dataset, figure: str) -> list[str]:
    """The residual sets whose maps a figure shows: of all that experiments see, in their order."""
    used = [row.residuals for row in chosen.experiments.values()]
    sets = list(dict.fromkeys(filter(None, used)))
    if figure == "reconstruction":
        return [name for name in sets if isinstance(chosen.residuals[name], Residuals)][:1]
    if figure == "residual-guidance" and (pair := guided_pair(chosen)):
        return [name for name in sets if name == chosen.experiments[pair[1]].residuals]
    return sets if figure == "residual-sources" else []
