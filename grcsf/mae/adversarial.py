"""An adversarial term for masked training: a PatchGAN judges reconstructions (section 4.3).

The MAE's authors never published theirs; this is the discriminator and the least-squares loss of
MONAI, written out: the same weights under the same names, and the same values to the bit.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from grcsf.mae.patches import patchify, unpatchify
from grcsf.transfer import send

CHANNELS = 32
LAYERS = 3


def build_discriminator() -> nn.Module:
    """A PatchGAN for one-channel slices: (B, 1, H, W), H and W at least 32, to a map of logits."""
    layers = {"initial_conv": _layer(nn.Conv2d(1, CHANNELS, 4, stride=2, padding=1), norm=False)}
    for number in range(LAYERS):
        width, stride = CHANNELS * 2**number, 1 if number == LAYERS - 1 else 2
        convolution = nn.Conv2d(width, 2 * width, 4, stride=stride, padding=1, bias=False)
        layers[str(number)] = _layer(convolution)
    last = nn.Conv2d(CHANNELS * 2**LAYERS, 1, 4, padding=1)
    layers["final_conv"] = nn.Sequential(OrderedDict(conv=last))
    return nn.Sequential(OrderedDict(layers)).apply(_initialise)


def _layer(convolution: nn.Conv2d, *, norm: bool = True) -> nn.Module:
    after: OrderedDict[str, nn.Module] = OrderedDict()
    if norm:
        after["N"] = nn.BatchNorm2d(convolution.out_channels)
    after["A"] = nn.LeakyReLU(0.2)
    return nn.Sequential(OrderedDict(conv=convolution, adn=nn.Sequential(after)))


def _initialise(part: nn.Module) -> None:
    if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
        nn.init.normal_(part.weight, 1.0 if isinstance(part, nn.BatchNorm2d) else 0.0, 0.02)
        if part.bias is not None:
            nn.init.zeros_(part.bias)


def pasted(predictions: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Reconstructions with the slice's own pixels in visible patches, so that masked ones decide.

    Args:
        predictions: (B, L, p·p).
        images: (B, 1, H, W), in [0, 1].
        masks: (B, L) bool, 1 = masked.

    Returns:
        (B, 1, H, W) float32.
    """
    patch_size = round(predictions.shape[-1] ** 0.5)
    patches = patchify(images.float(), patch_size)
    hidden = send(masks, predictions.device).unsqueeze(-1)
    return unpatchify(torch.where(hidden, predictions.float(), patches), patch_size)


def generator_term(discriminator: nn.Module, reconstructions: Tensor) -> Tensor:
    """How far the discriminator is from taking reconstructions for slices: a scalar ≥ 0."""
    return _doubt(discriminator(reconstructions), 1.0)


def discriminator_loss(discriminator: nn.Module, reconstructions: Tensor, images: Tensor) -> Tensor:
    """How badly the discriminator tells slices from reconstructions: a scalar ≥ 0.

    No gradient reaches the reconstructions.
    """
    fake = discriminator(reconstructions.detach())
    real = discriminator(images)
    return 0.5 * (_doubt(fake, 0.0) + _doubt(real, 1.0))


def _doubt(logits: Tensor, label: float) -> Tensor:
    """Mean squared distance to the label: 1 = a slice, 0 = a reconstruction."""
    judged = F.leaky_relu(logits, 0.05)
    return F.mse_loss(judged, torch.full_like(judged, label))
