"""SAM, zero-shot (Table 1): segments a slice inside boxes that another network's mask gives.

Kirillov et al. 2023. The network is transformers' `SamModel`; boxes and images are made ready for
it here, as its authors do it. `sam_checkpoint` fills it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from grcsf.autocast import without_autocast
from grcsf.transfer import send

if TYPE_CHECKING:
    from transformers import SamConfig

Boxes = Literal["component", "slice"]

# Of the RGB images that SAM was trained on, in their 256 grey levels.
MEAN = (123.675, 116.28, 103.53)
DEVIATION = (58.395, 57.12, 57.375)
DECODER_EPSILON = 1e-5  # as published; transformers' own default is 1e-6
NO_LESION = -1e4  # the logit of a slice without boxes: its probability is exactly 0
BOXES_A_PASS = 16  # bounds the decoder's memory, about 50 MB a box


class SamSizes(NamedTuple):
    """Sizes of a SAM; as they stand, those of ViT-H. `window` is in patches."""

    image_size: int = 1024
    patch_size: int = 16
    width: int = 1280
    depth: int = 32
    heads: int = 16
    mlp: int = 5120
    window: int = 14
    global_blocks: tuple[int, ...] = (7, 15, 23, 31)
    prompt_width: int = 256
    mask_channels: int = 16
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp: int = 2048
    iou_width: int = 256


SMALL = SamSizes(
    image_size=128,
    width=48,
    depth=2,
    heads=2,
    mlp=96,
    window=3,  # of a grid of 8, so that maps are padded, as SAM's are
    global_blocks=(1,),
    prompt_width=32,
    decoder_mlp=32,
    iou_width=16,
)


def random_sam(seed: int, sizes: SamSizes = SMALL) -> Sam:
    """A SAM that knows nothing, for trials: its weights are drawn from this seed."""
    torch.manual_seed(seed)
    sam = Sam(sizes)
    for value in sam.parameters():
        value.normal_(std=0.3)  # transformers starts positions and biases at 0
    return sam


class Sam(nn.Module):
    """transformers' `SamModel`, given slices and boxes. Nothing of it is trained.

    The image encoder runs in the precision of autocast. All else stays in float32, which costs
    little: in bfloat16 a corner would be off by several pixels.
    """

    def __init__(self, sizes: SamSizes | None = None) -> None:
        # Imported here: transformers takes seconds to import, and nothing else needs it.
        from transformers import SamModel

        super().__init__()
        self.sizes = sizes or SamSizes()
        self.network = SamModel(_configuration(self.sizes))
        self.requires_grad_(False).eval()

    def forward(self, images: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """Segment each slice inside its boxes.

        Args:
            images: (B, 1, h, w) float, in [0, 1].
            boxes: for each slice (k, 4), as `prompt_boxes` makes them; k may be 0.

        Returns:
            (B, 1, h, w) float32: logits; lesion where > 0 for any box.

        Raises:
            ValueError: images or boxes of another shape or range.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"images are {tuple(images.shape)}, expected (B, 1, h, w)")
        if len(boxes) != len(images):
            raise ValueError(f"boxes of {len(boxes)} slices, expected of {len(images)}")
        logits = [self.segment(*pair) for pair in zip(images[:, 0], boxes, strict=True)]
        return torch.stack(logits)[:, None]

    def segment(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The union of the boxes' masks, as the maximum of their logits: (h, w), (k, 4) → (h, w).

        Without boxes there is no lesion, and the encoder is not run.
        """
        if boxes.ndim != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes are {tuple(boxes.shape)}, expected (k, 4)")
        height, width = image.shape
        if not len(boxes):
            return torch.full((height, width), NO_LESION, device=image.device)
        embedding = self.embed(image)
        union = torch.full((height, width), -torch.inf, device=embedding.device)
        for start in range(0, len(boxes), BOXES_A_PASS):
            part = boxes[start : start + BOXES_A_PASS]
            logits = self.box_logits(embedding, part, (height, width))
            union = torch.maximum(union, logits.amax(0))
        return union

    def embed(self, image: Tensor) -> Tensor:
        """What the encoder makes of one slice: (h, w) in [0, 1] → (1, C, s/p, s/p) float32."""
        parameter = next(self.parameters())
        pixels = send(prepare_image(image.cpu(), self.sizes.image_size), parameter.device)
        embedding: Tensor = self.network.get_image_embeddings(pixels)
        return embedding.float()

    @torch.no_grad()
    def box_logits(self, embedding: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
        """The logits of each box: (1, C, s/p, s/p), (k, 4) → (k, h, w)."""
        with without_autocast(embedding):
            low, _ = self.decode(embedding, boxes, size)
            return restore_size(low, size, self.sizes.image_size)

    def decode(
        self, embedding: Tensor, boxes: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """The decoder's low-resolution logits (k, 4·s/p, 4·s/p) and predicted IoU (k,).

        Of the masks that it can give, the one that its authors advise for a box.
        """
        corners = scale_boxes(boxes.to(embedding), size, self.sizes.image_size)[None]
        decoded = self.network(
            image_embeddings=embedding, input_boxes=corners, multimask_output=False
        )
        return decoded.pred_masks[0, :, 0], decoded.iou_scores[0, :, 0]


def prompt_boxes(mask: npt.NDArray[np.bool_], boxes: Boxes = "component") -> Tensor:
    """The boxes round a slice's lesions, without margin.

    Args:
        mask: (h, w) bool, 1 = lesion, as another network predicts it.
        boxes: `component`: one round each 8-connected component, in scan order; `slice`: one
            round all of them.

    Returns:
        (k, 4) float32: smallest x, smallest y, largest x, largest y, of pixels inside; k = 0
        without lesion.

    Raises:
        ValueError: the mask is not (h, w) bool, or there are no such boxes.
    """
    from scipy import ndimage  # of those who load public weights, few need it

    if mask.ndim != 2 or mask.dtype != np.bool_:
        raise ValueError(f"a mask is {mask.shape} {mask.dtype}, expected (h, w) bool")
    if boxes == "component":
        components, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    elif boxes == "slice":
        components = mask.astype(np.int32)
    else:
        raise ValueError(f"boxes are {boxes!r}, expected component or slice")
    corners = [
        (columns.start, rows.start, columns.stop - 1, rows.stop - 1)
        for rows, columns in ndimage.find_objects(components)
    ]
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def resized(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of a slice whose longer side becomes `side`."""
    scale = side / max(size)
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def resize_image(image: Tensor, side: int) -> npt.NDArray[np.uint8]:
    """A slice in 256 grey levels, its longer side resized: (h, w) in [0, 1] → (h', w').

    Raises:
        ValueError: the slice is not (h, w), or leaves [0, 1].
    """
    if image.ndim != 2:
        raise ValueError(f"a slice is {tuple(image.shape)}, expected (h, w)")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # so is nan refused
        raise ValueError(f"a slice has values in [{low:g}, {high:g}], expected [0, 1]")
    grey = (image.float() * 255).round().to(torch.uint8).numpy()
    height, width = resized((grey.shape[0], grey.shape[1]), side)
    # All three channels are the slice, so one is resized. PIL's filter widens where it shrinks.
    return np.asarray(Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR))


def prepare_image(image: Tensor, side: int) -> Tensor:
    """A slice as the encoder takes it: (h, w) in [0, 1], on the CPU → (1, 3, side, side).

    The zeros at its right and bottom are put there after normalisation, so they are grey.
    """
    grey = torch.from_numpy(resize_image(image, side).copy()).float()
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (MEAN, DEVIATION))
    normalised = (grey - mean) / deviation  # (3, h', w')
    height, width = grey.shape
    return F.pad(normalised, (0, side - width, 0, side - height))[None]


def scale_boxes(boxes: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Boxes of a slice of `size` in pixels of the resized one: (k, 4) → (k, 4).

    The network itself adds the half pixel that leads to a pixel's centre.
    """
    height, width = resized(size, side)
    return boxes * boxes.new_tensor([width / size[1], height / size[0]]).repeat(2)


def restore_size(low: Tensor, size: tuple[int, int], side: int) -> Tensor:
    """Low-resolution logits in the slice's pixels, without the padding: (k, s, s) → (k, h, w)."""
    height, width = resized(size, side)
    square = F.interpolate(low[:, None], (side, side), mode="bilinear", align_corners=False)
    inside = square[..., :height, :width]
    return F.interpolate(inside, size, mode="bilinear", align_corners=False)[:, 0]


def _configuration(sizes: SamSizes) -> SamConfig:
    from transformers import SamConfig

    common = {"image_size": sizes.image_size, "patch_size": sizes.patch_size}
    return SamConfig(
        vision_config={
            **common,
            "hidden_size": sizes.width,
            "num_hidden_layers": sizes.depth,
            "num_attention_heads": sizes.heads,
            "mlp_dim": sizes.mlp,
            "window_size": sizes.window,
            "global_attn_indexes": list(sizes.global_blocks),
            "output_channels": sizes.prompt_width,
            "num_pos_feats": sizes.prompt_width // 2,
        },
        prompt_encoder_config={
            **common,
            "hidden_size": sizes.prompt_width,
            "mask_input_channels": sizes.mask_channels,
        },
        mask_decoder_config={
            "hidden_size": sizes.prompt_width,
            "num_hidden_layers": sizes.decoder_depth,
            "num_attention_heads": sizes.decoder_heads,
            "mlp_dim": sizes.decoder_mlp,
            "iou_head_hidden_dim": sizes.iou_width,
            "layer_norm_eps": DECODER_EPSILON,
        },
    )
