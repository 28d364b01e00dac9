"""Presets fill in masks and passes; every map has a title of its own."""

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


def test_maps_of_one_ratio_have_titles_of_their_own():
    def titles(*maps):
        listed = [{"mae": mae, "mask_ratio": ratio, "passes": 1} for mae, ratio in maps]
        chosen = {"masks": "random", "visible": "paste", "maps": listed}
        return Residuals.model_validate(chosen).titles

    assert titles(("a", 0.5), ("a", 0.75)) == ("Residual, 50% masked", "Residual, 75% masked")
    assert titles(("a", 0.5), ("b", 0.5)) == ("Residual, 50% masked, a", "Residual, 50% masked, b")
    assert len(set(titles(("a", 0.5), ("a", 0.5), ("b", 0.5)))) == 3
