"""Losses away from the equations' numbers, which stand in test_equations.py."""

import math

import pytest
import torch
from monai.losses.dice import DiceLoss
from monai.losses.focal_loss import FocalLoss

from grcsf.losses import LOSSES, cross_entropy_loss, dice_loss, focal_loss, mixed_loss


def test_losses_by_the_names_of_the_settings():
    assert {"mixed": mixed_loss, "focal": focal_loss} == LOSSES


@pytest.mark.parametrize("foreground", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        (dice_loss, DiceLoss(sigmoid=True, batch=True)),
        (lambda x, y: focal_loss(x, y, alpha=1.0), FocalLoss(gamma=2.0)),
        (lambda x, y: focal_loss(x, y, alpha=1.0, gamma=0.0), FocalLoss(gamma=0.0)),
    ],
)
def test_values_and_gradients_are_monais_to_the_bit(loss, theirs, scale, foreground):
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, 1, 97, 131, generator=generator)
    target = (torch.rand(logits.shape, generator=generator) < foreground).float()
    ours, other = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = loss(ours, target), theirs(other, target)
    (value + expected).backward()
    assert torch.equal(value, expected)
    assert torch.equal(ours.grad, other.grad)


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss, cross_entropy_loss])
def test_half_precision_logits_are_scored_in_float32(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    target = torch.rand(2, 1, 64, 64) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), target.float()))


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss, cross_entropy_loss])
@pytest.mark.parametrize("size", [(233, 197), (97, 131), (1, 5)])
@pytest.mark.parametrize("logit", [-1e4, -30.0, 0.0, 30.0, 1e4])
@pytest.mark.parametrize("lesion", [0.0, 1.0])
def test_constant_bfloat16_slices_of_odd_sizes_train(loss, size, logit, lesion):
    logits = torch.full((1, 1, *size), logit, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, torch.full((1, 1, *size), lesion))
    value.backward()
    assert value.isfinite()
    assert value >= 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss, cross_entropy_loss])
def test_shapes_must_agree(loss):
    with pytest.raises(ValueError, match="must have one shape"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))


def test_cross_entropy_by_hand_counts_a_lesion_pixel_one_and_a_half_times():
    # probabilities 3/4, 1/2, 1/4, 1/5; the first and the last pixel are lesion
    logits = torch.tensor([3.0, 1.0, 1 / 3, 1 / 4]).log().reshape(1, 1, 2, 2)
    target = torch.tensor([1, 0, 0, 1]).reshape(1, 1, 2, 2)
    lesion, background = math.log(4 / 3) + math.log(5), math.log(2) + math.log(4 / 3)
    value = cross_entropy_loss(logits, target).item()
    assert value == pytest.approx((1.5 * lesion + background) / 4, rel=1e-6)
    plain = cross_entropy_loss(logits, target, lesion_weight=1).item()
    assert plain == pytest.approx((lesion + background) / 4, rel=1e-6)
