"""An adversarial term for masked training: a PatchGAN judges reconstructions (section 4.3).

The MAE's authors never published theirs; this is MONAI's discriminator and least-squares loss.
"""

import torch
from monai.losses.adversarial_loss import PatchAdversarialLoss
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn

from grcsf.mae.patches import patchify, unpatchify

CHANNELS = 32
LAYERS = 3


def build_discriminator() -> nn.Module:
    """A PatchGAN for one-channel slices: (B, 1, H, W), H and W at least 32, to a map of logits."""
    network: nn.Module = PatchDiscriminator(
        spatial_dims=2, channels=CHANNELS, in_channels=1, out_channels=1, num_layers_d=LAYERS
    )
    return network


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
    hidden = masks.to(predictions.device).unsqueeze(-1)
    return unpatchify(torch.where(hidden, predictions.float(), patches), patch_size)


def generator_term(discriminator: nn.Module, reconstructions: Tensor) -> Tensor:
    """How far the discriminator is from taking reconstructions for slices: a scalar ≥ 0."""
    logits = discriminator(reconstructions)[-1]
    term: Tensor = _judge()(logits, target_is_real=True, for_discriminator=False)
    return term


def discriminator_loss(discriminator: nn.Module, reconstructions: Tensor, images: Tensor) -> Tensor:
    """How badly the discriminator tells slices from reconstructions: a scalar ≥ 0.

    No gradient reaches the reconstructions.
    """
    fake = discriminator(reconstructions.detach())[-1]
    real = discriminator(images)[-1]
    judge = _judge()
    loss: Tensor = 0.5 * (
        judge(fake, target_is_real=False, for_discriminator=True)
        + judge(real, target_is_real=True, for_discriminator=True)
    )
    return loss


def _judge() -> PatchAdversarialLoss:
    return PatchAdversarialLoss(criterion="least_squares")
