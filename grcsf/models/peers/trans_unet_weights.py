"""Published weights for a TransUnet: its own, and two of its encoder's."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from grcsf.mae.checkpoint import can_join, unwrap
from grcsf.models.peers.public_weights import filled, on_grid
from grcsf.models.peers.renaming import renamed
from grcsf.models.peers.slices import COLOURS
from grcsf.models.peers.trans_unet import TransUnet

_PUBLISHED = (  # the whole network; its bottlenecks count from 1 and `_counted_from_0` was there
    (r"^transformer\.embeddings\.hybrid_model\.root\.gn", "resnet.stem.norm"),
    (r"^transformer\.embeddings\.hybrid_model\.root", "resnet.stem"),
    (r"^transformer\.embeddings\.hybrid_model\.body\.block(\d+)\.unit", r"resnet.stages.\1."),
    (r"\.gn(\d)\.", r".norm\1."),
    (r"\.downsample\.", ".downsample.conv."),
    (r"\.gn_proj\.", ".downsample.norm."),
    (r"^transformer\.embeddings\.patch_embeddings", "patch_embed"),
    (r"^transformer\.embeddings\.position_embeddings", "pos_embed"),
    (r"^transformer\.encoder\.layer", "blocks"),
    (r"^transformer\.encoder\.encoder_norm", "norm"),
    (r"\.attention_norm\.", ".norm1."),
    (r"\.ffn_norm\.", ".norm2."),
    (r"\.attn\.out\.", ".attn.proj."),
    (r"\.ffn\.", ".mlp."),
    (r"^decoder\.conv_more", "decoder.first"),
    (r"^(decoder\.blocks\.\d+)\.conv1\.", r"\1."),
    (r"^(decoder\.blocks\.\d+)\.conv2\.0", r"\1.3"),
    (r"^(decoder\.blocks\.\d+)\.conv2\.1", r"\1.4"),
    (r"^segmentation_head\.0", "head"),
)
_ARRAYS = (  # the NumPy archive R50+ViT-B_16.npz
    (r"/", "."),
    (r"\.(kernel|scale)$", ".weight"),
    (r"^conv_root", "resnet.stem.conv"),
    (r"^gn_root", "resnet.stem.norm"),
    (r"^block(\d+)\.unit", r"resnet.stages.\1."),
    (r"\.gn(\d)\.", r".norm\1."),
    (r"\.conv_proj\.", ".downsample.conv."),
    (r"\.gn_proj\.", ".downsample.norm."),
    (r"^embedding", "patch_embed"),
    (r"^Transformer\.posembed_input\.pos_embedding", "pos_embed"),
    (r"^Transformer\.encoderblock_", "blocks."),
    (r"^Transformer\.encoder_norm", "norm"),
    (r"\.LayerNorm_0\.", ".norm1."),
    (r"\.LayerNorm_2\.", ".norm2."),
    (r"\.MultiHeadDotProductAttention_1\.", ".attn."),
    (r"\.attn\.out\.", ".attn.proj."),
    (r"\.MlpBlock_3\.Dense_0\.", ".mlp.fc1."),
    (r"\.MlpBlock_3\.Dense_1\.", ".mlp.fc2."),
)
_TIMM = (  # vit_base_r50_s16_224
    (r"^patch_embed\.backbone\.", "resnet."),
    (r"^(resnet\.stages\.\d+)\.blocks\.", r"\1."),
    (r"^patch_embed\.proj\.", "patch_embed."),
)
_CLASSIFIER = re.compile(r"(cls|cls_token|(head|pre_logits)\..*)$")


def reference_state(network: TransUnet, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """Published weights as a state dict of a network; the network stays as it is.

    Args:
        network: which is to have them.
        public: of a whole TransUnet; or of its encoder, trained on ImageNet-21k, as the arrays of
            `R50+ViT-B_16.npz` or as timm's `vit_base_r50_s16_224`; what these do not have keeps
            the network's own values.

    Returns:
        A complete state dict; positions of another grid are resized.

    Raises:
        ValueError: if entries are missing, unexpected, mis-shaped or not finite, in one line.
    """
    own = network.state_dict()
    state = unwrap(public)
    if "conv_root/kernel" in state:
        arrays = {key: _from_array(key, value) for key, value in state.items()}
        state = renamed(_counted_from_0(arrays), _ARRAYS)
    else:
        if any(key.startswith("transformer.") for key in state):
            state = renamed(_counted_from_0(state), _PUBLISHED)
            return filled(own, _fitted(state, network), network="TransUnet")
        state = renamed(state, _TIMM)
    state = {key: value for key, value in state.items() if not _CLASSIFIER.match(key)}
    if "pos_embed" in state and state["pos_embed"].ndim == 3:
        state["pos_embed"] = state["pos_embed"][:, 1:]  # the first is the class token's
    kept = ("decoder.", "head.")
    return filled(own, _fitted(state, network), network="TransUnet's encoder", kept=kept)


def _counted_from_0(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of stages and bottlenecks, `block1` and `unit1`, as `block0` and `unit0`."""
    return {
        re.sub(r"\b(block|unit)(\d+)", lambda match: f"{match[1]}{int(match[2]) - 1}", key): value
        for key, value in state.items()
    }


def _from_array(key: str, array: Tensor) -> Tensor:
    """Inputs come first in the archive, and heads and norms have axes of their own."""
    if not key.endswith("/kernel"):
        return array if key.endswith("pos_embedding") else array.flatten()
    if array.ndim < 2:
        return array  # no kernel, for `filled` to report
    if array.ndim == 4:
        return array.permute(3, 2, 0, 1)  # (h, w, inputs, outputs)
    if key.endswith("/out/kernel") and array.ndim == 3:
        array = array.flatten(0, 1)  # (heads, d, outputs)
    return array.flatten(1).T  # (inputs, heads, d), or without heads


def _fitted(state: Mapping[str, Tensor], network: TransUnet) -> dict[str, Tensor]:
    """The state for our joined queries, keys and values, our input channels and our grid."""
    fitted = dict(state)
    for key in [key for key in state if ".attn.query." in key]:
        parts = [key.replace("query", part) for part in ("query", "key", "value")]
        if can_join(fitted, parts):
            joined = torch.cat([fitted.pop(part) for part in parts])
            fitted[key.replace("query", "qkv")] = joined
    stem, positions = fitted.get("resnet.stem.conv.weight"), fitted.get("pos_embed")
    if stem is not None and stem.ndim == 4 and stem.shape[1] == COLOURS:
        # Filters are standardised as wholes, so random channels would change the published ones.
        # Their mean is what becomes zero.
        mean = stem.mean(dim=(1, 2, 3), keepdim=True)
        mean = mean.expand(-1, network.further_inputs, *stem.shape[2:])
        fitted["resnet.stem.conv.weight"] = torch.cat([stem, mean], dim=1)
    if positions is not None:
        fitted["pos_embed"] = on_grid(positions, network.grid)
    return fitted
