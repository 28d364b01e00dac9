"""Loads public MAE checkpoints into a model, without unpickling code."""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from grcsf.mae.checkpoint import IMAGENET, load_mae_state
from grcsf.mae.model import MaskedAutoencoder
from pipeline.errors import PipelineError, one_line
from pipeline.settings.paths import checkpoint_files
from pipeline.storage.files import file_digest, fingerprint

log = logging.getLogger(__name__)


def load_public_mae(model: MaskedAutoencoder, path: Path) -> None:
    """Fill a one-channel MAE from a checkpoint in the format of the public MAE or Hugging Face.

    Three-channel weights count as trained on ImageNet-normalised images, as the public ones are;
    folding them to grey is exact. `path` is a `.pth`, `.bin` or `.safetensors`, or a Hugging Face
    folder with `config.json`.

    Raises:
        PipelineError: it is missing, damaged, of another architecture, or has `norm_pix_loss`.
    """
    weights, *descriptions = checkpoint_files(path)
    for file in descriptions:
        config = _read_config(file)
        _check_targets(config, file)
        _check_shape(config, model, file)
    try:
        load_mae_state(model, _read_state(weights), normalisation=IMAGENET)
    except ValueError as error:
        raise PipelineError(f"checkpoint {weights}: {error}") from error
    log.info("MAE starts from %s", path)


def checkpoint_digest(path: Path) -> str:
    """SHA-256 of a checkpoint's content; it changes with any of its files, but not their names.

    Raises:
        PipelineError: see `checkpoint_files`.
    """
    return fingerprint({"files": [file_digest(file) for file in checkpoint_files(path)]})


def _check_shape(config: Mapping[str, Any], model: MaskedAutoencoder, path: Path) -> None:
    """Refuse other heads, activations or biases, which weights fit but which compute otherwise."""
    expected = {
        "num_attention_heads": model.shape.heads,
        "decoder_num_attention_heads": model.shape.decoder_heads,
        "hidden_act": "gelu",
        "qkv_bias": True,
    }
    for key, value in expected.items():
        if config.get(key, value) != value:
            raise PipelineError(
                f"checkpoint {path}: {key} is {config[key]!r}, the MAE's is {value!r}; choose "
                "the preset that it was trained with, or another checkpoint"
            )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        # the public training script saves its arguments beside the weights; a Namespace is data
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise PipelineError(
            f"checkpoint {path}: damaged, or holds more than weights ({one_line(error)}); "
            "expected a state dict saved by torch or safetensors"
        ) from error
    if isinstance(content.get("args"), argparse.Namespace):
        _check_targets(vars(content["args"]), path)
    return content


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise PipelineError(
            f"checkpoint {path}: no readable JSON ({error}); fetch the folder again"
        ) from error


def _check_targets(config: Mapping[str, Any], path: Path) -> None:
    """Refuse a model trained on normalised patches, whose outputs are not intensities."""
    if config.get("norm_pix_loss"):
        raise PipelineError(
            f"checkpoint {path}: trained with norm_pix_loss, so that its outputs are no "
            "intensities and give no residuals; expected one trained on pixels, such as the public "
            "visualisation checkpoints"
        )
