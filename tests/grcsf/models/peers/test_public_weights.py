"""Public weights are taken whole or refused in one line."""

import pytest
import torch

from grcsf.models.peers.public_weights import filled

OWN = {
    "first.weight": torch.zeros(2, 4, 3, 3),
    "norm.num_batches_tracked": torch.tensor(7),
    "head.weight": torch.zeros(1, 2),
}


def given(**changes):
    ours = {"first.weight": torch.ones(2, 4, 3, 3), "head.weight": torch.ones(1, 2)}
    return {name: value for name, value in (ours | changes).items() if value is not None}


def test_only_a_kernel_without_residual_maps_is_widened():
    for channels, maps in ((1, 0), (1, 1), (2, 1)):
        other = given(**{"first.weight": torch.ones(2, channels, 3, 3)})
        with pytest.raises(ValueError, match=rf"1 mis-shaped \(first.weight \(2, {channels}, 3, 3"):
            filled(OWN, other, network="N", widened=["first.weight"], maps=maps)


def test_all_is_taken_but_what_older_files_lack():
    state = filled(OWN, given(), network="N")
    assert list(state) == list(OWN)
    assert state["first.weight"].all()
    assert state["norm.num_batches_tracked"] == 7


def test_what_may_stay_stays_and_further_channels_too():
    narrow = given(**{"first.weight": torch.ones(2, 3, 3, 3), "head.weight": None})
    state = filled(OWN, narrow, network="N", kept=("head.",), widened=["first.weight"], maps=1)
    assert not state["head.weight"].any()
    assert state["first.weight"][:, :3].all()
    assert not state["first.weight"][:, 3:].any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.weight": None}, r"N: 1 missing \(head.weight\)$"),
        ({name: torch.ones(1) for name in "abcde"}, r"5 unexpected \(a, b, c and 2 more\)$"),
        (
            {"head.weight": torch.ones(3, 2)},
            r"1 mis-shaped \(head.weight \(3, 2\) instead of \(1, 2\)\)$",
        ),
        ({"first.weight": torch.ones(2, 3, 3, 3)}, r"mis-shaped \(first.weight \(2, 3, 3, 3\)"),
        ({"first.weight": torch.ones(3, 3, 3, 3)}, r"mis-shaped \(first.weight \(3, 3, 3, 3\)"),
        ({"head.weight": torch.full((1, 2), torch.nan)}, r"1 not finite \(head.weight\)$"),
    ],
)
@pytest.mark.parametrize("widened", [(), ("head.weight",)])
def test_anything_else_is_refused(changes, message, widened):
    with pytest.raises(ValueError, match=message):
        filled(OWN, given(**changes), network="N", widened=widened)
