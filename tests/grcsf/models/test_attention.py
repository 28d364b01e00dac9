import numpy as np
import torch
from torch import nn

from grcsf.models.attention import CoordinateAttention, SpatialAttention
from grcsf.models.gcu import GlobalCompensationUnit


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def pointwise(layer, vector):
    """A 1 × 1 convolution at one pixel."""
    weight, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    return weight[:, :, 0, 0] @ vector + bias


def test_spatial_attention_by_loops():
    torch.manual_seed(0)
    attention, maps = SpatialAttention(), torch.randn(1, 5, 6, 9)
    with torch.inference_mode():
        result = attention(maps)[0].numpy()
    features = maps[0].double().numpy()
    pooled = np.pad(np.stack([features.mean(0), features.max(0)]), ((0, 0), (3, 3), (3, 3)))
    (kernel,) = attention.gate[0].weight.detach().double().numpy()
    for y, x in np.ndindex(6, 9):
        gate = sigmoid((pooled[:, y : y + 7, x : x + 7] * kernel).sum())
        np.testing.assert_allclose(result[:, y, x], features[:, y, x] * gate, atol=1e-5)


def test_spatial_attention_cancels_in_the_cosine():
    torch.manual_seed(0)
    unit = GlobalCompensationUnit(6, attention=lambda _: SpatialAttention())
    skip, below = torch.randn(1, 6, 8, 8), torch.randn(2, 1, 12, 4, 4)
    with torch.inference_mode():
        attended = unit(skip, *below)
        unit.attention_decoder = unit.attention_skip = nn.Identity()
        torch.testing.assert_close(attended, unit(skip, *below), atol=1e-4, rtol=0)


def test_coordinate_attention_by_loops():
    torch.manual_seed(0)
    attention, maps = CoordinateAttention(6).eval(), torch.randn(1, 6, 4, 7)
    norm = attention.squeeze[1]
    nn.init.normal_(norm.running_mean)
    with torch.inference_mode():
        result = attention(maps)[0].numpy()
    features = maps[0].double().numpy()

    def squeezed(means):
        hidden = pointwise(attention.squeeze[0], means)
        hidden = (hidden - norm.running_mean.numpy()) / np.sqrt(1 + norm.eps)
        return hidden * np.clip(hidden + 3, 0, 6) / 6  # hard swish

    def gate(layer, means):
        return sigmoid(pointwise(layer, squeezed(means)))

    for y, x in np.ndindex(4, 7):
        row = gate(attention.rows, features[:, y].mean(1))
        column = gate(attention.columns, features[:, :, x].mean(1))
        np.testing.assert_allclose(result[:, y, x], features[:, y, x] * row * column, atol=1e-5)
