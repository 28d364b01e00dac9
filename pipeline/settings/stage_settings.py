"""The part of the configuration that each stage's result depends on."""

from __future__ import annotations

from typing import Any

from pipeline.settings.configuration import Dataset, Settings
from pipeline.settings.instances import subsets_served, subsets_that_predict_unlabelled
from pipeline.settings.method import Mae
from pipeline.settings.residual_sets import GradCam
from pipeline.settings.section import Section, configured, repeat_seed
from pipeline.settings.tables import table_experiments
from pipeline.settings.untrained import SamExperiment, Untrained

# the keys of an MAE that decide which weights fit it; the weights themselves are an input
MAE_SHAPE = {"architecture", "preset", "image_size", "patch_size"}
# the keys of an experiment that decide its weights alone, which are an input, too
OF_TRAINING = ("training", "labelled_cases", "pretrained")


def stage_settings(settings: Settings, stage: str, dataset: str, name: str = "") -> dict[str, Any]:
    """Everything that the result of a stage, with its MAE, set or the like, depends on, as JSON."""
    chosen = settings.datasets[dataset]
    seed = {"seed": settings.seed}
    slices = {"slices": chosen.slices.of_networks()}
    evaluation = {"evaluation": _plain(chosen.evaluation)}
    match stage:
        case "phantom":
            return {"phantom": _plain(chosen.source.phantom), "adapter": chosen.source.adapter}
        case "ingest":
            sets = {name: _plain(source) for name, source in chosen.external.items()}
            external = {"external": _ordered(sets)} if sets else {}
            return {"source": _plain(chosen.source), **external, **_plain(chosen.slices, {"plane"})}
        case "split":
            return {"split": _plain(chosen.split), **seed}
        case "unpack":  # which depends on the bundle alone
            return {}
        case "train_mae":
            # pictures change no weight
            mae = chosen.mae[configured(name)].model_dump(mode="json", exclude={"picture_epochs"})
            return {"mae": mae, **slices, **seed}
        case "residual_maps":
            subsets = {"subsets": list(subsets_served(chosen, name))}
            own = {**_residual_settings(chosen, configured(name)), **_given_back(settings)}
            return {**own, **subsets, **slices, **seed}
        case "train_segmentation":
            own = {"seed": repeat_seed(settings.seed, name)}
            return {**_network_settings(chosen, name), **slices, **own}
        case "predict":
            further = _who_predicts_unlabelled(chosen)
            if isinstance(untrained := chosen.experiments[configured(name)], Untrained):
                return {**_untrained_settings(chosen, name, untrained), **further}
            network = _network_settings(chosen, name, *OF_TRAINING)
            return {**network, **slices, **further}
        case "postprocess":
            return {"postprocess": _plain(chosen.postprocess)}
        case "evaluate":
            repeats = chosen.experiments[name].model_dump(include={"repeats"})
            return {**evaluation, "subsets": list(chosen.subsets_of(name)), **repeats, **seed}
        case "compare":
            return {**evaluation, "subsets": list(chosen.shared_subsets), **seed}
        case "tabulate":
            table = chosen.tables[name]
            rows = table_experiments(table) if "macs" in table.columns else []
            counted = [one for one in rows if one in chosen.networks]
            networks = {one: _network_settings(chosen, one, *OF_TRAINING) for one in counted}
            macs = {"networks": networks, **slices} if networks else {}
            return {"table": _plain(table), **evaluation, **seed, **macs}
        case "draw":
            plain = _plain(chosen)
            plain.pop("tables")
            return {"dataset": _ordered(plain), **seed}
        case "report":
            return {"dataset": _ordered(_plain(chosen)), **seed}
        case "measure":
            measured = {"evaluation": _plain(chosen.evaluation), **_applied(settings, "format")}
            # slices: as which pictures are shown
            return {"postprocess": _plain(chosen.postprocess), **slices, **measured}
    raise ValueError(f"no stage is called {stage!r}")


def _given_back(settings: Settings) -> dict[str, Any]:
    """That residual maps are given back, as their manifest then lists no stores."""
    return {"keep": settings.store.keep} if settings.store.gives_back else {}


def _applied(settings: Settings, *keys: str) -> dict[str, Any]:
    """These keys of the section about an applied model; nothing without it."""
    return settings.apply.model_dump(mode="json", include=set(keys)) if settings.apply else {}


def _residual_settings(chosen: Dataset, name: str) -> dict[str, Any]:
    """A residual set, and the shapes of the models behind it, whose weights are inputs."""
    residuals = chosen.residuals[name]
    if isinstance(residuals, GradCam):
        network = _network_settings(chosen, residuals.grad_cam, *OF_TRAINING)
        return {"residuals": _plain(residuals), "network": network}
    maes = {part.mae: _plain(chosen.mae[part.mae], MAE_SHAPE) for part in residuals.maps}
    return {"residuals": _plain(residuals), "mae": maes}


def _network_settings(chosen: Dataset, name: str, *without: str) -> dict[str, Any]:
    """An experiment, and the other settings that decide its network's shape."""
    # the choice of subsets changes no result of any subset, nor do more repeats any repeat's
    ignored = {"subsets", "repeats", *without}
    experiment = chosen.trained(name, "whose settings decide its weights")
    return {
        "experiment": experiment.model_dump(mode="json", exclude=ignored),
        "residual_maps": residual_count(chosen, name),
        "mae": _plain(encoder_mae(chosen, name), MAE_SHAPE),
    }


def _untrained_settings(chosen: Dataset, name: str, experiment: Untrained) -> dict[str, Any]:
    """An experiment of which nothing is trained; the files that it is given are inputs."""
    given = {"subsets", "checkpoint", "predictions", "ensemble"}
    settings: dict[str, Any] = {"experiment": experiment.model_dump(mode="json", exclude=given)}
    if members := chosen.averaged_by(name):
        # their order changes no mean
        settings["members"] = sorted(chosen.bundle.members if chosen.bundle else members)
    if isinstance(experiment, SamExperiment):
        # it sees slices at their own size
        settings["slices"] = _plain(chosen.slices, {"window", "percentiles"})
    return settings


def _who_predicts_unlabelled(chosen: Dataset) -> dict[str, int]:
    folds = chosen.split.folds is not None
    return {"unlabelled_by": subsets_that_predict_unlabelled(chosen)[0]} if folds else {}


def encoder_mae(dataset: Dataset, experiment: str) -> Mae | None:
    """The MAE whose encoder an experiment's network uses, or None."""
    encoder = dataset.experiments[configured(experiment)].mae_encoder
    return dataset.mae[encoder.mae] if encoder else None


def residual_count(dataset: Dataset, experiment: str) -> int:
    """The number of residual maps that an experiment's network sees."""
    name = dataset.experiments[configured(experiment)].residuals
    return len(dataset.residuals[name].titles) if name else 0


def _plain(section: Section | None, keys: set[str] | None = None) -> Any:
    """A section as JSON values, or only these of its keys."""
    return section and section.model_dump(mode="json", include=keys)


def _ordered(value: Any) -> Any:
    """Mappings sorted by key, because the order of keys in a file changes no result."""
    if not isinstance(value, dict):
        return value
    return {key: _ordered(value[key]) for key in sorted(value)}
