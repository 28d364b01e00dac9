"""Opening public MAE checkpoints: files in, weights in the model, nothing unpickled."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from grcsf.mae.checkpoint import IMAGENET, load_mae_state
from grcsf.mae.model import MaskedAutoencoder
from pipeline.errors import PipelineError

log = logging.getLogger(__name__)


def load_public_mae(model: MaskedAutoencoder, path: Path) -> None:
    """Fill a one-channel MAE from a public or Hugging Face checkpoint (`.pth`, `.safetensors`).

    Three-channel weights are taken to be trained on ImageNet-normalised images, as the public ones
    are, and folded to grey exactly.

    Raises:
        PipelineError: the file is missing, damaged, or of another architecture.
    """
    try:
        load_mae_state(model, _read_state(path), normalisation=IMAGENET)
    except ValueError as error:
        raise PipelineError(f"checkpoint {path}: {error}") from error
    log.info("MAE starts from %s", path)


def _read_state(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise PipelineError(f"checkpoint {path}: not there; correct mae.checkpoint")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        reason = " ".join(str(error).split())[:200]
        raise PipelineError(
            f"checkpoint {path}: damaged, or holds more than weights ({reason}); expected a "
            "state dict saved by torch or safetensors"
        ) from error
