"""Loads public checkpoints of MAEs, of SAM and of Table 1's networks, unpickling no code."""

from __future__ import annotations

import argparse
import json
import logging
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from grcsf.mae.checkpoint import IMAGENET, load_mae_state
from grcsf.mae.model import MaskedAutoencoder
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.build_peers import public_state
from grcsf.models.peers.sam import Sam
from grcsf.models.peers.sam_checkpoint import sam_from_state
from pipeline.errors import PipelineError, one_line
from pipeline.settings.paths import SAM_CHECKPOINTS, checkpoint_files, sam_files
from pipeline.settings.recipes.start import PRETRAINED
from pipeline.storage.files import file_digest, fingerprint

log = logging.getLogger(__name__)
PUBLIC_HEADS = 8  # of the mask decoders of all public SAMs


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


def load_public_sam(path: Path | None, key: str) -> Sam:
    """SAM with its public weights, in the format of segment-anything or of Hugging Face.

    Args:
        path: a `.pth`, or a Hugging Face folder with `config.json` and `model.safetensors`.
        key: where in the configuration it stands, for errors.

    Raises:
        PipelineError: it is not given, missing, damaged, or holds no SAM; says which file it
            takes, and from where.
    """
    weights, *descriptions = sam_files(path, key)
    try:
        heads = [_decoder_heads(_read_config(file)) for file in descriptions]
        sam = sam_from_state(_read_weights(weights), decoder_heads=(heads or [PUBLIC_HEADS])[0])
    except ValueError as error:
        fault = f"{key}: {weights}: {one_line(error)}"
        raise PipelineError(f"{fault}; expected {SAM_CHECKPOINTS}") from error
    log.info("SAM reads %s", path)
    return sam


def load_public_weights(network: nn.Module, model: str, paths: Sequence[Path], key: str) -> None:
    """Fill a network of Table 1 from files in its authors' form; what they lack stays as it is.

    Args:
        network: of this model.
        model: its name in the configuration.
        paths: of the files, each of which fills its part; see `PRETRAINED`.
        key: where in the configuration they stand, for errors.

    Raises:
        PipelineError: one is damaged, of another network, or fills what another one has filled;
            says which are taken, and from where.
    """
    origins: dict[str, Path] = {}
    for path in paths:
        own = network.state_dict()
        try:
            state = public_state(model, cast(SegmentationNetwork, network), _read_weights(path))
            # what stays as it is shares the network's memory
            filled = [name for name in state if state[name].data_ptr() != own[name].data_ptr()]
            if twice := [name for name in filled if name in origins]:
                expected = f"as {origins[twice[0]]} does, expected a branch of its own for each"
                raise ValueError(f"fills {twice[0]}, {expected}")
        except ValueError as error:
            fault = f"{key}: {path}: {one_line(error)}"
            raise PipelineError(f"{fault}; it takes {PRETRAINED[model]}") from error
        network.load_state_dict(state)
        origins |= dict.fromkeys(filled, path)
        log.info("%s starts from %s", model, path)


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


def _read_weights(path: Path) -> dict[str, Any]:
    """A file of weights, whose tensors stay in the file where they can, not twice in memory.

    Raises:
        ValueError: the file is damaged, or holds more than weights.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        mapped = zipfile.is_zipfile(path)  # torch before 1.6 wrote files that cannot be mapped
        return dict(torch.load(path, map_location="cpu", weights_only=True, mmap=mapped))
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        fault = f"damaged, or holds more than weights ({one_line(error)[:80]})"
        raise ValueError(fault) from error


def _decoder_heads(config: Mapping[str, Any]) -> int:
    """The mask decoder's attention heads; all other sizes are the weights' own.

    Raises:
        ValueError: the folder holds another model, or one that computes otherwise.
    """
    vision = config.get("vision_config") or {}
    decoder = config.get("mask_decoder_config") or {}
    if not isinstance(vision, dict) or not isinstance(decoder, dict):
        raise ValueError("config.json: its parts are no mappings")
    heads = decoder.get("num_attention_heads", PUBLIC_HEADS)
    found = {
        "model_type": (config.get("model_type"), "sam"),
        "vision_config.hidden_act": (vision.get("hidden_act", "gelu"), "gelu"),
        "mask_decoder_config.hidden_act": (decoder.get("hidden_act", "relu"), "relu"),
    }
    for name, (value, expected) in found.items():
        if value != expected:
            raise ValueError(f"config.json: {name} is {value!r}, SAM's is {expected!r}")
    if type(heads) is not int or heads < 1:
        raise ValueError(f"config.json: mask_decoder_config.num_attention_heads is {heads!r}")
    return heads


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
