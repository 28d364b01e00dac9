"""Presets fill in masks and passes."""

import pytest

from pipeline.settings import Residuals


def residuals(preset, *ratios, **more):
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in ratios]
    return Residuals.model_validate({"preset": preset, "maps": maps, **more})


def passes(preset, *ratios):
    return [part.passes for part in residuals(preset, *ratios).maps]


def test_a_preset_gives_masks_and_passes_by_ratio_and_yields_to_what_is_given():
    fast, paper = residuals("fast", 0.5), residuals("paper", 0.5, visible="predict")
    assert (fast.masks, fast.visible) == ("stratified", "ignore")
    assert (paper.masks, paper.visible) == ("random", "predict")
    assert passes("fast", 0.75, 0.5) == [4, 2]
    assert passes("fast", 0.5) == [2]
    assert passes("lean", 0.5, 0.75, 0.3, 0.2) == [2, 2, 4, 5]
    assert passes("paper", 0.3, 0.5) == [5, 5]
    with pytest.raises(ValueError, match="passes"):
        passes("fast", 0.3)
