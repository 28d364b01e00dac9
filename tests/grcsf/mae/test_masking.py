"""Masks: reproducible, of equal size, and balanced where that is promised."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from grcsf.mae.masking import (
    STEP,
    coverage,
    masked_count,
    slice_masks,
    tissue_masks,
    training_masks,
)

RATIOS = st.floats(0.1, 0.9)
PATCHES = st.integers(8, 220)
PASSES = st.integers(1, 9)
SCHEMES = st.sampled_from(["random", "stratified"])


def masks_of(**changes):
    arguments = {"seed": 7, "case": "sub-r001s001", "slice_index": 90, "mask_ratio": 0.5}
    arguments |= {"passes": 5, "patches": 196, "scheme": "random"}
    return slice_masks(**arguments | changes)


@settings(max_examples=80)
@given(RATIOS, PATCHES, PASSES, st.integers(1, 4), SCHEMES)
@example(0.5, 196, 2, 2, "stratified").via("as few as lean has, exactly balanced")
@example(0.75, 196, 2, 2, "stratified").via("as few as lean has, then exactly balanced")
@example(0.25, 196, 4, 1, "stratified").via("as few as lean has, exactly balanced")
def test_passes_mask_equal_numbers_and_further_ones_leave_them_alone(
    ratio, patches, passes, more, scheme
):
    options = {"mask_ratio": ratio, "patches": patches, "scheme": scheme}
    masks = masks_of(passes=passes, **options)
    assert masks.shape == (passes, patches)
    assert masks.dtype == np.bool_
    assert (masks.sum(axis=1) == round(patches * ratio)).all()
    longer = masks_of(passes=passes + more, **options)
    assert np.array_equal(longer[:passes], masks)
    if scheme == "stratified":
        for drawn in (masks, longer):
            times = drawn.sum(axis=0)
            assert times.max() - times.min() <= 1
            assert times.min() >= 1 or len(drawn) * masked_count(patches, ratio) < patches


def test_coverage_counts_the_least_and_the_mean():
    masks = torch.tensor([[[True, True, False], [True, False, True]]])
    assert coverage(masks) == (1, pytest.approx(4 / 3))
    assert coverage(masks[:, :1]) == (0, pytest.approx(2 / 3))


@pytest.mark.parametrize("scheme", ["random", "stratified"])
@pytest.mark.parametrize("change", [{"seed": 8}, {"case": "sub-r001s002"}, {"slice_index": 91}])
def test_another_seed_case_or_slice_gets_other_masks(scheme, change):
    assert not np.array_equal(masks_of(scheme=scheme), masks_of(scheme=scheme, **change))


TISSUES = st.lists(st.booleans(), min_size=16, max_size=196).map(
    lambda drawn: np.array([True] * 16 + drawn)
)


def tissue_masks_of(tissue, **changes):
    arguments = {"seed": 7, "case": "a", "slice_index": 9, "mask_ratio": 0.5, "passes": 4}
    return tissue_masks(tissue, **arguments | changes)


@settings(max_examples=60)
@given(TISSUES, st.floats(0.01, 0.99), PASSES, st.integers(1, 4))
def test_tissue_is_dealt_out_and_background_is_hidden(tissue, ratio, passes, more):
    masks = tissue_masks_of(tissue, mask_ratio=ratio, passes=passes)
    longer = tissue_masks_of(tissue, mask_ratio=ratio, passes=passes + more)
    assert np.array_equal(longer[:passes], masks), "further passes leave the earlier ones alone"
    assert masks.shape == (passes, len(tissue))
    patches = int(tissue.sum())
    count = min(patches - 1, math.ceil(patches * ratio - 1e-9))
    assert (masks[:, tissue].sum(axis=1) == count).all()
    times = masks[:, tissue].sum(axis=0)
    assert times.max() - times.min() <= 1
    if passes >= 1 / ratio:
        assert times.min() >= 1, "every patch is hidden in one pass at least"
    visible = (~masks).sum(axis=1)
    assert len(set(visible)) == 1
    # background is shown for no other reason than to give slices a common number
    assert visible[0] % STEP == 0 or not masks[:, ~tissue].any()
    assert (~masks[:, ~tissue]).sum(axis=1).max(initial=0) < STEP


def test_tissue_everywhere_is_masked_as_stratified():
    asked = {"case": "a", "slice_index": 9, "mask_ratio": 0.75, "passes": 4}
    expected = masks_of(scheme="stratified", **asked)
    assert np.array_equal(tissue_masks_of(np.ones(196, np.bool_), **asked), expected)


def test_ratios_and_passes_are_independent():
    masks = masks_of(passes=6)
    agreement = [(masks[a] == masks[b]).mean() for a in range(6) for b in range(a)]
    assert 0.3 < min(agreement) <= max(agreement) < 0.7
    # Nested masks would leave nothing that is masked at 50 % and visible at 75 %.
    at_three_quarters = masks_of(passes=6, mask_ratio=0.75)
    assert (masks & ~at_three_quarters).any(axis=1).all()


def test_each_patch_is_masked_as_often_as_any_other_over_many_slices():
    for scheme in ("random", "stratified"):
        drawn = [masks_of(slice_index=z, passes=1, scheme=scheme) for z in range(2000)]
        # Five standard deviations of a binomial share at 2000 draws.
        assert np.abs(np.concatenate(drawn).mean(axis=0) - 0.5).max() < 5 * 0.5 / 2000**0.5


def test_masks_stay_what_they_were():
    """Stored residuals and their cache keys rely on this draw: it must never change unnoticed."""
    for masks, digest in (
        (masks_of(scheme="random"), "35e428e98dad8c1c"),
        (masks_of(scheme="stratified"), "80fb544be31b6142"),
        (tissue_masks_of(np.arange(196) < 90), "50f4f9fc5ff8d326"),
    ):
        assert hashlib.sha256(np.packbits(masks).tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_ratio": 0.001}, "masks 0 of 196"),
        ({"mask_ratio": 0.999}, "masks 196 of 196"),
        ({"passes": 0}, "passes is 0"),
        ({"scheme": "grid"}, "no mask scheme is called 'grid'"),
    ],
)
def test_impossible_masks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        masks_of(**change)


@settings(max_examples=30)
@given(st.integers(1, 6), PATCHES, RATIOS)
def test_training_masks_follow_their_generator_with_the_same_number_in_every_row(
    batch, patches, ratio
):
    first, second = (torch.Generator().manual_seed(3) for _ in range(2))
    masks = training_masks(first, batch, patches, ratio)
    assert masks.shape == (batch, patches)
    assert masks.dtype == torch.bool
    assert (masks.sum(dim=1) == round(patches * ratio)).all()
    assert torch.equal(masks, training_masks(second, batch, patches, ratio))
    drawn = torch.cat([training_masks(first, 4, 196, 0.75) for _ in range(2)])
    assert len({tuple(row.tolist()) for row in drawn}) == 8, "neither rows nor draws repeat"
