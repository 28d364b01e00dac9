"""A bundle: one zip with the weights and settings of a trained run, which predicts any image.

    bundle.json         format, settings, seed, digests of all files, split digest, scores, versions
    MODEL_CARD.md       what it is, what it was trained on, how it scored, what it is not for
    network.safetensors the experiment's network
    mae-NAME.safetensors, network-NAME.safetensors
                        what makes its residual maps: MAEs, or the network behind Grad-CAM

Loading runs no code: safetensors and JSON, checked against digests and the settings' schema, and
nothing is inflated or built that these settings do not need.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, Experiment, GradCam, configured, repeat_of, residual_count
from pipeline.settings.instances import mae_instance
from pipeline.settings.section import Count, Name, Positive, require
from pipeline.storage.files import file_digest, make_output, read_json, write_json
from pipeline.storage.layout import STAGES, Layout, folder_of, stage_version
from pipeline.storage.zarr_store import open_store
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
from pipeline.tools.export.model_card import model_card

FORMAT = 1
CARD = "MODEL_CARD.md"
LARGEST_DESCRIPTION = 16 * 2**20
PACKAGES = ("numpy", "safetensors", "SimpleITK", "timm", "torch", "zarr")
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bundle:
    """An opened bundle, whose files are whole."""

    name: str  # the data set on which it was trained
    dataset: Dataset  # of a prediction: one experiment, and Grad-CAM's
    experiment: str
    subset: int  # of the split on which it was trained
    seed: int  # of the masks
    maps: int  # how many the network sees
    files: Mapping[str, str]  # name → SHA-256 of each file of weights


def export_run(
    layout: Layout, dataset: Dataset, name: str, subset: int, seed: int, output: Path
) -> None:
    """Write the bundle of one trained experiment to `output`, a new `.zip`.

    `name` is the experiment's, or that of a repeat; its scores are those of all repeats together.

    Raises:
        PipelineError: a training is missing, or `output` is no zip's name or there already.
    """
    if output.suffix != ".zip":
        raise PipelineError(f"--output: found {output}, expected a name that ends in .zip")
    if output.exists():
        raise PipelineError(f"{output}: already there; give another name or remove it")
    experiment, repeat = configured(name), repeat_of(name)
    dataset.trained(experiment, "to export it")
    chosen = _settings(layout, dataset, experiment)
    manifests = _manifests(layout, chosen, experiment, subset)
    manifests["network.safetensors"] = layout.model(name, subset)
    split = read_json(layout.split)
    record: dict[str, Any] = {
        "format": FORMAT,
        "dataset": layout.dataset,
        "experiment": experiment,
        "subset": subset,
        **({"repeat": repeat} if repeat > 1 else {}),
        "seed": seed,
        "settings": chosen.model_dump(mode="json"),
        "split_digest": split["digest"],
        "cases": {role: len(names) for role, names in split["subsets"][str(subset)].items()},
        "parameters": read_json(layout.model(name, subset))["parameters"],
        **_scores(layout, experiment, chosen),
        "stages": {stage: stage_version(stage) for stage in STAGES},
        "packages": {package: metadata.version(package) for package in PACKAGES},
    }
    _write_zip(output, record, chosen, manifests)
    log.info("bundle: %s", output)


def _write_zip(
    output: Path, record: dict[str, Any], settings: Dataset, manifests: Mapping[str, Path]
) -> None:
    """Write weights, description and model card; `record` gets the digests of the weights."""
    make_output(output.parent)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as temporary:
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        digests = {}
        for name, manifest in manifests.items():
            shutil.copyfile(folder_of(manifest) / "model.safetensors", folder / name)
            digests[name] = file_digest(folder / name)
            if digests[name] != read_json(manifest)["weights_sha256"]:
                raise PipelineError(
                    f"model {folder_of(manifest)}: not what training wrote; train it again"
                )
        record["files"] = digests
        write_json(folder / DESCRIPTION, record)
        (folder / CARD).write_text(model_card(record, settings), "utf-8")
        zipped = folder.with_suffix(".zip")
        # deflated, weights are 8 to 9 % smaller and take 40 seconds a gigabyte
        with zipfile.ZipFile(zipped, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(folder.iterdir()):
                archive.write(file, file.name)
        zipped.rename(output)


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
        bundle = Bundle(
            # it becomes a folder of the tree: a path could lead out of it
            name=TypeAdapter(Name).validate_python(record["dataset"]),
            dataset=dataset,
            experiment=str(record["experiment"]),
            subset=TypeAdapter(Positive).validate_python(record["subset"]),
            seed=TypeAdapter(Count).validate_python(record["seed"]),
            maps=residual_count(dataset, str(record["experiment"])),
            files=dict(record["files"]),
        )
        require(bundle.subset in dataset.all_subsets, f"subset: found {bundle.subset}")
        networks = expected_networks(dataset, bundle.experiment)
    except Exception as error:  # settings that pass may still build nothing
        raise PipelineError(
            f"bundle {path}: {DESCRIPTION} is not valid ({description_fault(error)})"
        ) from error
    check_parameters(path, networks["network.safetensors"], record.get("parameters"))
    for name, network in networks.items():
        check_weights(path, name, network)
    layout = Layout(into, bundle.name)
    for name, manifest in _manifests(layout, dataset, bundle.experiment, bundle.subset).items():
        weights = folder_of(manifest) / "model.safetensors"
        weights.parent.mkdir(parents=True, exist_ok=True)
        _unpack(path, name, weights)
        if file_digest(weights) != bundle.files.get(name):
            raise PipelineError(f"bundle {path}: {name} is damaged; export or fetch it again")
        check_readable(path, name, weights)
        write_json(manifest, {"weights_sha256": bundle.files[name], "outputs": []})
    return bundle


def _settings(layout: Layout, dataset: Dataset, experiment: str) -> Dataset:
    """The settings that the experiment's predictions depend on, without any folder's name."""
    kept = {experiment: dataset.networks[experiment].model_copy(update={"repeats": 1})}
    maps = dataset.networks[experiment].residuals
    residuals = {} if maps is None else {maps: dataset.residuals[maps]}
    maes = set()
    for settings in residuals.values():
        if isinstance(settings, GradCam):
            network = dataset.networks[settings.grad_cam]
            kept[settings.grad_cam] = network.model_copy(update={"repeats": 1})
        else:
            maes |= {part.mae for part in settings.maps}
    encoders = (settings.mae_encoder for settings in kept.values())
    maes |= {encoder.mae for encoder in encoders if encoder}
    modality: str | None = dataset.source.modality
    if not modality:
        first = next(iter(read_json(layout.cases)["cases"]))
        modality = str(open_store(layout.case_store(first)).attrs["modality"])
    source = {"adapter": dataset.source.adapter, "root": "images", "modality": modality or None}
    content = dataset.model_dump(mode="json")
    content |= {
        "source": {**source, **dataset.source.model_dump(include={"channel", "tilted"})},
        "experiments": {name: _without_folders(each) for name, each in kept.items()},
        "residuals": {name: each.model_dump(mode="json") for name, each in residuals.items()},
        "mae": {
            name: {**mae.model_dump(mode="json"), "checkpoint": _name_of(mae.checkpoint)}
            for name, mae in dataset.mae.items()
            if name in maes
        },
        "evaluation": {**dataset.evaluation.model_dump(mode="json"), "baseline": None},
        "tables": {},
    }
    return Dataset.model_validate(content)


def _scores(layout: Layout, experiment: str, dataset: Dataset) -> dict[str, Any]:
    """The scores of masks made with the bundle's post-processing; None if there are none."""
    path = layout.summary(experiment)
    summary = read_json(path) if path.exists() else None
    current = dataset.postprocess.model_dump(mode="json")
    if summary is None or summary["settings"]["postprocess"] != current:
        return {"scores": None, "patients": 0, "confidence": None}
    kept = ("scores", "patients", "confidence", "repeats")
    return {name: summary[name] for name in kept if name in summary}


def _name_of(checkpoint: str | None) -> str | None:
    return Path(checkpoint).name if checkpoint else None


def _without_folders(experiment: Experiment) -> dict[str, Any]:
    names = tuple(Path(file).name for file in experiment.pretrained or ())
    return experiment.model_copy(update={"pretrained": names or None}).model_dump(mode="json")


def _manifests(layout: Layout, dataset: Dataset, experiment: str, subset: int) -> dict[str, Path]:
    """The manifest behind each file of weights."""
    files = {"network.safetensors": layout.model(experiment, subset)}
    for name in dataset.mae:
        manifest = layout.mae(mae_instance(dataset, name, subset))
        files[f"mae-{name}.safetensors"] = manifest
    for name in dataset.experiments:
        if name != experiment:
            files[f"network-{name}.safetensors"] = layout.model(name, subset)
    return files


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
    if form != FORMAT:
        raise PipelineError(f"bundle {path}: format {form}, expected {FORMAT}; export it again")
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
