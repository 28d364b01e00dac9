"""Finished models: safetensors, a record beside them, and the manifest that Snakemake sees."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.errors import PipelineError, one_line
from pipeline.networks.history import read_history
from pipeline.storage.files import file_digest, read_json, replacing, write_json
from pipeline.storage.layout import folder_of

log = logging.getLogger(__name__)


def reuse_finished(manifest: Path, wanted_fingerprint: str) -> bool:
    """Whether the model of exactly these inputs is there; then its manifest is written again."""
    record = folder_of(manifest) / "model.json"
    if not record.exists():
        return False
    content = read_json(record)
    weights = folder_of(manifest) / "model.safetensors"
    if content["fingerprint"] != wanted_fingerprint or not weights.exists():
        return False
    if file_digest(weights) != content["weights_sha256"]:
        raise PipelineError(
            f"model {weights}: its content is not what training wrote; delete its folder "
            f"{weights.parent} and run again"
        )
    write_json(manifest, content)
    log.info("%s: up to date", manifest)
    return True


def keep_model(
    network: nn.Module, manifest: Path, wanted_fingerprint: str, settings: dict[str, Any]
) -> None:
    """Write the finished model as safetensors, its record beside it, and the manifest.

    Raises:
        PipelineError: the training diverged: a weight is no finite number.
    """
    folder = folder_of(manifest)
    broken = [name for name, value in network.state_dict().items() if not _is_finite(value)]
    if broken:
        raise PipelineError(
            f"training {folder}: diverged, {len(broken)} of its weights hold numbers that are not "
            f"finite ({broken[0]}); lower learning_rate or use precision fp32, delete the folder "
            "and train again"
        )
    weights = folder / "model.safetensors"
    state = {
        name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()
    }
    with replacing(weights) as temporary:
        save_file(state, temporary)
    record = {
        "fingerprint": wanted_fingerprint,
        "weights_sha256": file_digest(weights),
        "parameters": sum(value.numel() for value in network.parameters()),
        "epochs": len(read_history(folder / "history.csv")),
        "settings": settings,
        "outputs": [f"{folder.name}/model.safetensors"],
    }
    write_json(folder / "model.json", record)
    write_json(manifest, record)


def _is_finite(value: torch.Tensor) -> bool:
    return bool(torch.isfinite(value).all())


def load_weights(network: nn.Module, manifest: Path) -> dict[str, Any]:
    """Give a network a finished model's weights, and return the model's record.

    A network on `meta`, which has none yet, gets its memory with them.

    Raises:
        PipelineError: the weights are missing, damaged, or belong to another network.
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
    """SHA-256 of a finished model's weights, as its record has it.

    Raises:
        PipelineError: there is no finished model.
    """
    return str(read_json(manifest)["weights_sha256"])
