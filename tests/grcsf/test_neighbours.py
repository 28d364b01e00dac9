"""Which slices a network sees with a slice, in the middle of a volume and at its ends."""

import pytest
import torch

from grcsf.neighbours import Reach, reach, with_neighbours


@pytest.mark.parametrize(
    ("start", "stop", "depth", "expected"),
    [
        (5, 6, 20, Reach(slice(3, 8), 0, 0)),
        (0, 1, 20, Reach(slice(0, 3), 2, 0)),
        (1, 4, 20, Reach(slice(0, 6), 1, 0)),
        (18, 20, 20, Reach(slice(16, 20), 0, 2)),
        (0, 1, 1, Reach(slice(0, 1), 2, 2)),
    ],
)
def test_two_neighbours_on_each_side_as_far_as_the_volume_goes(start, stop, depth, expected):
    assert reach(start, stop, depth, 2) == expected


def test_the_middle_channel_is_the_slice_and_beyond_the_ends_is_nothing():
    volume = torch.arange(1.0, 5.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 3)
    shown = with_neighbours(volume, 2, before=2, after=2)
    assert shown.shape == (4, 5, 2, 3)
    assert shown[..., 1, 2].tolist() == [
        [0, 0, 1, 2, 3],
        [0, 1, 2, 3, 4],
        [1, 2, 3, 4, 0],
        [2, 3, 4, 0, 0],
    ]
    assert torch.equal(with_neighbours(volume, 0), volume)


@pytest.mark.parametrize("context", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_parts_of_a_volume_are_shown_as_the_whole_volume_shows_them(count, context):
    volume = torch.rand(7, 1, 4, 4)
    whole = with_neighbours(volume, context, before=context, after=context)
    for start in range(0, 7, count):
        stop = min(start + count, 7)
        part, *missing = reach(start, stop, 7, context)
        assert torch.equal(with_neighbours(volume[part], context, *missing), whole[start:stop])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reach(3, 5, 4, 1), "slices 3 to 4 are not among the volume's 4"),
        (lambda: reach(-1, 1, 4, 1), "slices -1 to 0 are not among the volume's 4"),
        (lambda: reach(0, 1, 4, -1), "context must be at least 0, found -1"),
        (lambda: with_neighbours(torch.zeros(4, 1, 2, 2), 2), "shown among 5, found 4"),
    ],
)
def test_slices_that_are_not_there_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
