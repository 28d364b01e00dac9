"""Grad-CAM of a segmentation network: where its deepest features favour a lesion (Table 7).

Selvaraju et al. 2017; for segmentation Vinogradova et al. 2020, who sum the logits of the predicted
pixels and look at the bottleneck. A layer nearer to the output would only repeat the prediction:
before a 1×1 head the map is the logit itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from grcsf.resampling import source_slices


def grad_cam(network: nn.Module, encoder: nn.Module, images: Tensor) -> Tensor:
    """Contribution of the deepest encoder features of each slice to its predicted lesion.

    With A the deepest features and y the sum of the logits of all pixels predicted as lesion (of
    all pixels where none is): map = ReLU(Σ_c mean(∂y/∂A_c)·A_c), over its own maximum.

    Args:
        network: in evaluation mode; maps (B, 1, h, w) to logits (B, 1, h, w), each slice by itself.
        encoder: the network's part that returns features as a list, the deepest last, at
            1/2^(n-1) of its input's size.
        images: (B, 1, h, w), in [0, 1].

    Returns:
        (B, 1, h, w) float32 in [0, 1]; all 0 where no feature favours a lesion.

    Raises:
        ValueError: the network is in training mode, where a slice's map depends on its batch.
    """
    if network.training:
        raise ValueError("the network is in training mode, expected evaluation mode")
    captured: list[Tensor] = []

    def cut(_module: nn.Module, _inputs: object, features: list[Tensor]) -> list[Tensor]:
        # a leaf, so that the gradient stops here
        captured.append(features[-1].detach().requires_grad_())
        captured.append(features[0].detach())
        return [*features[:-1], captured[0]]

    with encoder.register_forward_hook(cut), torch.enable_grad():
        logits: Tensor = network(images)
        predicted = logits > 0
        empty = ~predicted.flatten(1).any(dim=1)  # (B,)
        target = logits[predicted | empty.reshape(-1, 1, 1, 1)].sum()
        (gradient,) = torch.autograd.grad(target, captured[0])
    deepest, finest = captured[0].detach(), captured[1]
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (B, C, 1, 1)
    maps = F.relu((weights * deepest).sum(dim=1, keepdim=True)).float()  # (B, 1, h', w')
    # networks pad at the bottom and the right, so the crop is there
    height, width = images.shape[-2:]
    maps = source_slices(maps, finest.shape[-2:])[..., :height, :width]
    highest = maps.amax(dim=(2, 3), keepdim=True)
    return torch.where(highest > 0, maps / highest.clamp(min=torch.finfo(maps.dtype).tiny), 0.0)
