"""A small SAM with random weights, and its state dict under segment-anything's names."""

import re

from grcsf.models.peers import sam
from grcsf.models.peers.sam import SamSizes

# a window of 3 does not divide the grid of 4, so that maps are padded
SMALL = SamSizes(
    image_size=64,
    width=24,
    depth=2,
    heads=2,
    mlp=48,
    window=3,
    global_blocks=(1,),
    prompt_width=32,
    decoder_mlp=16,
    iou_width=8,
)

# transformers' names in order, and segment-anything's
PUBLIC = [
    (r"vision_encoder\.patch_embed\.projection", "image_encoder.patch_embed.proj"),
    (r"vision_encoder\.neck\.conv1", "image_encoder.neck.0"),
    (r"vision_encoder\.neck\.layer_norm1", "image_encoder.neck.1"),
    (r"vision_encoder\.neck\.conv2", "image_encoder.neck.2"),
    (r"vision_encoder\.neck\.layer_norm2", "image_encoder.neck.3"),
    (r"vision_encoder\.layers", "image_encoder.blocks"),
    (r"vision_encoder", "image_encoder"),
    (r"layer_norm_final_attn", "norm_final_attn"),
    (r"(blocks|layers)\.(\d)\.layer_norm", r"\1.\2.norm"),
    (r"prompt_encoder\.point_embed", "prompt_encoder.point_embeddings"),
    (r"mask_embed\.conv1", "mask_downscaling.0"),
    (r"mask_embed\.layer_norm1", "mask_downscaling.1"),
    (r"mask_embed\.conv2", "mask_downscaling.3"),
    (r"mask_embed\.layer_norm2", "mask_downscaling.4"),
    (r"mask_embed\.conv3", "mask_downscaling.6"),
    (r"upscale_conv1", "output_upscaling.0"),
    (r"upscale_layer_norm", "output_upscaling.1"),
    (r"upscale_conv2", "output_upscaling.3"),
    (r"(mlps\.\d|head)\.layers\.0", r"\1.layers.1"),
    (r"proj_in", "layers.0"),
    (r"proj_out", "layers.2"),
    (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
]


def random_sam(seed=0, sizes=SMALL):
    return sam.random_sam(seed, sizes)


def public_state(network):
    state = {}
    for name, value in network.network.state_dict().items():
        if name.startswith("shared_image_embedding"):
            continue  # the same matrix again
        for ours, public in PUBLIC:
            name = re.sub(ours, public, name)
        state[name] = value.clone()
    return state
