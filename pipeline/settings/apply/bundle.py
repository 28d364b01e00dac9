"""What a bundle says of itself: its settings, networks and digests; no weight is read.

    bundle.json         format, settings, seed, digests of all files, split digest, scores, versions
    MODEL_CARD.md       what it is, what it was trained on, how it scored, what it is not for
    network.safetensors the experiment's network, or of several each its own
    mae-NAME.safetensors, network-NAME.safetensors
                        what makes its residual maps: MAEs, or the network behind Grad-CAM

`members` names the files of several networks, whose probabilities are averaged. Every command and
every plan reads the description of an applied model, so this takes milliseconds.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.errors import PipelineError, one_line
from pipeline.settings.apply.members import Member, Weights, described_members, weight_files
from pipeline.settings.configuration import Dataset
from pipeline.settings.paths import file_refusal
from pipeline.settings.section import Count, Name, Positive, repeat_name, require
from pipeline.settings.stage_settings import residual_count

FORMAT, OF_SEVERAL = 1, 2  # of a bundle of one network, and of several
LARGEST_DESCRIPTION = 16 * 2**20
# NotImplementedError: a compression that zipfile does not know; RuntimeError: an encrypted file
DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
DESCRIPTION = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds, by its own words."""

    name: str  # the data set on which it was trained
    dataset: Dataset  # of a prediction: one experiment, and Grad-CAM's
    experiment: str
    members: tuple[tuple[str, int], ...]  # trainings, each with the subset that it learned from
    seed: int  # of the masks
    maps: int  # how many the network sees
    parameters: object  # of one network, as it says
    weights: Mapping[str, Weights]  # what each of its files is
    files: Mapping[str, str]  # name → SHA-256 of each file of weights

    @property
    def result(self) -> str:
        """The name of its predictions: the experiment's, or that of its ensemble."""
        return self.experiment if len(self.members) == 1 else f"{self.experiment}/ensemble"

    @property
    def subset(self) -> int:
        """The subset under which its predictions lie: the first."""
        return self.members[0][1]


def read_bundle(path: Path) -> Bundle:
    """The description of a bundle, whose weights are neither read nor compared.

    Raises:
        PipelineError: it is no bundle, of another format, or its settings are not valid.
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
        return Bundle(
            # it becomes a folder of the results: a path could lead out of them
            name=TypeAdapter(Name).validate_python(record["dataset"]),
            dataset=dataset,
            experiment=experiment,
            members=tuple((repeat_name(experiment, n), subset) for subset, n in members),
            seed=TypeAdapter(Count).validate_python(record["seed"]),
            maps=residual_count(dataset, experiment),
            parameters=record.get("parameters"),
            weights=weight_files(dataset, experiment, members),
            files=dict(record["files"]),
        )
    except Exception as error:  # whatever the settings of a foreign file raise
        raise invalid(path, error) from error


def invalid(path: Path, error: Exception) -> PipelineError:
    """The fault of a bundle whose description passes as JSON, and yet describes no networks."""
    return PipelineError(f"bundle {path}: {DESCRIPTION} is not valid ({_reason(error)})")


def check_zip(path: Path) -> None:
    """Refuse what is no regular file, and a zip whose names are paths or that holds one twice.

    Raises:
        PipelineError: it is one of these.
    """
    if refusal := file_refusal(path):
        raise PipelineError(f"bundle {path}: {refusal}; give the zip that grcsf export wrote")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (OSError, ValueError, *DAMAGED_ZIP) as error:
        fault = f"bundle {path}: no readable zip ({error}); expected what grcsf export wrote"
        raise PipelineError(fault) from error
    seen = set()
    for entry in entries:
        name = entry.filename
        if name in seen:
            raise PipelineError(f"bundle {path}: holds {name!r} twice; fetch it again")
        seen.add(name)
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise PipelineError(f"bundle {path}: found the name {name!r}, which leads out of it")
        if entry.compress_type not in COMPRESSIONS:
            fault = f"{name!r} is compressed in a way that grcsf export does not use"
            raise PipelineError(f"bundle {path}: {fault}; zip its files again, or export it again")


def member(archive: zipfile.ZipFile, name: str) -> str:
    """The name in the zip, whose files may lie in one folder: unpacked and zipped again, they do.

    Raises:
        KeyError: several folders hold a bundle.
    """
    tops = [each.split("/") for each in archive.namelist() if each.count("/") <= 1]
    folders = [parts[0] for parts in tops if parts[1:] == [DESCRIPTION]]
    if [DESCRIPTION] in tops or not folders:
        return name
    if len(folders) > 1:
        raise KeyError(f"found it in the folders {', '.join(folders)}, expected one bundle a zip")
    return f"{folders[0]}/{name}"


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


def _reason(error: Exception) -> str:
    """What is wrong in a bundle's description, without the URLs and values of other libraries."""
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return f"it has no {error}" if isinstance(error, KeyError) else one_line(error)
