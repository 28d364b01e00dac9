"""Grad-CAM of a segmentation network: where its deepest features speak for a lesion (Table 7).

Selvaraju et al. 2017; for segmentation Vinogradova et al. 2020, who sum the logits of the predicted
pixels and look at the bottleneck. A layer nearer to the output would only repeat the prediction:
before a 1×1 head the map is the logit itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam(network: nn.Module, encoder: nn.Module, images: Tensor) -> Tensor:
    """What the deepest encoder features of each slice contribute to its predicted lesion.

    With A the deepest features and y the sum of the logits of all pixels predicted as lesion (of
    all pixels where none is): map = ReLU(Σ_c mean(∂y/∂A_c)·A_c), over its own maximum.

    Args:
        network: in evaluation mode; maps (B, 1, h, w) to logits (B, 1, h, w), each slice by itself.
        encoder: the part of it that gives its features as a list, the deepest last, 1/2^(n-1) of
            the size that it sees.
        images: (B, 1, h, w), in [0, 1].

    Returns:
        (B, 1, h, w) float32 in [0, 1]; 0 everywhere where no feature speaks for a lesion.

    Raises:
        ValueError: the network is in training mode, where a slice's map depends on its batch.
    """
    if network.training:
        raise ValueError("the network is in training mode, expected evaluation mode")
    seen: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, features: list[Tensor]) -> list[Tensor]:
        # a leaf: the gradient is wanted from here on only
        seen.append(features[-1].detach().requires_grad_())
        seen.append(features[0].detach())
        return [*features[:-1], seen[0]]

    with encoder.register_forward_hook(cut), torch.enable_grad():
        logits: Tensor = network(images)
        predicted = logits > 0
        nothing = ~predicted.flatten(1).any(dim=1)  # (B,)
        target = logits[predicted | nothing.reshape(-1, 1, 1, 1)].sum()
        (gradient,) = torch.autograd.grad(target, seen[0])
    deepest, finest = seen[0].detach(), seen[1]
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    found = F.relu((weights * deepest).sum(dim=1, keepdim=True)).float()  # (B, 1, h', w')
    # networks pad at the bottom and the right, so the map is cropped there
    height, width = images.shape[-2:]
    grown = F.interpolate(found, finest.shape[-2:], mode="bilinear", align_corners=False)
    grown = grown[..., :height, :width]
    highest = grown.amax(dim=(2, 3), keepdim=True)
    return torch.where(highest > 0, grown / highest.clamp(min=torch.finfo(grown.dtype).tiny), 0.0)
