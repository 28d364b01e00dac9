import math

import numpy as np
import pytest
import torch

from grcsf.losses import LOSSES, dice_loss, focal_loss, mixed_loss


def numpy_dice(logits, target):
    overlap = predicted = true = 0.0
    for x, y in zip(logits.ravel(), target.ravel(), strict=True):
        probability = 1 / (1 + math.exp(-x))
        overlap, predicted, true = overlap + probability * y, predicted + probability, true + y
    return 1 - 2 * overlap / (predicted + true)


def numpy_focal(logits, target, alpha, gamma):
    total = 0.0
    for x, y in zip(logits.ravel(), target.ravel(), strict=True):
        probability = 1 / (1 + math.exp(-x))
        p_t = probability if y == 1 else 1 - probability
        total += -alpha * (1 - p_t) ** gamma * math.log(p_t)
    return total / logits.size


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3, 1, 5, 7)).astype(np.float32)
    target = (generator.random((3, 1, 5, 7)) > 0.7).astype(np.float32)
    target[1] = 0  # Dice is over the batch: an empty slice must not count as a slice of its own
    return logits, target


def test_dice_is_equation_7_s_first_part(batch):
    result = dice_loss(*map(torch.from_numpy, batch))
    assert result.item() == pytest.approx(numpy_dice(*batch), abs=1e-5)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (1.0, 0.0), (0.7, 3.5)])
def test_focal_is_equation_8(batch, alpha, gamma):
    result = focal_loss(*map(torch.from_numpy, batch), alpha=alpha, gamma=gamma)
    assert result.item() == pytest.approx(numpy_focal(*batch, alpha, gamma), rel=1e-5)


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_focal_weighs_lesion_and_background_alike(target):
    # By hand: p_t = 0.5, so 0.25 · 0.5² · ln 2 = 0.0433217
    result = focal_loss(torch.zeros(1, 1, 2, 2), torch.full((1, 1, 2, 2), target))
    assert result.item() == pytest.approx(0.0433217, abs=1e-6)


def test_dice_by_hand():
    # x = (1/2, 1/2, 1/2, 1/2), y = (1, 0, 0, 0): 1 − 2 · 0.5 / (2 + 1) = 2/3
    target = torch.tensor([1.0, 0, 0, 0]).view(1, 1, 2, 2)
    assert dice_loss(torch.zeros(1, 1, 2, 2), target).item() == pytest.approx(2 / 3, abs=1e-5)


def test_mixed_is_the_sum_by_name(batch):
    logits, target = map(torch.from_numpy, batch)
    expected = numpy_dice(*batch) + numpy_focal(*batch, 0.25, 2.0)
    assert mixed_loss(logits, target).item() == pytest.approx(expected, abs=1e-5)
    assert {"mixed": mixed_loss, "focal": focal_loss} == LOSSES


@pytest.mark.parametrize(("logit", "expected"), [(-200.0, 0.0), (0.0, 1.0), (200.0, 1.0)])
def test_empty_foreground(logit, expected):
    logits = torch.full((2, 1, 4, 4), logit, requires_grad=True)
    loss = dice_loss(logits, torch.zeros(2, 1, 4, 4))
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-4)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss])
@pytest.mark.parametrize("logit", [-1e4, 1e4])
def test_extreme_logits_stay_finite(loss, logit):
    logits = torch.full((1, 1, 4, 4), logit, requires_grad=True)
    value = loss(logits, torch.eye(4)[None, None])
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss])
def test_half_precision_logits_are_scored_in_float32(loss):
    torch.manual_seed(0)
    logits = torch.randn(2, 1, 64, 64).bfloat16()
    target = torch.rand(2, 1, 64, 64) > 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.float(), target.float()))


@pytest.mark.parametrize("loss", [dice_loss, focal_loss, mixed_loss])
def test_shapes_must_agree(loss):
    with pytest.raises(ValueError, match="must have one shape"):
        loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
