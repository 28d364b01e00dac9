"""Predictions that need no learning, against figures worked out by hand."""

import pytest
import torch

from grcsf.mae.baselines import average_image, predict_average, predict_patch_means
from grcsf.mae.losses import masked_l1, masked_mse

# 4 × 4 in patches of 2: the left half dark, the right half bright
STEPPED = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 1, 4, 4)
# each patch is 0 and 1 in turns of columns
STRIPED = torch.tensor([0.0, 1.0, 0.0, 1.0]).expand(1, 1, 4, 4)
LEFT = torch.tensor([[True, False, True, False]])


def test_the_average_weighs_every_image_alike_whatever_its_batch():
    found = average_image([torch.cat([STEPPED, STEPPED]), STRIPED])
    expected = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]).expand(1, 1, 4, 4)
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match="no image"):
        average_image([])


@pytest.mark.parametrize(
    ("image", "average_loss", "mean_loss", "average_l1"),
    # the average of both is 0, 1/2, 1/2, 1; masked are the two patches of the left half
    [(STEPPED, 0.125, 0.0, 0.25), (STRIPED, 0.125, 0.25, 0.25)],
)
def test_losses_over_the_masked_patches_by_hand(image, average_loss, mean_loss, average_l1):
    average = average_image([STEPPED, STRIPED])
    guess = predict_average(average, 1, 2)
    assert float(masked_mse(lambda *_: guess, image, LEFT)) == pytest.approx(average_loss)
    assert float(masked_l1(lambda *_: guess, image, LEFT)) == pytest.approx(average_l1)
    means = predict_patch_means(image, 2)
    assert float(masked_mse(lambda *_: means, image, LEFT)) == pytest.approx(mean_loss)
