"""Writes the bundle of trained networks: see `bundle`, which opens it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.prediction.inputs import weights_manifest
from pipeline.settings import (
    Dataset,
    EnsembleExperiment,
    Experiment,
    GradCam,
    repeat_name,
    repeat_seed,
)
from pipeline.settings.apply.bundle import DESCRIPTION, FORMAT, OF_SEVERAL
from pipeline.settings.apply.members import Member, own_files, weight_files
from pipeline.storage.files import file_digest, make_output, read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import STAGES, Layout, stage_version
from pipeline.storage.zarr_store import open_store
from pipeline.tools.export.model_card import model_card

CARD = "MODEL_CARD.md"
PACKAGES = ("numpy", "safetensors", "SimpleITK", "timm", "torch", "zarr")
log = logging.getLogger(__name__)


def export_run(
    layout: Layout,
    dataset: Dataset,
    experiment: str,
    members: Sequence[Member],
    seed: int,
    output: Path,
) -> None:
    """Write the bundle of one or several networks of an experiment to `output`, a new `.zip`.

    Its scores are those of single networks over all repeats, or of an experiment that averages
    the repeats, if the bundle does so, too.

    Raises:
        PipelineError: a training is missing, or `output` is no zip's name or there already.
    """
    if output.suffix != ".zip":
        raise PipelineError(f"--output: found {output}, expected a name that ends in .zip")
    if output.exists():
        raise PipelineError(f"{output}: already there; give another name or remove it")
    dataset.trained(experiment, "to export it")
    chosen = _settings(layout, dataset, experiment)
    files = weight_files(chosen, experiment, members)
    manifests = {name: weights_manifest(layout, weights) for name, weights in files.items()}
    split = read_json(layout.split)
    own = own_files(files, experiment)
    described = [
        _described(split, seed, experiment, *each) for each in zip(own, members, strict=True)
    ]
    record: dict[str, Any] = {
        "format": FORMAT if len(members) == 1 else OF_SEVERAL,
        "dataset": layout.dataset,
        "experiment": experiment,
        **(_alone(described[0]) if len(members) == 1 else {"members": described}),
        "seed": seed,
        "settings": chosen.model_dump(mode="json"),
        "split_digest": split["digest"],
        "parameters": read_json(manifests[own[0]])["parameters"],
        **_scores(layout, dataset, experiment, members, chosen),
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


def _described(
    split: Mapping[str, Any], seed: int, experiment: str, file: str, member: Member
) -> dict[str, Any]:
    """What a bundle says of one of its networks."""
    cases = split["subsets"][str(member.subset)]
    return {
        **member._asdict(),
        "file": file,
        "seed": repeat_seed(seed, repeat_name(experiment, member.repeat)),
        "cases": {role: len(names) for role, names in cases.items()},
    }


def _alone(member: Mapping[str, Any]) -> dict[str, Any]:
    """The same of a bundle's only network, as it is said since before there were several."""
    kept = ("subset", "cases") if member["repeat"] == 1 else ("subset", "repeat", "cases")
    return {key: member[key] for key in kept}


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
        "external": {},
    }
    return Dataset.model_validate(content)


def _scores(
    layout: Layout, dataset: Dataset, experiment: str, members: Sequence[Member], chosen: Dataset
) -> dict[str, Any]:
    """The scores of masks made with the bundle's post-processing; None if there are none.

    Where all repeats are members, and an experiment that averages them was evaluated, its scores.
    """
    ensembles = (
        name
        for name, each in dataset.experiments.items()
        if isinstance(each, EnsembleExperiment) and each.ensemble == (experiment,)
    )
    trained = range(1, dataset.experiments[experiment].repeats + 1)
    whole = {Member(subset, repeat) for subset, _ in members for repeat in trained}
    for name in ensembles if whole == set(members) and len(members) > 1 else ():
        scores = _scores_of(layout, name, chosen)
        if scores["scores"] is not None:
            return {**scores, "scored_as": name}
    return _scores_of(layout, experiment, chosen)


def _scores_of(layout: Layout, experiment: str, dataset: Dataset) -> dict[str, Any]:
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
