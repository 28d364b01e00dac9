"""Whether a residual map is brighter in lesions than around them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from sklearn.metrics import roc_auc_score

from grcsf.contrast import lesion_contrast

LESION = np.zeros((2, 9, 9), bool)
LESION[0, 4, 3:6] = True


def test_by_hand():
    # three lesion pixels among eight neighbours, one step away
    maps = np.zeros(LESION.shape, np.float16)
    assert lesion_contrast(maps, LESION, 1) == 0.5, "all the same is chance"
    maps[0, 4, 3] = 2
    assert lesion_contrast(maps, LESION, 1) == pytest.approx((8 + 2 * 4) / 24)
    maps[0, 3, 3] = 1
    assert lesion_contrast(maps, LESION, 1) == pytest.approx((8 + 2 * 3.5) / 24)
    assert lesion_contrast(-maps, LESION, 1) == pytest.approx(1 - (8 + 2 * 3.5) / 24)
    maps[0, 0] = maps[1] = 9  # what is far away or in another slice does not count
    assert lesion_contrast(maps, LESION, 1) == pytest.approx((8 + 2 * 3.5) / 24)


@given(seed=st.integers(0, 999), reach=st.integers(1, 9))
def test_agrees_with_scikit_learn(seed, reach):
    random = np.random.default_rng(seed)
    maps = random.integers(0, 6, (2, 12, 11)).astype(np.float16)
    lesion = random.random((2, 12, 11)) > 0.95
    lesion[0, 0, 0], lesion[0, 0, 1] = True, False
    around = np.stack([binary_dilation(plane, iterations=reach) for plane in lesion]) & ~lesion
    truth = np.concatenate([np.ones(lesion.sum()), np.zeros(around.sum())])
    expected = roc_auc_score(truth, np.concatenate([maps[lesion], maps[around]]))
    assert lesion_contrast(maps, lesion, reach) == pytest.approx(expected)


def test_nothing_to_compare_is_undefined():
    maps = np.ones((2, 9, 9))
    assert math.isnan(lesion_contrast(maps, np.zeros(maps.shape, bool)))
    assert math.isnan(lesion_contrast(maps, np.ones(maps.shape, bool)))
    with pytest.raises(ValueError, match="differ in shape"):
        lesion_contrast(maps[:1], np.zeros(maps.shape, bool))
