"""MobileNet as the encoder of a U-shaped network [Table 7, the paper's [42]]."""

from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNetFeatures
from torch import Tensor, nn

STAGES = [
    ["dsa_r1_k3_s1_c64"],
    ["dsa_r2_k3_s2_c128"],
    ["dsa_r2_k3_s2_c256"],
    ["dsa_r6_k3_s2_c512"],
    ["dsa_r2_k3_s2_c1024"],
]
"""Howard et al. 2017, Table 1, as timm's `mobilenetv1_100` has it: depthwise separable stages."""


class MobileNetEncoder(nn.Module):
    """The five stages of MobileNet (version 1), which have the filters of the paper's UNet++.

    The first convolution has stride 1 instead of 2: the skip pathways and the units on them expect
    the first stage at full scale.

    Args:
        width: filters of the first stage; all others follow from it (64 = MobileNet 1.0).
        inputs: channels of the input, C.

    Raises:
        ValueError: if `width` is odd or 0: the first convolution has half as many filters.
    """

    def __init__(self, width: int, inputs: int = 1) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be 2, 4, 6 … for a MobileNet encoder, found {width}")
        self.stages = EfficientNetFeatures(
            decode_arch_def(STAGES),  # type: ignore[no-untyped-call]
            in_chans=inputs,
            stem_size=32,
            round_chs_fn=lambda channels: channels * width // 64,
            act_layer=nn.ReLU6,
        )
        self.stages.conv_stem.stride = (1, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        """`(B, C, h, w)` → five features, `(B, width · 2**l, h / 2**l, w / 2**l)`."""
        features: list[Tensor] = self.stages(image)
        return features
