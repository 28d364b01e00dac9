"""A bundle: one zip with the weights and settings of a trained run, which predicts any image.

    bundle.json         format, settings, seed, digests of all files, split digest, scores, versions
    MODEL_CARD.md       what it is, what it was trained on, how it scored, what it is not for
    network.safetensors the experiment's network, or of several each its own
    mae-NAME.safetensors, network-NAME.safetensors
                        what makes its residual maps: MAEs, or the network behind Grad-CAM

`members` names the files of several networks, whose probabilities are averaged.

Loading runs no code: safetensors and JSON, checked against digests and the settings' schema, and
nothing is inflated or built that these settings do not need.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, repeat_name, residual_count
from pipeline.settings.section import Count, Name, Positive, require
from pipeline.storage.files import file_digest, write_json
from pipeline.storage.layout import Layout, folder_of
from pipeline.tools.export.bundle_checks import (
    DAMAGED_ZIP,
    DESCRIPTION,
    check_parameters,
    check_readable,
    check_weights,
    check_zip,
    description_fault,
    expected_networks,
    member,
)
from pipeline.tools.export.members import Member, described_members, own_files, weight_files

FORMAT, OF_SEVERAL = 1, 2  # of a bundle of one network, and of several
LARGEST_DESCRIPTION = 16 * 2**20


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files are whole."""

    name: str  # the data set on which it was trained
    dataset: Dataset  # of a prediction: one experiment, and Grad-CAM's
    experiment: str
    members: tuple[tuple[str, int], ...]  # trainings, each with the subset that it learned from
    seed: int  # of the masks
    maps: int  # how many the network sees
    files: Mapping[str, str]  # name → SHA-256 of each file of weights

    @property
    def result(self) -> str:
        """The name of its predictions: the experiment's, or that of its ensemble."""
        return self.experiment if len(self.members) == 1 else f"{self.experiment}/ensemble"

    @property
    def subset(self) -> int:
        """The subset under which its predictions lie: the first."""
        return self.members[0][1]


def open_bundle(path: Path, into: Path) -> Bundle:
    """Unpack a bundle as trained models of a results tree at `into`, ready for the stages.

    Raises:
        PipelineError: it is no bundle, of another format, damaged, or its settings are not valid.
    """
    if not os.path.lexists(path):
        raise PipelineError(f"bundle {path}: not there; give what grcsf export wrote")
    if path.is_dir():
        raise PipelineError(
            f"bundle {path}: found a folder, expected a zip; zip its files, or export it again"
        )
    check_zip(path)
    record = _description(path)
    try:
        dataset = Dataset.model_validate(record["settings"])
        experiment, members = str(record["experiment"]), _members(record, dataset)
        bundle = Bundle(
            # it becomes a folder of the tree: a path could lead out of it
            name=TypeAdapter(Name).validate_python(record["dataset"]),
            dataset=dataset,
            experiment=experiment,
            members=tuple((repeat_name(experiment, n), subset) for subset, n in members),
            seed=TypeAdapter(Count).validate_python(record["seed"]),
            maps=residual_count(dataset, experiment),
            files=dict(record["files"]),
        )
        files = weight_files(dataset, experiment, members)
        networks = expected_networks(dataset, files)
    except Exception as error:  # settings that pass may still build nothing
        raise PipelineError(
            f"bundle {path}: {DESCRIPTION} is not valid ({description_fault(error)})"
        ) from error
    first = networks[own_files(files, experiment)[0]]
    check_parameters(path, first, record.get("parameters"))
    for name, network in networks.items():
        check_weights(path, name, network)
    layout = Layout(into, bundle.name)
    for name, file in files.items():
        manifest = file.manifest(layout)
        weights = folder_of(manifest) / "model.safetensors"
        weights.parent.mkdir(parents=True, exist_ok=True)
        _unpack(path, name, weights)
        if file_digest(weights) != bundle.files.get(name):
            raise PipelineError(f"bundle {path}: {name} is damaged; export or fetch it again")
        check_readable(path, name, weights)
        write_json(manifest, {"weights_sha256": bundle.files[name], "outputs": []})
    return bundle


def _members(record: Mapping[str, Any], dataset: Dataset) -> list[Member]:
    """The networks of a description, whose only one lies where a first repeat does."""
    if record["format"] == OF_SEVERAL:
        return described_members(record["members"], dataset)
    subset = TypeAdapter(Positive).validate_python(record["subset"])
    require(subset in dataset.all_subsets, f"subset: found {subset}")
    return [Member(subset, 1)]


def _description(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member(archive, DESCRIPTION)) as file:
            record = json.loads(file.read(LARGEST_DESCRIPTION))
    except (ValueError, KeyError, OSError, *DAMAGED_ZIP) as error:
        raise PipelineError(
            f"bundle {path}: no readable {DESCRIPTION} ({error}); expected a zip that grcsf "
            "export wrote"
        ) from error
    form = record.get("format") if isinstance(record, dict) else None
    if form not in (FORMAT, OF_SEVERAL):
        expected = f"expected {FORMAT} or {OF_SEVERAL}"
        raise PipelineError(f"bundle {path}: format {form}, {expected}; export it again")
    return dict(record)


def _unpack(path: Path, name: str, into: Path) -> None:
    """Copy one file out of a zip: read by its name, never to a path that the zip names."""
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open(member(archive, name)) as file,
            into.open("wb") as written,
        ):
            shutil.copyfileobj(file, written)
    except KeyError:
        raise PipelineError(f"bundle {path}: {name} is not there") from None
    except DAMAGED_ZIP as error:
        raise PipelineError(f"bundle {path}: {name} is damaged ({error})") from error
