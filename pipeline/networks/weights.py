"""Finished models: their weights, the record beside them, and the manifest for Snakemake."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.errors import PipelineError, one_line
from pipeline.networks.history import epochs_of, read_history
from pipeline.storage.files import file_digest, read_json, replacing, write_json
from pipeline.storage.folders import folder_of

log = logging.getLogger(__name__)


def reuse_finished(manifest: Path, wanted_fingerprint: str) -> bool:
    """Write the manifest of a finished model of exactly these inputs again; False if there is none.

    Raises:
        PipelineError: its weights are not those that training wrote.
    """
    weights = folder_of(manifest) / "model.safetensors"
    if (content := finished_record(manifest, wanted_fingerprint)) is None:
        return False
    if file_digest(weights) != content["weights_sha256"]:
        raise PipelineError(
            f"model {weights}: its content is not what training wrote; delete its folder "
            f"{weights.parent} and run again"
        )
    write_json(manifest, content)
    log.info("%s: up to date", manifest)
    return True


def finished_record(manifest: Path, wanted_fingerprint: str) -> dict[str, Any] | None:
    """The record of a finished model of exactly these inputs; None if there is none."""
    record, weights = (folder_of(manifest) / f"model.{end}" for end in ("json", "safetensors"))
    content = read_json(record) if record.exists() and weights.exists() else {}
    return content if content.get("fingerprint") == wanted_fingerprint else None


def keep_model(
    network: nn.Module,
    manifest: Path,
    wanted_fingerprint: str,
    settings: dict[str, Any],
    validation: Mapping[str, float] | None = None,
) -> None:
    """Write a finished model: its weights as safetensors, its record beside them, its manifest.

    `validation` is what the record keeps of its losses, if anything.

    Raises:
        PipelineError: the training diverged, so that a weight is not finite.
    """
    folder = folder_of(manifest)
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise PipelineError(
            f"training {folder}: diverged, {len(broken)} of its weights hold numbers that are not "
            f"finite ({broken[0]}); lower learning_rate or use precision fp32, delete the folder "
            "and train again"
        )
    weights = folder / "model.safetensors"
    with replacing(weights) as temporary:
        save_file(state, temporary)
    record = {
        "fingerprint": wanted_fingerprint,
        "weights_sha256": file_digest(weights),
        "parameters": sum(value.numel() for value in network.parameters()),
        "epochs": epochs_of(read_history(folder / "history.csv")),
        "settings": settings,
        **({"validation": dict(validation)} if validation else {}),
        "outputs": [f"{folder.name}/model.safetensors"],
    }
    write_json(folder / "model.json", record)
    write_json(manifest, record)


def load_weights(network: nn.Module, manifest: Path) -> dict[str, Any]:
    """Load a finished model's weights into a network, and return the model's record.

    A network on `meta` takes the memory of the loaded weights as its own.

    Raises:
        PipelineError: the weights are missing, damaged or of another network.
    """
    record = read_json(manifest)
    path = folder_of(manifest) / "model.safetensors"
    if path.exists() and file_digest(path) != record["weights_sha256"]:
        raise PipelineError(
            f"model {path}: damaged or replaced, its content is not what training wrote; delete "
            f"{path.parent} and train again"
        )
    try:
        network.load_state_dict(load_file(path), assign=True)
    except FileNotFoundError:
        raise PipelineError(f"model {path}: not there; run its training again") from None
    except Exception as error:  # safetensors raises its own, untyped errors
        raise PipelineError(
            f"model {path}: damaged or of another network ({one_line(error)}); delete "
            f"{path.parent} and train again"
        ) from error
    return record


def weights_digest(manifest: Path) -> str:
    """SHA-256 of a finished model's weights, from its record.

    Raises:
        PipelineError: there is no finished model.
    """
    return str(read_json(manifest)["weights_sha256"])
