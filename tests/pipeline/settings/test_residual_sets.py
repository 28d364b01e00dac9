"""Presets fill in masks and passes; every map has a title of its own."""

import pytest

from pipeline.settings import Residuals


def passes(preset, *ratios):
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in ratios]
    return [part.passes for part in Residuals.model_validate({"preset": preset, "maps": maps}).maps]


def test_presets_give_masks_and_passes_and_yield_to_what_is_given(maps):
    fast = Residuals.model_validate({"preset": "fast", "maps": maps})
    assert (fast.masks, fast.visible) == ("stratified", "ignore")
    paper = Residuals.model_validate({"preset": "paper", "visible": "predict", "maps": maps})
    assert (paper.masks, paper.visible) == ("random", "predict")
    assert [part.passes for part in paper.maps] == [5, 5]


def test_a_preset_s_passes_follow_the_ratio_and_not_the_place():
    assert passes("fast", 0.75, 0.5) == [4, 2]
    assert passes("fast", 0.5) == [2]
    assert passes("lean", 0.5, 0.75, 0.3, 0.2) == [2, 2, 4, 5]
    assert passes("paper", 0.3) == [5]
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
