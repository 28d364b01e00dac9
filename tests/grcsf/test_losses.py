"""Losses away from the equations' numbers, which stand in test_equations.py."""

import math
from functools import partial

import pytest
import torch

from grcsf.losses import (
    LOSSES,
    cross_entropy_loss,
    dice_cross_entropy_loss,
    dice_loss,
    focal_loss,
    mixed_loss,
    structure_loss,
    tversky_cross_entropy_loss,
)

half_dice_loss = partial(dice_cross_entropy_loss, dice_weight=0.5)
ALL = [dice_loss, focal_loss, mixed_loss, cross_entropy_loss]
ALL += [half_dice_loss, tversky_cross_entropy_loss, structure_loss]


def test_losses_by_the_names_of_the_settings():
    assert {
        "mixed": mixed_loss,
        "focal": focal_loss,
        "cross_entropy": cross_entropy_loss,
        "dice_cross_entropy": dice_cross_entropy_loss,
        "tversky_cross_entropy": tversky_cross_entropy_loss,
        "structure": structure_loss,
    } == LOSSES


@pytest.mark.parametrize(
    ("loss", "target", "value"),
    [
        # p = 0.5, 0.75; −ln 0.5 = 0.693147, −ln 0.25 = 1.386294; 1.5 · 0.693147 and 1.386294
        (cross_entropy_loss, [1, 0], (1.039721 + 1.386294) / 2),
        # cross-entropy 1.039721; Dice 1 − 2 · 0.5 / (1.25 + 1) = 0.555556
        (partial(dice_cross_entropy_loss, dice_weight=0.6), [1, 0], 0.415888 + 0.333333),
        # (0.693147 + 0.5 · 1.386294) / 1.5; TP 0.5, FP 0.75, FN 0.5, so α = 0.6 and the index
        # 0.5 / (0.5 + 0.6 · 0.75 + 0.4 · 0.5) = 0.434783
        (tversky_cross_entropy_loss, [1, 0], 0.924196 + 0.565217),
        # (0.693147 + 0.287682) / 2; no FP: α = 0.2, TP 1.25, FN 0.75: 1.25 / (1.25 + 0.8 · 0.75)
        (tversky_cross_entropy_loss, [1, 1], 0.490415 + 1 - 0.675676),
        # weights 1 + 5 (1 − 1/961) = 5.994797 and 1 + 5/961 = 1.005203: cross-entropy
        # (4.155277 + 1.393507) / 7; IoU (2.997399 + 1) / (9.746098 − 2.997399 + 1) = 0.515880
        (structure_loss, [1, 0], 0.792683 + 1 - 0.515880),
    ],
)
def test_the_peers_losses_by_hand(loss, target, value):
    logits = torch.tensor([0.0, math.log(3)]).reshape(1, 1, 1, 2)
    actual = loss(logits, torch.tensor(target).reshape(1, 1, 1, 2))
    assert float(actual) == pytest.approx(value, abs=2e-5)


def test_structure_loss_is_a_mean_over_slices():
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 40, 33)
    target = (torch.rand(2, 1, 40, 33) > 0.8).float()
    each = [structure_loss(logits[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(structure_loss(logits, target), sum(each) / 2)


@pytest.mark.parametrize("foreground", [0.0, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize(
    ("loss", "theirs"),
    [
        (dice_loss, ("DiceLoss", {"sigmoid": True, "batch": True})),
        (lambda x, y: focal_loss(x, y, alpha=1.0), ("FocalLoss", {"gamma": 2.0})),
        (lambda x, y: focal_loss(x, y, alpha=1.0, gamma=0.0), ("FocalLoss", {"gamma": 0.0})),
    ],
)
def test_values_and_gradients_are_monais_to_the_bit(loss, theirs, scale, foreground):
    from monai import losses  # here: it takes seconds, and two processes collect all tests

    name, options = theirs
    other_loss = getattr(losses, name)(**options)
    generator = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(3, 1, 97, 131, generator=generator)
    target = (torch.rand(logits.shape, generator=generator) < foreground).float()
    ours, other = (logits.clone().requires_grad_() for _ in range(2))
    value, expected = loss(ours, target), other_loss(other, target)
    (value + expected).backward()
    assert torch.equal(value, expected)
    assert torch.equal(ours.grad, other.grad)


@pytest.mark.parametrize("loss", ALL)
def test_half_precision_logits_are_scored_in_float32(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    target = torch.rand(2, 1, 64, 64) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), target.float()))


@pytest.mark.parametrize("loss", ALL)
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


@pytest.mark.parametrize("loss", ALL)
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


@pytest.mark.parametrize("loss", ALL)
def test_no_loss_asks_the_device_for_a_value(loss):
    logits = torch.empty(2, 1, 4, 4, device="meta", requires_grad=True)
    loss(logits, torch.empty_like(logits)).backward()
    assert logits.grad.is_meta
