"""AdamW decays weights, not norms and biases, and takes torch's own steps."""

import copy

import pytest
import torch
from torch import nn

from grcsf.mae.build import build_masked_model
from grcsf.mae.optimiser import build_optimiser, decay_groups


@pytest.mark.parametrize("architecture", ["mae", "simmim"])
def test_only_weights_of_several_axes_decay(architecture):
    model = build_masked_model(architecture, "tiny", image_size=32, patch_size=8)
    decayed, kept = decay_groups(model, 0.05)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    group_of = {id(weights): "decayed" for weights in decayed["params"]}
    group_of |= {id(weights): "kept" for weights in kept["params"]}
    names = dict(model.named_parameters())
    plain = {name for name, weights in names.items() if group_of.get(id(weights)) == "kept"}
    trained = {name for name, weights in names.items() if weights.requires_grad}
    spared = ("norm", "layernorm")
    assert plain == {
        name
        for name in trained
        if name.endswith("bias") or any(part in name.lower() for part in spared)
    }
    assert len(group_of) == len(trained)


def test_adamw_steps_as_torch_s_own_does_with_decay_on_the_weights_alone():
    torch.manual_seed(0)
    layer, inputs = nn.Linear(3, 2), torch.rand(4, 3)
    twin = copy.deepcopy(layer)
    ours = build_optimiser(layer, "adamw", 0.1, (0.9, 0.95), 0.5)
    alike = {"lr": 0.1, "betas": (0.9, 0.95), "fused": True}
    decayed = torch.optim.AdamW([twin.weight], weight_decay=0.5, **alike)
    plain = torch.optim.AdamW([twin.bias], weight_decay=0.0, **alike)
    for _ in range(5):
        for network, steps in ((layer, [ours]), (twin, [decayed, plain])):
            network.zero_grad()
            network(inputs).square().sum().backward()
            for one in steps:
                one.step()
    assert torch.equal(layer.weight, twin.weight)
    assert torch.equal(layer.bias, twin.bias)
    with pytest.raises(ValueError, match="there are: adam, adamw"):
        build_optimiser(layer, "sgd", 0.1, (0.9, 0.95), 0.0)
