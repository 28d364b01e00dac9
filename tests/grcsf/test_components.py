"""Components: what connects, how large they are, which are kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage import measure

from grcsf.components import filter_components, label_lesions, lesion_sizes
from tests.grcsf.volumes import lesion_masks, row


@pytest.mark.parametrize("second", [(0, 0, 1), (1, 0, 0), (0, 1, 1), (1, 1, 0), (1, 1, 1)])
def test_only_shared_faces_connect(second):
    mask = np.zeros((2, 2, 2), bool)
    mask[0, 0, 0] = mask[second] = True
    assert label_lesions(mask)[1] == (1 if sum(second) == 1 else 2)


@given(lesion_masks, st.permutations(range(3)), st.sets(st.integers(0, 2)))
def test_components_agree_with_skimage_in_any_orientation(mask, axes, flipped):
    components, number = label_lesions(mask)
    expected, expected_number = measure.label(mask, connectivity=1, return_num=True)
    assert number == expected_number
    assert (components == ndimage.label(mask)[0]).all(), "numbered in scan order"
    pairs = np.unique(np.stack([components.ravel(), expected.ravel()]), axis=1)
    assert pairs.shape[1] == len(set(pairs[0])) == len(set(pairs[1]))
    areas = [region.num_pixels for region in measure.regionprops(components)]
    assert lesion_sizes(mask).tolist() == areas
    assert lesion_sizes(mask).sum() == mask.sum()
    assert sorted(lesion_sizes(np.flip(mask.transpose(axes), [*flipped]))) == sorted(areas)


def test_small_components_are_dropped_by_volume():
    mask = row("#.##.###")
    assert filter_components(mask, (2, 1, 1), 0).tolist() == mask.tolist()
    assert filter_components(mask, (2, 1, 1), 4).tolist() == row("..##.###").tolist()
    assert filter_components(mask, (2, 1, 1), 4.01).tolist() == row(".....###").tolist()
    assert not filter_components(mask, (2, 1, 1), 100).any()
    assert mask.tolist() == row("#.##.###").tolist(), "the input stays as it is"
    changed = filter_components(mask, (2, 1, 1), 4, in_place=True)
    assert changed is mask
    assert mask.tolist() == row("..##.###").tolist()


def test_a_volume_equal_to_the_minimum_is_kept_whatever_its_rounding():
    spacing = (0.1, 1.0, 1.0)
    for voxels in range(1, 60):
        mask = np.ones((1, 1, voxels), bool)
        assert filter_components(mask, spacing, voxels / 10).all()
        assert not filter_components(mask, spacing, (voxels + 0.5) / 10).any()
