"""Which networks can start from public weights, and where the files of these are had."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from pipeline.settings.section import UNSET

PRETRAINED = {
    "deeplabv3": "resnet50-0676ba61.pth or resnet50-11ad3fa6.pth, which fill the backbone, or "
    "deeplabv3_resnet50_coco-cd0a2569.pth, all of download.pytorch.org/models",
    "swin_unet": "swin_tiny_patch4_window7_224.pth of github.com/microsoft/Swin-Transformer, or "
    "model.safetensors of huggingface.co/timm/swin_tiny_patch4_window7_224.ms_in1k",
    "trans_unet": "R50+ViT-B_16.npz, to which github.com/Beckschen/TransUNet leads, or "
    "model.safetensors of huggingface.co/timm/vit_base_r50_s16_224.orig_in21k",
    "spin": "spin_atlas_traintest.pth of github.com/alexklwong/subpixel-embedding-segmentation "
    "(for academic use)",
    "trans_fuse": "resnet50-19c8e357.pth of download.pytorch.org/models, "
    "deit_base_patch16_224-b5f2ef4d.pth of github.com/facebookresearch/deit or model.safetensors "
    "of huggingface.co/timm/deit_base_patch16_224.fb_in1k, or both in a list",
    "ut_net": "a state dict that the code of github.com/yhygao/UTNet has trained; its authors "
    "publish none",
}
"""Networks that can start from weights in their authors' form, and where such files are had."""


def _as_list(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Pretrained = Annotated[
    Annotated[tuple[str, ...], Field(min_length=1)] | None,
    BeforeValidator(_as_list),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}, "minItems": 1},
                {"type": "null"},
            ],
            "default": None,
            "title": "Pretrained",
        }
    ),
    UNSET,
]


def start_fault(model: str, files: tuple[str, ...] | None) -> str:
    """What is wrong with these files as the start of this model; "" if nothing is."""
    if not files:
        return ""
    if model not in PRETRAINED:
        expected = f"expected one of those whose public weights are read: {', '.join(PRETRAINED)}"
        return f"found {', '.join(files)} for model {model!r}, {expected}"
    most, of_each = (2, "one for each of its branches") if model == "trans_fuse" else (1, "one")
    return "" if len(files) <= most else f"found {len(files)} files, expected {of_each}"
