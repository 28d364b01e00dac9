import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from grcsf.complexity import kept_for_backward
from grcsf.models.rcu import ImportanceScore, RegionalCompensationUnit, from_patches, to_patches

P = 4


def unit_that_counts_all():
    """Every patch has the importance 1."""
    torch.manual_seed(0)
    unit = RegionalCompensationUnit(6, P, lambda features: torch.ones(len(features), 1, 1))
    for parameter in unit.parameters():
        if parameter.ndim < 2:
            nn.init.normal_(parameter)
    return unit


def test_without_importance_every_patch_and_at_the_start_every_map_counts_fully():
    new = RegionalCompensationUnit(4, P, nn.Identity())
    assert torch.equal(new.map_weights, torch.ones(2))
    assert new.attention.scale == 1
    unit, plain = unit_that_counts_all(), unit_that_counts_all()
    plain.importance = None
    features, residuals = torch.randn(1, 6, 8, 8), torch.rand(1, 2, 8, 8)
    with torch.inference_mode():
        torch.testing.assert_close(plain(features, residuals), unit(features, residuals))


def test_residual_maps_come_down_by_their_mean():
    unit = unit_that_counts_all()
    features, residuals = torch.randn(1, 6, P, P), torch.rand(1, 2, 4 * P, 4 * P)
    means = residuals.view(1, 2, P, 4, P, 4).mean((3, 5))
    with torch.inference_mode():
        torch.testing.assert_close(unit(features, residuals), unit(features, means))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(32, 32), (30, 27)])
def test_no_attention_matrix_is_kept_for_backward(size, dtype):
    patch_size = 8
    unit = RegionalCompensationUnit(16, patch_size, ImportanceScore(16, patch_size, 8))
    inputs = torch.rand(1, 16, *size, requires_grad=True), torch.rand(1, 2, *size)
    # 16 patches of 64 × 64 weights; what is kept of the tokens is 16 · 64 · 16 values at most.
    matrix = 16 * (patch_size**2) ** 2

    def run():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            return unit(*inputs).float().square().sum()

    def matrices():
        kept = kept_for_backward(run, list(unit.parameters()))
        return [tensor for tensor in kept if tensor.size >= matrix * tensor.dtype.itemsize]

    assert not matrices()
    with sdpa_kernel(SDPBackend.MATH):  # the plain kernel keeps one a map: the test sees it
        assert len(matrices()) >= 2


@given(
    size=st.tuples(st.integers(1, 13), st.integers(1, 13)),
    patch_size=st.integers(1, 6),
    channels=st.integers(1, 3),
)
@settings(max_examples=40)
def test_patches_come_back_as_they_were(size, patch_size, channels):
    maps = torch.arange(2.0 * channels * size[0] * size[1]).view(2, channels, *size)
    patches = to_patches(maps, patch_size)
    rows, columns = -(-size[0] // patch_size), -(-size[1] // patch_size)
    assert patches.shape == (2, rows * columns, patch_size**2, channels)
    assert torch.equal(from_patches(patches, *size), maps)


def test_patches_run_row_by_row():
    patches = to_patches(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, :, :, 0]
    assert patches.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


def test_score_is_one_number_per_patch_from_that_patch_alone():
    torch.manual_seed(0)
    score = ImportanceScore(16, P, 8).eval()
    features = torch.rand(2, 16, 7, 9)
    with torch.inference_mode():
        scores = score(features)
        features[:, :, :P, :P] += 1
        changed = (score(features) != scores)[..., 0]
    assert scores.shape == (2, 6, 1)
    assert ((scores > 0) & (scores < 1)).all()
    assert changed.tolist() == [[True] + [False] * 5] * 2


@pytest.mark.parametrize(("patch_size", "residual_maps"), [(0, 2), (4, 0)])
def test_sizes_below_one_are_refused(patch_size, residual_maps):
    with pytest.raises(ValueError, match="must be at least 1"):
        RegionalCompensationUnit(4, patch_size, nn.Identity(), residual_maps)
