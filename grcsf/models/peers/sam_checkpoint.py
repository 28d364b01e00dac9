"""State dicts of SAM: renamed, measured, checked, loaded.

Other rooms open files; a state dict here is a mapping of names to tensors, under the names of
segment-anything's own files or of transformers' `SamModel`.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from grcsf.mae.checkpoint import StateDict, check_state_dict, unwrap
from grcsf.models.peers.sam import Sam, SamSizes

# One matrix encodes the positions of patches and of boxes; transformers has it at both places.
_PUBLIC_POSITIONS = "prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"
_POSITIONS = (
    "shared_image_embedding.positional_embedding",
    "prompt_encoder.shared_embedding.positional_embedding",
)

# Parts that segment-anything numbers and transformers names; `-` has no weights.
_NUMBERED = {
    r"image_encoder\.neck": ("vision_encoder.neck", "conv1 layer_norm1 conv2 layer_norm2"),
    r"prompt_encoder\.mask_downscaling": (
        "prompt_encoder.mask_embed",
        "conv1 layer_norm1 - conv2 layer_norm2 - conv3",
    ),
    r"mask_decoder\.output_upscaling": (
        "mask_decoder",
        "upscale_conv1 upscale_layer_norm - upscale_conv2",
    ),
    r"mask_decoder\.(output_hypernetworks_mlps\.\d+|iou_prediction_head)\.layers": (
        r"mask_decoder.\1",
        "proj_in layers.0 proj_out",
    ),
}
# Patterns, each applied in turn; a name that none of them meets is the same in both.
_RENAMED = {
    r"image_encoder\.pos_embed": "vision_encoder.pos_embed",
    r"image_encoder\.patch_embed\.proj\.": "vision_encoder.patch_embed.projection.",
    r"image_encoder\.blocks\.(\d+)\.norm": r"vision_encoder.layers.\1.layer_norm",
    r"image_encoder\.blocks\.": "vision_encoder.layers.",
    r"prompt_encoder\.point_embeddings\.": "prompt_encoder.point_embed.",
    r"(mask_decoder\.transformer\.layers\.\d+)\.norm": r"\1.layer_norm",
    r"mask_decoder\.transformer\.norm_final": "mask_decoder.transformer.layer_norm_final",
} | {
    rf"{stem}\.{number}\.": f"{new_stem}.{part}."
    for stem, (new_stem, parts) in _NUMBERED.items()
    for number, part in enumerate(parts.split())
}


def sam_from_state(checkpoint: Mapping[str, Any], *, decoder_heads: int = 8) -> Sam:
    """The SAM whose weights these are; the shapes tell its sizes.

    Args:
        checkpoint: a state dict under either naming. Its tensors are taken over, not copied.
        decoder_heads: attention heads of the mask decoder, which no shape tells.

    Raises:
        ValueError: entries missing, unexpected, mis-shaped or not finite, in one line.
    """
    state = unwrap(checkpoint)
    if any(name.startswith("image_encoder.") for name in state):
        state = to_transformers(state)
    else:
        state = _with_both_positions(state)
    sizes = sam_sizes(state, decoder_heads=decoder_heads)
    with torch.device("meta"):  # 2.6 GB of weights that nobody wants to have drawn
        sam = Sam(sizes)
    check_state_dict(sam.network, state, "SAM")
    sam.network.load_state_dict(state, assign=True)
    sam.network.tie_weights()
    return sam.requires_grad_(False)


def to_transformers(state: Mapping[str, Tensor]) -> StateDict:
    """Rename segment-anything's state dict to `SamModel`'s names.

    Unknown names stay as they are, for `sam_from_state` to report.
    """
    renamed = {_renamed(name): value for name, value in state.items() if name != _PUBLIC_POSITIONS}
    if _PUBLIC_POSITIONS in state:
        renamed |= dict.fromkeys(_POSITIONS, state[_PUBLIC_POSITIONS])
    return renamed


def sam_sizes(state: Mapping[str, Tensor], *, decoder_heads: int = 8) -> SamSizes:
    """The sizes that a state dict under transformers' names tells by its shapes.

    Raises:
        ValueError: an entry that tells one is missing, or has not its form.
    """
    grid, width = _shape(state, "vision_encoder.pos_embed", 4)[2:]
    patch = _shape(state, "vision_encoder.patch_embed.projection.weight", 4)[-1]
    depth = _layers(state, "vision_encoder.layers")
    # relative positions inside a window of n patches: 2n - 1 differences, each of a head's width
    tables = [_shape(state, f"vision_encoder.layers.{n}.attn.rel_pos_h", 2) for n in range(depth)]
    fields = [(differences + 1) // 2 for differences, _ in tables]
    if not fields or not tables[0][1]:
        raise ValueError("no weights of SAM: vision_encoder.layers.0.attn.rel_pos_h is empty")
    windows = [field for field in fields if field != grid]
    decoder = "mask_decoder.transformer.layers"
    sizes = SamSizes(
        image_size=grid * patch,
        patch_size=patch,
        width=width,
        depth=depth,
        heads=width // tables[0][1],
        mlp=_shape(state, "vision_encoder.layers.0.mlp.lin1.weight", 2)[0],
        window=windows[0] if windows else grid,
        global_blocks=tuple(n for n, field in enumerate(fields) if field == grid),
        prompt_width=_shape(state, "vision_encoder.neck.conv1.weight", 4)[0],
        mask_channels=_shape(state, "prompt_encoder.mask_embed.conv2.weight", 4)[0],
        decoder_depth=_layers(state, decoder),
        decoder_heads=decoder_heads,
        decoder_mlp=_shape(state, f"{decoder}.0.mlp.lin1.weight", 2)[0],
        iou_width=_shape(state, "mask_decoder.iou_prediction_head.proj_in.weight", 2)[0],
    )
    if nothing := [name for name, size in sizes._asdict().items() if size == 0]:
        raise ValueError(f"no weights of SAM: its shapes tell {', '.join(nothing)} of 0")
    return sizes


def _renamed(name: str) -> str:
    for pattern, replacement in _RENAMED.items():
        name = re.sub(f"^{pattern}", replacement, name)
    return name


def _with_both_positions(state: Mapping[str, Tensor]) -> StateDict:
    """Files keep the matrix once or twice, at either place."""
    given = [state[name] for name in _POSITIONS if name in state]
    if len(given) == 2 and not torch.equal(*given):
        raise ValueError(
            f"no weights of SAM: {' and '.join(_POSITIONS)} differ, expected one matrix"
        )
    return dict.fromkeys(_POSITIONS, given[0]) | dict(state) if given else dict(state)


def _shape(state: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in state:
        raise ValueError(f"no weights of SAM: {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != axes:
        raise ValueError(f"no weights of SAM: {name} is {shape}, expected {axes} axes")
    return shape


def _layers(state: Mapping[str, Tensor], stem: str) -> int:
    """How many layers a stack has: one more than its last index."""
    found = (re.match(rf"{re.escape(stem)}\.(\d+)\.", name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)
