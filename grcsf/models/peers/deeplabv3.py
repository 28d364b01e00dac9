"""DeepLabv3 on a ResNet-50 [Table 1]: torchvision's (Chen et al. 2017, output stride 8)."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

from grcsf.mae.checkpoint import unwrap
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peers.public_weights import filled

PAPER_WIDTH = 64
DILATIONS = (12, 24, 36)


class DeepLabv3(SegmentationNetwork):
    """torchvision's `deeplabv3_resnet50` of one class, module for module, on a slice shown thrice.

    It starts as torchvision starts it: the ResNet He normal over outputs, the head as PyTorch does.

    Args:
        inputs: M, residual maps as further input channels.
        width: filters of the first stage's inner convolutions (64 = paper). All others follow but
            the 64 of the first convolution. A multiple of 16, for whole numbers at every stage.
        depths: bottlenecks of the four stages.

    Raises:
        ValueError: if `width` is no multiple of 16.
    """

    size_multiple = 1
    colours = True

    def __init__(
        self,
        inputs: int = 0,
        *,
        width: int = PAPER_WIDTH,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
    ) -> None:
        super().__init__()
        if width < 16 or width % 16:
            raise ValueError(f"width must be 16, 32, 48, 64 … for DeepLabv3, found {width}")
        self.input_maps = inputs
        resnet = _resnet(width, depths)
        if inputs:
            resnet.conv1 = nn.Conv2d(3 + inputs, 64, 7, stride=2, padding=3, bias=False)
            nn.init.kaiming_normal_(resnet.conv1.weight, mode="fan_out", nonlinearity="relu")
        filters = 4 * width
        head = nn.Sequential(
            ASPP(8 * filters, DILATIONS, filters),
            nn.Conv2d(filters, filters, 3, padding=1, bias=False),
            nn.BatchNorm2d(filters),
            nn.ReLU(),
            nn.Conv2d(filters, 1, 1),
        )
        self.network = DeepLabV3(IntermediateLayerGetter(resnet, {"layer4": "out"}), head)

    def segment(self, image: Tensor, residuals: Tensor | None) -> Tensor:  # noqa: ARG002
        """`(B, 1 + M, h, w)` → logits `(B, 1, h, w)`; see the base class.

        Raises:
            ValueError: if one slice alone is to be trained on.
        """
        if self.training and len(image) == 1:
            # batch norm of the map that the image pooling leaves: one value a channel
            raise ValueError("DeepLabv3 trains on batches of two slices or more, found one slice")
        repeated = image[:, [0, 0, 0, *range(1, image.shape[1])]]  # (B, 3 + M, h, w)
        if self.normalisation is not None:
            repeated = self.normalisation(repeated)
        logits: Tensor = self.network(repeated)["out"]
        return logits


def reference_state(network: DeepLabv3, public: Mapping[str, Any]) -> dict[str, Tensor]:
    """The network's state dict with torchvision's weights in place.

    Args:
        network: at full width.
        public: a state dict of torchvision's `resnet50`, which fills the backbone, or of its
            `deeplabv3_resnet50`, which fills all but the last convolution: its classes are others.

    Raises:
        ValueError: entries are missing, unexpected or mis-shaped, in one line.
    """
    public = unwrap(public)
    whole = any(name.startswith("backbone.") for name in public)
    dropped = ("aux_classifier.", "classifier.4.") if whole else ("fc.",)
    ours = "network." if whole else "network.backbone."
    given = {ours + name: value for name, value in public.items() if not name.startswith(dropped)}
    return filled(
        network.state_dict(),
        given,
        network="DeepLabv3",
        kept=("network.classifier.4." if whole else "network.classifier.",),
        widened=["network.backbone.conv1.weight"],
        maps=network.further_inputs,
    )


def _resnet(width: int, depths: tuple[int, int, int, int]) -> ResNet:
    """The ResNet of torchvision whose last two stages are dilated in place of their strides."""
    # a stage puts out 64 … 512 times its block's expansion, which is 4 in a ResNet-50
    block = type("Bottleneck", (Bottleneck,), {"expansion": width // 16})
    dilated = [False, True, True]
    return ResNet(block, list(depths), width_per_group=width, replace_stride_with_dilation=dilated)
