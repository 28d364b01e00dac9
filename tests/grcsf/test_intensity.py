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


@pytest.mark.parametrize("window", [(5, 5), (6, 5), (float("nan"), 5)])
def test_a_window_must_ascend(window):
    with pytest.raises(ValueError, match="is not below"):
        scale_window(np.zeros(3), *window)


def test_percentiles_scale_between_the_given_values():
    np.testing.assert_allclose(scale_percentiles([10, 20, 40, 90], 20, 60), [0, 0, 0.5, 1])


def test_a_case_without_contrast_is_black():
    scaled = scale_percentiles(np.full((2, 2), 7, dtype=np.int16), 7, 7)
    assert scaled.dtype == np.float32
    assert not scaled.any()


@pytest.mark.parametrize("values", [(2, 1), (float("nan"), 1), (0, float("inf"))])
def test_percentile_values_must_ascend_and_be_finite(values):
    with pytest.raises(ValueError, match="ascending pair"):
        scale_percentiles(np.zeros(3), *values)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_background_does_not_count(dtype):
    volume = np.zeros((4, 10, 10), dtype=dtype)
    volume[1:3, 2:7, 2:7] = np.arange(50).reshape(2, 5, 5) + 1
    actual = foreground_quantiles(volume, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(actual, [1, 25.5, 50])
    assert actual.dtype == np.float64


def test_a_constant_volume_has_its_value_throughout():
    volume = np.full((2, 3, 4), -1024, dtype=np.int16)
    np.testing.assert_array_equal(foreground_quantiles(volume, [0.0, 0.02, 1.0]), [-1024] * 3)


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(-1e4, 1e4, width=32)))
def test_quantiles_ascend_within_the_volume(volume):
    actual = foreground_quantiles(volume, [0.0, 0.01, 0.5, 0.99, 1.0])
    assert (np.diff(actual) >= 0).all()
    assert volume.min() <= actual[0]
    assert actual[-1] == volume.max()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_volumes_that_are_not_finite_are_refused(bad):
    volume = np.arange(8.0).reshape(2, 2, 2)
    volume[0, 1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        foreground_quantiles(volume, [0.5])


def test_no_voxels_and_no_such_levels_are_refused():
    with pytest.raises(ValueError, match="no voxels"):
        foreground_quantiles(np.zeros((0, 2, 2)), [0.5])
    with pytest.raises(ValueError, match=r"not within \[0, 1\]"):
        foreground_quantiles(np.arange(8), [0.5, 98])
