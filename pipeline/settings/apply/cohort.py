"""The configuration in which a bundle's model is applied: its one data set follows from both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails

from pipeline.settings.apply.bundle import Bundle, read_bundle
from pipeline.settings.apply.section import SHORT, Apply
from pipeline.settings.configuration import Dataset, Settings
from pipeline.settings.paths import expanded
from pipeline.settings.residual_sets import GradCam
from pipeline.settings.section import repeat_of, require
from pipeline.settings.untrained import EnsembleExperiment

OF_BUNDLE = ("datasets", "seed")  # what a bundle says, so that a configuration beside it must not
WALKED = ("auto", "images", "dicom")  # adapters for which every image below the root is a scan


def validated(given: Mapping[str, Any]) -> Settings:
    """The settings of a configuration, whose data set may follow from a bundle.

    Raises:
        ValidationError: keys or values that are not allowed.
        ValueError: keys beside `apply` that its bundle answers, or results among the scans.
        PipelineError: the bundle cannot be used.
    """
    short = [key for key in SHORT if key in given]
    if not short and "apply" not in given:
        return Settings.model_validate(given)
    for key in OF_BUNDLE:
        place = "apply" if "apply" in given else short[0]
        expected = "expected one of the two, as an applied model brings its own"
        require(key not in given, f"{key}: found it beside {place}, {expected}")
    meant = [*short, *_of_no_section(given)] if short else []
    apply = _section(given, meant)
    model = expanded(apply.model, "apply.model")
    bundle = read_bundle(model)
    rest = {key: value for key, value in given.items() if key not in meant}
    dataset = cohort_dataset(bundle, apply)
    made = {"apply": apply, "seed": bundle.seed, "datasets": {bundle.name: dataset}}
    settings = Settings.model_validate({**rest, **made})
    root = os.path.realpath(expanded(apply.root, "apply.root"))
    apart = not Path(os.path.realpath(settings.results)).is_relative_to(root)
    found = f"results: found {settings.results!r} inside the root {apply.root!r}"
    expected = "expected another folder, as its masks would be taken for scans"
    require(apart or apply.adapter not in WALKED, f"{found}, {expected}")
    return settings


def _of_no_section(given: Mapping[str, Any]) -> list[str]:
    """Keys that are like none of the configuration's own: misspelt short ones."""
    own = list(Settings.model_fields)
    others = [key for key in given if key not in SHORT and key not in own]
    return [key for key in others if not get_close_matches(key, own, cutoff=0.5)]


def _section(given: Mapping[str, Any], short: list[str]) -> Apply:
    """The section `apply` with the keys that are given without naming it."""
    section: Any = given.get("apply", {})
    if isinstance(section, Mapping):
        for key in short:
            found = f"{key}: found it beside apply.{key}"
            require(key not in section, f"{found}, expected one of the two")
        section = {**section, **{key: given[key] for key in short}}
    try:
        return Apply.model_validate(section)
    except ValidationError as error:
        raise ValidationError.from_exception_data("apply", _below_apply(error)) from None


def _below_apply(error: ValidationError) -> list[InitErrorDetails]:
    """The faults of the section, each where it stands in the configuration."""
    return [
        InitErrorDetails(
            type=fault["type"],
            loc=("apply", *fault["loc"]),
            input=fault["input"],
            ctx=fault.get("ctx", {}),
        )
        for fault in error.errors()
    ]


def cohort_dataset(bundle: Bundle, apply: Apply) -> Dataset:
    """The data set of a cohort: the bundle's, but for where its scans lie and who has no label.

    Raises:
        ValueError: the networks of several subsets would need Grad-CAM maps of their own.
    """
    trained = bundle.dataset
    subsets = tuple(sorted({subset for _, subset in bundle.members}))
    repeats = max(repeat_of(name) for name, _ in bundle.members)
    cams = any(isinstance(maps, GradCam) for maps in trained.residuals.values())
    found = f"apply.model: {apply.model}: found Grad-CAM maps of {len(subsets)} subsets"
    alone = len(subsets) == 1 or trained.split.folds is not None or not cams
    require(alone, f"{found}, expected those of one; use grcsf predict IMAGES")
    given = apply.model_dump(include={"channel", "series", "tilted"}, exclude_none=True)
    kept = trained.source.model_dump(include={"modality", "channel", "tilted", "series"})
    where = {"adapter": apply.adapter, "root": apply.root, "on_error": "skip", "labels": False}
    experiments = {
        name: {
            **experiment.model_dump(mode="json"),
            "subsets": subsets,
            "labelled_cases": None,
            "repeats": repeats if name == bundle.experiment else 1,
        }
        for name, experiment in trained.experiments.items()
    }
    content = trained.model_dump(mode="json", exclude={"figures", "tables", "external"})
    content |= {"source": {**kept, **given, **where}, "experiments": experiments}
    dataset = Dataset.model_validate(content)
    if len(bundle.members) > 1:
        mean = EnsembleExperiment(ensemble=(bundle.experiment,), subsets=(bundle.subset,))
        name = f"{bundle.experiment}-ensemble"
        dataset = dataset.model_copy(update={"experiments": {**dataset.experiments, name: mean}})
    dataset._bundle = bundle
    return dataset


def cohort_result(dataset: Dataset) -> tuple[str, int]:
    """Whose masks are those of an applied model, and the subset under which they lie.

    Raises:
        ValueError: no model is applied to this data set.
    """
    require(dataset.bundle, "no model is applied to this data set")
    assert dataset.bundle is not None
    means = (n for n, each in dataset.experiments.items() if isinstance(each, EnsembleExperiment))
    return next(means, dataset.bundle.experiment), dataset.bundle.subset
