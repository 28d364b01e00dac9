"""A unit's contribution is how far it moves its features, relative to them."""

import pytest
import torch

from grcsf.contributions import recorded_contributions, unit_factors, units_of
from grcsf.models.build import GlobalUnits, RegionalUnits, build_segmentation_model

SLICE, MAPS = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)


def build(name="grcsf", start=1, **units):
    torch.manual_seed(0)
    units = units or {
        "gcu": GlobalUnits(levels=(0, 3), start=start),
        "rcu": RegionalUnits((1,), (4,), start=start),
    }
    return build_segmentation_model(name, width=4, input_size=(32, 32), **units).eval()


def contributions(model):
    with torch.inference_mode(), recorded_contributions(model) as found:
        logits = model(SLICE, MAPS)
        assert torch.equal(logits, model(SLICE, MAPS)), "looking changes nothing"
    return found


def test_units_that_start_at_nothing_contribute_nothing():
    model = build(start=0)
    assert list(units_of(model)) == ["gcu_0", "gcu_3", "rcu_1"]
    assert contributions(model) == dict.fromkeys(units_of(model), 0)
    assert unit_factors(model) == dict.fromkeys(["gcu_0_a", "gcu_3_a", "rcu_1_w1", "rcu_1_w2"], 0)


def test_contributions_are_those_computed_by_hand():
    model = build()
    seen = {}
    gcu, rcu = model.gcus["0"], model.rcus["1"]
    gcu.register_forward_hook(lambda _, inputs, r: seen.update(gcu=(inputs[0], inputs[0] * r)))
    rcu.register_forward_hook(lambda _, inputs, m: seen.update(rcu=(inputs[0], m - inputs[0])))
    found = contributions(model)
    for name, key in (("gcu_0", "gcu"), ("rcu_1", "rcu")):
        given, added = seen[key]
        expected = (added.square().sum() / given.square().sum()).sqrt()
        torch.testing.assert_close(found[name], expected)
        assert found[name] > 0
    with torch.no_grad():
        rcu.map_weights.copy_(torch.tensor([2.0, 3.0]))
        rcu.attention.scale.fill_(0.5)
    assert unit_factors(model) == {"rcu_1_w1": 1, "rcu_1_w2": 1.5}, "the printed GCU has no factor"


@pytest.mark.parametrize("kind", ["attention_gate", "pyramid"])
def test_other_units_on_the_skips_are_measured_too(kind):
    found = contributions(build(gcu=GlobalUnits(kind, (1,)), rcu=None))
    assert list(found) == ["gcu_1"]
    assert found["gcu_1"] > 0


def test_a_network_without_units_has_none():
    model = build_segmentation_model("unet", width=4)
    assert units_of(model) == {}
    assert unit_factors(model) == {}
    assert contributions(model.eval()) == {}
