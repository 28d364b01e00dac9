"""Grad-CAM against its equation by hand, and at the edges."""

import numpy as np
import pytest
import torch
from torch import nn

from grcsf.grad_cam import grad_cam
from grcsf.models.build import build_segmentation_model


class Halves(nn.Module):
    """An encoder of two levels: the image, and two maps of its 2×2 means and their negatives."""

    def forward(self, image):
        mean = nn.functional.avg_pool2d(image, 2)
        return [image, torch.cat([mean, -mean], dim=1)]


class Linear(nn.Module):
    """Logits: a weighted sum of the deepest maps, repeated to the image's size, minus a bias."""

    def __init__(self, first, second, bias):
        super().__init__()
        self.encoder = Halves()
        self.weights, self.bias = (first, second), bias

    def forward(self, image):
        deep = self.encoder(image)[-1]
        mixed = sum(weight * deep[:, [c]] for c, weight in enumerate(self.weights)) - self.bias
        return mixed.repeat_interleave(2, -2).repeat_interleave(2, -1)


IMAGE = torch.tensor([[0.1, 0.3], [0.5, 0.9]]).repeat_interleave(2, 0).repeat_interleave(2, 1)

AGAINST_A_LESION = ((-1.0, 0.0), -0.05)


def by_hand(weights, bias):
    """ReLU(Σ_c mean(∂y/∂A_c)·A_c) on the 2×2 grid, over its maximum after growing to 4×4."""
    means = np.array([[0.1, 0.3], [0.5, 0.9]])
    maps = np.stack([means, -means])
    logits = weights[0] * maps[0] + weights[1] * maps[1] - bias
    chosen = logits > 0 if (logits > 0).any() else np.ones_like(logits, bool)
    # each deep pixel feeds four logits, of which y sums the chosen ones
    gradients = [(4 * weight * chosen).mean() for weight in weights]
    actual = np.maximum(gradients[0] * maps[0] + gradients[1] * maps[1], 0)
    grown = nn.functional.interpolate(
        torch.from_numpy(actual)[None, None], (4, 4), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    return grown / grown.max() if grown.max() > 0 else grown


@pytest.mark.parametrize(
    ("weights", "bias"),
    [((1.0, 0.0), 0.4), ((1.0, 0.0), 5.0), ((2.0, 0.5), 0.4), ((0.0, 1.0), 0.0), AGAINST_A_LESION],
)
def test_the_equation_by_hand(weights, bias):
    network = Linear(*weights, bias).eval()
    actual = grad_cam(network, network.encoder, IMAGE[None, None])
    np.testing.assert_allclose(actual[0, 0].numpy(), by_hand(weights, bias), atol=1e-6)
    assert (weights, bias) != AGAINST_A_LESION or not actual.any()


@pytest.mark.parametrize("name", ["unet", "unetpp"])
@pytest.mark.parametrize("size", [(32, 32), (41, 27)])
def test_networks_of_any_size(name, size):
    torch.manual_seed(0)
    network = build_segmentation_model(name, width=4, input_size=size).eval()
    images = torch.rand(3, 1, *size)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    actual = grad_cam(network, network.encoder, images)
    assert actual.shape == images.shape
    assert 0 <= actual.min() <= actual.max() <= 1
    highest = actual.amax(dim=(1, 2, 3))
    assert all(value == 0 or abs(value - 1) < 1e-6 for value in highest.tolist())
    alone = torch.cat([grad_cam(network, network.encoder, image[None]) for image in images])
    torch.testing.assert_close(actual, alone, atol=1e-5, rtol=1e-4)
    assert all(parameter.grad is None for parameter in network.parameters())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert not network.encoder._forward_hooks


def test_training_mode_is_refused():
    network = Linear(1.0, 0.0, 0.0).train()
    with pytest.raises(ValueError, match="training mode"):
        grad_cam(network, network.encoder, IMAGE[None, None])
