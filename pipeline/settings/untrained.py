"""Experiments without a training of their own: SAM, masks made elsewhere, ensembles of others."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from pipeline.settings.method import Experiment
from pipeline.settings.resources import TrainingResources
from pipeline.settings.section import Name, Section, Subsets, require


class Untrained(Section):
    """What these experiments share with those that are trained."""

    subsets: Subsets = None
    resources: TrainingResources = Field(default=TrainingResources(), exclude=True)
    # neither sees residual maps, starts from an MAE or is repeated
    residuals: ClassVar[None] = None
    mae_encoder: ClassVar[None] = None
    repeats: ClassVar[int] = 1
    what: ClassVar[str]
    useless: ClassVar[tuple[str, ...]] = (  # keys of resources
        "nodes",
        "workers",
        "cache_mb",
        "cache",
        "compile",
    )

    @model_validator(mode="after")
    def _check_resources(self) -> Self:
        for key in self.useless:
            found = getattr(self.resources, key)
            message = f"resources.{key}: found {found}, which its prediction does not use"
            require(found is None, f"{message}; leave it out")
        return self


RANDOM_SAM = "random"
"""In place of a checkpoint: a small SAM of random weights, for trials without SAM's own."""


class SamExperiment(Untrained):
    """SAM, zero-shot (Table 1), in boxes round what the masks of another experiment show."""

    model: Literal["sam"]
    prompts: Name
    checkpoint: str | None = None
    boxes: Literal["component", "slice"] = "component"
    what: ClassVar[str] = "SAM, whose weights are given"


class GivenPredictions(Untrained):
    """Masks that another tool or person has made, a file a case in the folder `predictions`."""

    predictions: Annotated[str, Field(min_length=1)]
    resample: bool = False
    what: ClassVar[str] = "given predictions"
    useless: ClassVar[tuple[str, ...]] = (*Untrained.useless, "gpus")


class EnsembleExperiment(Untrained):
    """The mean of the probabilities of other experiments, each with all of its repeats."""

    ensemble: Annotated[tuple[Name, ...], Field(min_length=1)]
    uncertainty: bool = False
    what: ClassVar[str] = "an ensemble of other experiments"
    useless: ClassVar[tuple[str, ...]] = (*Untrained.useless, "gpus")

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        for name in self.ensemble:
            found = f"ensemble: found {name!r} twice"
            require(self.ensemble.count(name) == 1, f"{found}; name each experiment once")
        return self


# a key that only sections without `model` have, and whose they are
KEY_OF = {"predictions": "[GivenPredictions]", "ensemble": "[EnsembleExperiment]"}


def _experiment_tag(given: Any) -> str:
    if isinstance(given, Section):
        return f"[{type(given).__name__}]"
    keys = given if isinstance(given, dict) else {}
    if "model" not in keys:
        # also where the key is misspelt, so that the right one is named
        words = [key for key in keys if isinstance(key, str)]
        for key, tag in KEY_OF.items():
            if difflib.get_close_matches(key, words, n=1, cutoff=0.7):
                return tag
        return "[Experiment]"
    return "[SamExperiment]" if keys["model"] == "sam" else "[Experiment]"


AnyExperiment = Annotated[
    Annotated[Experiment, Tag("[Experiment]")]
    | Annotated[SamExperiment, Tag("[SamExperiment]")]
    | Annotated[GivenPredictions, Tag("[GivenPredictions]")]
    | Annotated[EnsembleExperiment, Tag("[EnsembleExperiment]")],
    Discriminator(_experiment_tag),
]


def with_sources(experiments: Mapping[str, AnyExperiment], chosen: Iterable[str]) -> list[str]:
    """The chosen ones, and those whose masks or probabilities they are made of, each once."""
    names = list(dict.fromkeys(chosen))
    for name in names:  # which grows meanwhile; no experiment is made of itself
        sources: tuple[str, ...] = ()
        match experiments[name]:
            case SamExperiment(prompts=prompts):
                sources = (prompts,)
            case EnsembleExperiment(ensemble=ensemble):
                sources = ensemble
        names += [source for source in sources if source not in names]
    return names
