import pytest
import torch

from grcsf.models.gcu import cosine_over_channels


def test_cosine_is_scale_free_bounded_and_float32_under_autocast():
    torch.manual_seed(0)
    maps = torch.randn(2, 64, 3, 3)
    cosine = cosine_over_channels(maps, -100 * maps)
    torch.testing.assert_close(cosine, torch.full((2, 1, 3, 3), -1.0), atol=1e-4, rtol=0)
    assert cosine_over_channels(1e6 * maps, 1e6 * maps).abs().max() <= 1 + 1e-6
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosine = cosine_over_channels(maps.bfloat16(), maps.bfloat16())
    assert cosine.dtype == torch.float32
    torch.testing.assert_close(cosine, torch.ones(2, 1, 3, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("other", [0.0, 1.0])
def test_cosine_at_zero_vectors_has_a_small_gradient(other):
    zeros = torch.zeros(1, 8, 2, 2, requires_grad=True)
    others = torch.full((1, 8, 2, 2), other, requires_grad=True)
    cosine = cosine_over_channels(zeros, others)
    cosine.sum().backward()
    assert not cosine.any()
    assert zeros.grad.abs().max() <= 1e3
    assert others.grad.isfinite().all()
