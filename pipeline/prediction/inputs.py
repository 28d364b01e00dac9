"""The files that the predictions of an experiment rest on which is not trained here."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, EnsembleExperiment, GivenPredictions, SamExperiment
from pipeline.settings.apply.members import Weights
from pipeline.settings.paths import expanded, file_refusal, sam_files
from pipeline.settings.untrained import RANDOM_SAM
from pipeline.storage.batches import Parts
from pipeline.storage.images.headers import data_files
from pipeline.storage.images.names import SUFFIXES, looks_like_image
from pipeline.storage.layout import Layout

SAVED = f"a folder with one mask a case, named after it ({', '.join(SUFFIXES)})"


def prediction_inputs(
    layout: Layout, dataset: Dataset, name: str, subset: int, parts: Parts
) -> list[Path]:
    """What stage `predict` reads in place of a trained network; nothing where there is one.

    `parts` gives the manifests that are written in place of one for all cases.

    Raises:
        PipelineError: the checkpoint or the folder is not given or not there.
    """
    experiment = dataset.experiments[name]
    match experiment:
        case EnsembleExperiment():
            members = (layout.predictions(*one) for one in dataset.members_of(name, subset))
            return [part for manifest in members for part in parts(manifest)]
        case SamExperiment():
            masks = parts(layout.masks(experiment.prompts, subset))
            return [*masks, *checkpoint_of(layout.dataset, name, experiment)]
        case GivenPredictions():
            images = given_images(layout, name, experiment)
            images = [image for image in images if not file_refusal(image)]
            return list(dict.fromkeys(file for image in images for file in data_files(image)))
        case _:
            return []


def weights_manifest(layout: Layout, weights: Weights) -> Path:
    """The manifest of the training that wrote a bundle's weights, or as which they are unpacked."""
    mae = weights.subset is None
    return layout.mae(weights.name) if mae else layout.model(weights.name, weights.subset or 0)


def checkpoint_of(dataset: str, name: str, experiment: SamExperiment) -> list[Path]:
    """The files of SAM's checkpoint, none of random weights; errors: `sam_files`."""
    if experiment.checkpoint == RANDOM_SAM:
        return []
    key = checkpoint_key(dataset, name)
    given = experiment.checkpoint
    return sam_files(expanded(given, key) if given else None, key)


def checkpoint_key(dataset: str, name: str) -> str:
    """Where the configuration names SAM's checkpoint."""
    return f"datasets.{dataset}.experiments.{name}.checkpoint"


def given_images(layout: Layout, name: str, experiment: GivenPredictions) -> list[Path]:
    """What is named like an image in the folder of given predictions, in order.

    It may be a folder or a link to nothing, for `predict` to tell beside all other faults.

    Raises:
        PipelineError: there is no such folder, or it lies in the data set's own results.
    """
    key = f"datasets.{layout.dataset}.experiments.{name}.predictions"
    folder = expanded(experiment.predictions, key)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing there"
        raise PipelineError(f"{key}: {folder}: found {found}, expected {SAVED}; correct the path")
    results = (layout.root / layout.dataset).resolve()
    if folder.resolve().is_relative_to(results):
        # a call would read them before it has made them anew
        fault = f"{key}: {folder}: found a folder of this data set's own results"
        raise PipelineError(f"{fault}, expected {SAVED}; copy the masks elsewhere")
    return sorted(path for path in folder.iterdir() if looks_like_image(path.name))
