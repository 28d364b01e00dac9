import numpy as np
import pytest
import torch
from torch.nn import functional as F

from grcsf.models.skip_attention import AttentionGate, PyramidAttention


def pointwise(layer, vector):
    weight, bias = layer.weight.detach().numpy()[:, :, 0, 0], layer.bias.detach().numpy()
    return weight @ vector + bias


def test_attention_gate_by_loops():
    torch.manual_seed(0)
    unit = AttentionGate(3).eval()
    skip, below, unseen = torch.randn(1, 3, 4, 6), torch.randn(1, 6, 2, 3), torch.randn(1, 6, 2, 3)
    with torch.inference_mode():
        actual = unit(skip, unseen, below)
        gated = unit.update(skip, actual)
        upsampled = unit.up(below)[0].numpy()
    scale = 1 / np.sqrt(1 + 1e-5)  # batch norm, fresh
    for y, x in np.ndindex(4, 6):
        gating = pointwise(unit.gating[0], upsampled[:, y, x])
        own = pointwise(unit.skip[0], skip[0, :, y, x].numpy())
        (psi,) = pointwise(unit.psi[0], np.maximum(scale * (gating + own), 0))
        gate = 1 / (1 + np.exp(-scale * psi))
        assert actual[0, 0, y, x].item() == pytest.approx(gate, abs=1e-5)
        np.testing.assert_allclose(gated[0, :, y, x], gate * skip[0, :, y, x], atol=1e-5)


def test_pyramid_attention_joins_three_scales_from_the_coarsest_up():
    torch.manual_seed(0)
    unit = PyramidAttention(8).eval()
    skip, below = torch.rand(1, 8, 32, 48), torch.rand(1, 16, 16, 24)
    kernels = [layers[0].kernel_size[0] for layers in (*unit.down, *unit.across)]
    assert kernels == [7, 5, 3, 7, 5, 3]
    with torch.inference_mode():
        half = unit.down[0](F.max_pool2d(skip, 2))
        quarter = unit.down[1](F.max_pool2d(half, 2))
        eighth = unit.down[2](F.max_pool2d(quarter, 2))
        assert eighth.shape == (1, 2, 4, 6)
        joined = unit.across[2](eighth)
        for finer in (unit.across[1](quarter), unit.across[0](half)):
            size = finer.shape[-2:]
            joined = finer + F.interpolate(joined, size, mode="bilinear", align_corners=False)
        expected = F.interpolate(
            unit.expand(joined), (32, 48), mode="bilinear", align_corners=False
        )
        actual = unit(skip, below, below)
        torch.testing.assert_close(actual, expected)
        refined = unit.update(skip, actual)
        mean = skip.mean((2, 3), keepdim=True)
        expected = F.relu(unit.middle(skip) * actual + unit.overall[1](mean))
        torch.testing.assert_close(refined, expected)
        single = unit(skip[..., :1, :1], below[..., :1, :1], below[..., :1, :1])
    assert single.shape == (1, 8, 1, 1)
    assert single.isfinite().all()
