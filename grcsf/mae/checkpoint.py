"""State dicts of masked autoencoders: unwrap, rename, fold to one channel, check, load.

Other rooms open files; a state dict here is a mapping of names to tensors.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from grcsf.mae.model import MaskedAutoencoder

StateDict = dict[str, Tensor]
SHOWN = 3
WHOLE_NUMBERS = ("num_batches_tracked", "relative_position_index")
"""Ends of the names whose values are counts and indices; all others are weights."""


class Normalisation(NamedTuple):
    """Normalisation of a 3-channel model's images: (image - mean) / std per channel."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = Normalisation((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
UNNORMALISED = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

_HF_WHOLE = {
    "vit.embeddings.cls_token": "cls_token",
    "vit.embeddings.position_embeddings": "pos_embed",
    "vit.embeddings.patch_embeddings.projection": "patch_embed.proj",
    "vit.layernorm": "norm",
    "decoder.mask_token": "mask_token",
    "decoder.decoder_pos_embed": "decoder_pos_embed",
    "decoder.decoder_embed": "decoder_embed",
    "decoder.decoder_norm": "decoder_norm",
    "decoder.decoder_pred": "decoder_pred",
}
_HF_STACKS = {"blocks": "vit.layers", "decoder_blocks": "decoder.decoder_layers"}
_HF_PARTS = {
    "layernorm_before": "norm1",
    "attention.q_proj": "attn.q",
    "attention.k_proj": "attn.k",
    "attention.v_proj": "attn.v",
    "attention.o_proj": "attn.proj",
    "layernorm_after": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
# Names in files that transformers before 5 writes, and 5 too for its own `from_pretrained`. A name
# that contains another one comes first.
_HF_BEFORE_5 = {
    "decoder.decoder_encoder.layer.": "decoder.decoder_layers.",
    "vit.encoder.layer.": "vit.layers.",
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attention.o_proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def load_mae_state(
    model: MaskedAutoencoder, checkpoint: Mapping[str, Any], *, normalisation: Normalisation
) -> None:
    """Load a public, a Hugging Face or one of our own state dicts into a model.

    A 3-channel state is folded exactly when the model has 1 channel; nothing else is adapted.

    Args:
        model: the model, changed in place.
        checkpoint: a state dict, or one wrapped as `{"model": …}`.
        normalisation: of a 3-channel state's training images; a 1-channel state ignores it. A
            state trained on per-patch normalised targets (`norm_pix_loss`) looks the same, but its
            outputs are no intensities.

    Raises:
        ValueError: no state dict, or keys missing, unexpected or mis-shaped, in one line.
    """
    state = unwrap(checkpoint)
    if "vit.embeddings.cls_token" in state:
        state = from_hugging_face(state)
    if model.in_channels == 1 and _channels(state) == 3:
        state = fold_to_grey(state, normalisation)
    check_state_dict(model, state)
    model.load_state_dict(state)


def unwrap(checkpoint: Mapping[str, Any]) -> StateDict:
    """The state dict itself in float32, out of a `{"model": …}` wrapper if there is one.

    Raises:
        ValueError: neither is a mapping of names to dense tensors of floating-point values.
    """
    state = checkpoint.get("model", checkpoint)
    if not isinstance(state, Mapping) or not state:
        raise ValueError(f"checkpoint holds no state dict but {type(state).__name__}")
    for key, value in state.items():
        if fault := _entry_fault(key, value):
            raise ValueError(f"checkpoint entry {key!r} is {fault}")
    return {
        key: value.float() if value.is_floating_point() else value for key, value in state.items()
    }


def _entry_fault(key: Any, value: Any) -> str:
    """Why an entry is no network's, or ""."""
    if not isinstance(key, str):
        return f"named by {type(key).__name__}, not by text"
    if not isinstance(value, Tensor):
        return f"{type(value).__name__}, not a tensor"
    if value.is_meta or value.layout != torch.strided:
        return f"{'without values' if value.is_meta else 'sparse'}, expected a dense tensor"
    if value.is_floating_point() or (value.dtype == torch.int64 and key.endswith(WHOLE_NUMBERS)):
        return ""
    return f"of {value.dtype}, expected floating-point values"


def fold_to_grey(state: StateDict, normalisation: Normalisation) -> StateDict:
    """Fold a 3-channel state to one channel, exactly, for grey images in [0, 1].

    A grey image shown to a 3-channel model is repeated and normalised; both are linear, so they
    fold into the patch embedding. The prediction becomes the channels' mean, de-normalised.

    Args:
        state: public key names, 3 channels.
        normalisation: of the model's training images.

    Returns:
        A state dict for `in_channels=1`; other entries are shared, not copied.

    Raises:
        ValueError: the state has not 3 channels, or its prediction does not match them.
    """
    if _channels(state) != 3:
        raise ValueError(f"state has {_channels(state)} input channels, expected 3 to fold")
    missing = [key for key in _FOLDED if key not in state]
    if missing:
        raise ValueError(f"cannot fold to one channel without {', '.join(missing)}")
    weight = state["patch_embed.proj.weight"]  # (D, 3, p, p)
    head = state["decoder_pred.weight"]  # (p·p·3, D')
    values = 3 * weight.shape[2:].numel()
    forms = [tuple(state[key].shape) for key in _FOLDED[1:]]
    if forms != [(len(weight),), (values, *head.shape[1:2]), (values,)] or not head.numel():
        raise ValueError(
            f"{', '.join(_FOLDED[1:])} have the shapes {forms}, which do not fit patches "
            f"of {tuple(weight.shape[2:])} pixels, expected {len(weight)}, {values} and {values}"
        )
    # In float64, because the sums cancel and the fold must not lose precision.
    mean = torch.tensor(normalisation.mean, dtype=torch.float64, device=weight.device)
    std = torch.tensor(normalisation.std, dtype=torch.float64, device=weight.device)

    scaled = weight.double() / std[:, None, None]
    offset = (scaled * mean[:, None, None]).sum(dim=(1, 2, 3))
    head_weight = head.double().reshape(-1, 3, head.shape[1]) * std[:, None]  # (p·p, 3, D')
    head_bias = state["decoder_pred.bias"].double().reshape(-1, 3) * std + mean
    folded = {
        "patch_embed.proj.weight": scaled.sum(dim=1, keepdim=True),
        "patch_embed.proj.bias": state["patch_embed.proj.bias"].double() - offset,
        "decoder_pred.weight": head_weight.mean(dim=1),
        "decoder_pred.bias": head_bias.mean(dim=1),
    }
    return state | {key: value.to(state[key].dtype) for key, value in folded.items()}


def check_state_dict(
    model: nn.Module, state: Mapping[str, Tensor], called: str = "the MAE"
) -> None:
    """Refuse a state dict that does not fit the model, before anything is loaded.

    Args:
        model: the model that the state must fit.
        state: the model's key names; of an MAE these are the public ones.
        called: the model's name in the error.

    Raises:
        ValueError: one line with the count and the first of the missing, unexpected, mis-shaped
            and non-finite entries.
    """
    wanted = model.state_dict()
    shared = [key for key in wanted if key in state]
    faults = {
        "missing": [key for key in wanted if key not in state],
        "unexpected": [key for key in state if key not in wanted],
        "mis-shaped": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(wanted[key].shape)}"
            for key in shared
            if state[key].shape != wanted[key].shape
        ],
        "not finite": [key for key in shared if not bool(torch.isfinite(state[key]).all())],
    }
    counts = [f"{len(keys)} {fault} ({_first(keys)})" for fault, keys in faults.items() if keys]
    if counts:
        raise ValueError(f"checkpoint does not fit {called}: " + "; ".join(counts))


def from_hugging_face(state: Mapping[str, Tensor]) -> StateDict:
    """Rename a `ViTMAEForPreTraining` state dict to the public names, q, k, v joined.

    Reads the names of transformers 5 and of files written before it. Unknown names stay as they
    are, for `check_state_dict` to report.

    Args:
        state: Hugging Face's names.

    Returns:
        The public MAE's names.
    """
    renamed = {_public_name(key): value for key, value in state.items()}
    joined: StateDict = {}
    for key, value in renamed.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])\.(weight|bias)", key)
        if match is None:
            joined[key] = value
            continue
        stem, _, kind = match.groups()
        parts = [f"{stem}{name}.{kind}" for name in "qkv"]
        if can_join(renamed, parts):
            joined[f"{stem}qkv.{kind}"] = torch.cat([renamed[part] for part in parts])
        else:
            joined[key] = value
    return joined


def can_join(state: Mapping[str, Tensor], parts: Collection[str]) -> bool:
    """Whether these queries, keys and values are all there, in one shape."""
    shapes = {state[part].shape if part in state else () for part in parts}
    return len(shapes) == 1 and () not in shapes


def to_hugging_face(state: Mapping[str, Tensor]) -> StateDict:
    """Rename a public state dict to `ViTMAEForPreTraining`'s names, q, k, v apart.

    Args:
        state: the public MAE's names.

    Returns:
        Hugging Face's names (transformers 5).
    """
    split: StateDict = {}
    for key, value in state.items():
        if ".attn.qkv." in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                split[key.replace(".qkv.", f".{name}.")] = part.clone()
        else:
            split[key] = value
    return {_hugging_face_name(key): value for key, value in split.items()}


def _public_name(key: str) -> str:
    for before, now in _HF_BEFORE_5.items():
        key = key.replace(before, now)
    for stem, public in _HF_WHOLE.items():
        if key == stem or key.startswith(f"{stem}."):
            return public + key.removeprefix(stem)
    for stack, stem in _HF_STACKS.items():
        match = re.fullmatch(rf"{re.escape(stem)}\.(\d+)\.(.+)\.(weight|bias)", key)
        if match and match[2] in _HF_PARTS:
            return f"{stack}.{match[1]}.{_HF_PARTS[match[2]]}.{match[3]}"
    return key


def _hugging_face_name(key: str) -> str:
    for stem, public in _HF_WHOLE.items():
        if key == public or key.startswith(f"{public}."):
            return stem + key.removeprefix(public)
    stack, index, rest = key.split(".", 2)
    part, kind = rest.rsplit(".", 1)
    stems = {public: stem for stem, public in _HF_PARTS.items()}
    return f"{_HF_STACKS[stack]}.{index}.{stems[part]}.{kind}"


_FOLDED = (
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "decoder_pred.weight",
    "decoder_pred.bias",
)


def _channels(state: Mapping[str, Tensor]) -> int | None:
    weight = state.get("patch_embed.proj.weight")
    return weight.shape[1] if weight is not None and weight.ndim == 4 else None


def _first(keys: list[str]) -> str:
    rest = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
