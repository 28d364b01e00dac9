"""Units that start at nothing: their first features are those of their backbone, and they learn."""

import pytest
import torch

from grcsf.models.build import GlobalUnits, RegionalUnits, build_segmentation_model
from grcsf.models.gcu import GlobalCompensationUnit
from grcsf.models.rcu import RegionalCompensationUnit

KINDS = ("se", "spatial", "coordinate")
SLICE, MAPS = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)


def grcsf(start, gcu="se", rcu=True):
    torch.manual_seed(0)
    units = {
        "gcu": GlobalUnits(gcu, start=start) if gcu else None,
        "rcu": RegionalUnits(patch_sizes=(4, 4, 8), start=start) if rcu else None,
    }
    return build_segmentation_model("grcsf", width=4, input_size=(32, 32), **units)


def factors(model):
    gcus = [unit.scale for unit in model.gcus.values() if unit.scale is not None]
    return [*gcus, *(unit.attention.scale for unit in model.rcus.values())]


@pytest.mark.parametrize(("gcu", "rcu"), [(None, True), *((kind, False) for kind in KINDS)])
def test_at_0_the_first_step_is_the_backbone_s_and_every_factor_learns(gcu, rcu):
    model = grcsf(0, gcu, rcu).train()
    expected = model.backbone(SLICE)
    logits = model(SLICE, MAPS)
    assert torch.equal(logits, expected)
    logits.square().mean().backward()
    assert factors(model)
    for factor in factors(model):
        assert factor == 0
        assert factor.grad.abs() > 0
    with torch.no_grad():
        for factor in factors(model):
            factor.fill_(0.5)
    assert not torch.equal(model(SLICE, MAPS), expected)


def test_a_factor_of_1_is_the_unit_as_printed_which_has_none():
    unit, printed = GlobalCompensationUnit(4, start=0), GlobalCompensationUnit(4)
    assert set(unit.state_dict()) - set(printed.state_dict()) == {"scale"}
    features, level_map = torch.rand(1, 4, 6, 6), torch.rand(1, 1, 6, 6)
    with torch.no_grad():
        unit.scale.fill_(1)
    assert torch.equal(unit.update(features, level_map), printed.update(features, level_map))


def test_both_starts_draw_the_same_weights():
    at_0, at_1 = grcsf(0).state_dict(), grcsf(1).state_dict()
    assert [key for key in at_0 if key not in at_1] == [f"gcus.{level}.scale" for level in range(4)]
    assert all(at_1[key] == 1 for key in at_1 if key.endswith("attention.scale"))
    others = [key for key in at_1 if not key.endswith("scale")]
    assert all(torch.equal(at_0[key], at_1[key]) for key in others)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GlobalCompensationUnit(4, start=2), "start must be 0 or 1, found 2"),
        (lambda: RegionalCompensationUnit(4, 4, None, start=-1), "start must be 0 or 1, found -1"),
        (lambda: grcsf(0, "pyramid"), "gcu kind 'pyramid' has no start, found 0"),
    ],
)
def test_other_starts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
