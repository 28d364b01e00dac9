"""Intensity scaling, with the integers and degenerate volumes that scanners send."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grcsf.intensity import foreground_quantiles, scale_percentiles, scale_window


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64])
def test_a_window_by_hand(dtype):
    hu = np.array([[-2000, -1024], [-349, 325]], dtype=dtype)
    scaled = scale_window(hu, -1024, 325)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0, 0], [675 / 1349, 1]], atol=1e-6)


def test_int16_does_not_overflow():
    extremes = np.array([-32768, 32767], dtype=np.int16)
    np.testing.assert_array_equal(scale_window(extremes, -1024, 325), [0, 1])
    np.testing.assert_allclose(scale_window(extremes, -40000, 40000), [0.0904, 0.90959], atol=1e-4)


@given(arrays(np.int16, (3, 4, 5)), st.integers(-3000, 0), st.integers(1, 3000))
def test_scaled_values_are_ordered_and_in_range(array, low, high):
    before = array.copy()
    scaled = scale_window(array, low, high)
    assert scaled.shape == array.shape
    assert scaled.min() >= 0
    assert scaled.max() <= 1
    order = np.argsort(array, axis=None, kind="stable")
    assert (np.diff(scaled.ravel()[order]) >= 0).all()
    assert np.array_equal(array, before)


def test_percentiles_scale_between_the_given_values():
    np.testing.assert_allclose(scale_percentiles([10, 20, 40, 90], 20, 60), [0, 0, 0.5, 1])
    # a case without contrast is black
    scaled = scale_percentiles(np.full((2, 2), 7, dtype=np.int16), 7, 7)
    assert scaled.dtype == np.float32
    assert not scaled.any()


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_background_does_not_count(dtype):
    volume = np.zeros((4, 10, 10), dtype=dtype)
    volume[1:3, 2:7, 2:7] = np.arange(50).reshape(2, 5, 5) + 1
    actual = foreground_quantiles(volume, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(actual, [1, 25.5, 50])
    assert actual.dtype == np.float64
    # a constant volume has its value throughout
    volume = np.full((2, 3, 4), -1024, dtype=np.int16)
    np.testing.assert_array_equal(foreground_quantiles(volume, [0.0, 0.02, 1.0]), [-1024] * 3)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        *((scale_window, (*window,), "is not below") for window in ((5, 5), (6, 5), (np.nan, 5))),
        *(
            (scale_percentiles, (*pair,), "ascending pair")
            for pair in ((2, 1), (np.nan, 1), (0, np.inf))
        ),
        (foreground_quantiles, ([0.5, 98],), r"not within \[0, 1\]"),
    ],
)
def test_what_does_not_ascend_or_is_no_level_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(np.arange(8), *arguments)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_volumes_that_are_not_finite_or_empty_are_refused(bad):
    with pytest.raises(ValueError, match="NaN or infinite"):
        foreground_quantiles(np.array([[[0, 1], [2, bad]]]), [0.5])
    with pytest.raises(ValueError, match="no voxels"):
        foreground_quantiles(np.zeros((0, 2, 2)), [0.5])
