import math

import pytest
import torch
from torch import nn

from grcsf.models.blocks import initialise, pad_to_multiple


@pytest.mark.parametrize(("size", "padded"), [((16, 32), (16, 32)), ((1, 17), (16, 32))])
def test_padding_is_zeros_at_the_bottom_and_the_right(size, padded):
    maps = torch.rand(2, 3, *size) + 1
    result = pad_to_multiple(maps, 16)
    assert result.shape == (2, 3, *padded)
    assert torch.equal(result[..., : size[0], : size[1]], maps)
    assert result.sum() == pytest.approx(maps.sum().item(), rel=1e-5)
    assert pad_to_multiple(result, 8) is result, "nothing is copied where nothing is padded"


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (nn.Conv2d(64, 96, 3), 64 * 9),
        (nn.ConvTranspose2d(256, 128, 2, stride=2), 128 * 4),
        (nn.Linear(256, 256), 256),
    ],
)
def test_he_initialisation(layer, fan_in):
    torch.manual_seed(0)
    initialise(layer)
    assert layer.weight.std().item() == pytest.approx(math.sqrt(2 / fan_in), rel=0.02)
    assert not layer.bias.any()
