"""What every network that `build.py` names must do, in every variant."""

import pytest
import torch
from torch import nn

from grcsf.losses import mixed_loss
from grcsf.models import build as networks
from grcsf.models.peer_sizes import PEERS

# of a parameter's own size; what only rounding reaches lies below
GRADIENT_FLOOR = 1e-7
GRCSF, MAPS_IN = {"name": "grcsf"}, {"residual_input": True}
OURS = [name for name in networks.MODELS if name not in PEERS]
PEER = MAPS_IN | {"input_size": (64, 64)}
VARIANTS = {
    **{name: {"name": name} for name in OURS if name != "mae_unet"},
    "mae_unet": {
        "name": "mae_unet",
        "mae": networks.PretrainedEncoder("tiny", 64, 16, frozen=False),
    },
    "frozen mae_unet": {"name": "mae_unet", "mae": networks.PretrainedEncoder("tiny", 64, 16)},
    **{
        f"{kind} on the skips": GRCSF | {"gcu": networks.GlobalUnits(kind), "rcu": None}
        for kind in networks.SKIP_UNITS
    },
    "gcu at two levels of unet": GRCSF
    | {"backbone": "unet", "gcu": networks.GlobalUnits(levels=(0, 2)), "rcu": None},
    "rcu at 1/8 and full scale": GRCSF
    | {"gcu": None, "rcu": networks.RegionalUnits((3, 0), (3, 5))},
    "rcu in unet": GRCSF | {"backbone": "unet", "gcu": None},
    "rcu without importance": GRCSF | {"rcu": networks.PAPER_RCU._replace(importance=False)},
    "one residual map": GRCSF | {"residual_maps": 1},
    "three residual maps": GRCSF | {"residual_maps": 3},
    "mobilenet": GRCSF | {"encoder": "mobilenet"},
    "mobilenet in unet": {"name": "unet", "encoder": "mobilenet"},
    "maps into unetpp": MAPS_IN | {"name": "unetpp", "residual_maps": 3},
    "maps into grcsf": MAPS_IN | GRCSF,
    "maps into mobilenet": MAPS_IN | {"name": "unet", "encoder": "mobilenet"},
    "maps into mae_unet": MAPS_IN
    | {"name": "mae_unet", "mae": networks.PretrainedEncoder("tiny", 64, 16)},
    "neighbours of unetpp": {"name": "unetpp", "context": 1},
    "neighbours and maps into grcsf": MAPS_IN | GRCSF | {"context": 2},
    "neighbours of trans_fuse": {"name": "trans_fuse", "width": 8, "context": 1} | PEER,
    # tested by themselves, too, so at a small width
    **{name: PEER | {"name": name, "width": max(8, peer.multiple)} for name, peer in PEERS.items()},
}
# one variant of each encoder, backbone and unit: sizes and precisions concern these parts alone
PARTS = ["unet", "grcsf", "mae_unet", "mobilenet in unet"]
PARTS += [f"{kind} on the skips" for kind in networks.SKIP_UNITS if kind != "se"]  # which grcsf has
NAMES_AND_SIZES = [(name, (48, 64)) for name in VARIANTS] + [(name, (61, 53)) for name in PARTS]


@pytest.fixture(params=VARIANTS)
def variant(request):
    return VARIANTS[request.param]


def build(variant, seed=0):
    torch.manual_seed(seed)
    return networks.build_segmentation_model(**{"width": 4} | variant)


def learnt(variant, model):
    """Named parameters that training changes: all but an MAE's fixed or frozen ones."""
    named = dict(model.named_parameters())
    if variant["name"] != "mae_unet":
        return named
    fixed = "encoder." if variant["mae"].frozen else "encoder.pos_embed"
    return {key: value for key, value in named.items() if not key.startswith(fixed)}


def cancels(variant, key):
    """Spatial attention's one gate a pixel, which Eq. 1's cosine cancels."""
    spatial = variant.get("gcu") == networks.GlobalUnits("spatial")
    return spatial and "attention" in key


def batch(variant, size, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    own = PEERS[variant["name"]].context if variant["name"] in PEERS else 0
    slices = 1 + 2 * (own or variant.get("context", 0))
    image = torch.rand(count, slices, *size, generator=generator)
    maps = variant.get("residual_maps", 2)
    return image, torch.rand(count, maps, *size, generator=generator)


def revive(model):
    """In a network this narrow a hidden layer has one ReLU, dead at random with a zero bias."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.constant_(module.bias, 2.0)
            module.weight.data *= 0.3


@pytest.mark.parametrize("size", [(97, 131), (1, 5)])
@pytest.mark.parametrize("name", PARTS)
def test_logits_have_the_image_s_size(name, size):
    variant = VARIANTS[name]
    model = build(variant).eval()
    with torch.inference_mode():
        logits = model(*batch(variant, size))
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


@pytest.mark.parametrize(("name", "size"), NAMES_AND_SIZES)
def test_gradient_reaches_every_parameter(name, size):
    variant = VARIANTS[name]
    model = build(variant)
    revive(model)
    image, residuals = batch(variant, size)
    own = image.shape[1] // 2
    label = (image[:, own : own + 1] > 0.8).float()
    heads = model.supervised(image, residuals)
    assert {logits.shape for _, logits in heads} == {label.shape}
    sum(weight * mixed_loss(logits, label) for weight, logits in heads).backward()
    reached = {key for key, value in model.named_parameters() if value.grad is not None}
    assert reached == learnt(variant, model).keys()
    for key, parameter in learnt(variant, model).items():
        assert parameter.grad.isfinite().all(), key
        # Biases before a batch norm and of keys before a softmax have no effect, by nature.
        if parameter.ndim >= 2:
            reach = float(parameter.grad.abs().max() / parameter.detach().abs().max())
            little = cancels(variant, key) or name in PEERS  # of which their own tests ask more
            assert reach > (0 if little else GRADIENT_FLOOR), key


@pytest.mark.parametrize("name", [*PARTS, *PEERS])
def test_no_training_step_asks_the_device_for_a_value(name):
    # a graphics card would have to end its work first; tensors on `meta` have no value to give
    variant = VARIANTS[name]
    with torch.device("meta"):
        model = build(variant)
    image, residuals = (each.to("meta") for each in batch(variant, (48, 64)))
    heads = model.supervised(image, residuals)
    sum(
        weight * mixed_loss(logits, torch.empty_like(logits)) for weight, logits in heads
    ).backward()
    assert all(value.grad.is_meta for value in learnt(variant, model).values())


@pytest.mark.parametrize("content", ["black", "white", "a batch of one"])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", PARTS)
def test_value_and_gradient_stay_finite(name, content, autocast):
    variant = VARIANTS[name]
    model = build(variant)
    inputs = batch(variant, (61, 53), count=1)
    if content != "a batch of one":
        value = float(content == "white")
        inputs = [torch.full_like(each, value) for each in batch(variant, (37, 40))]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        logits = model(*inputs)
    target = (inputs[0] > 0.8) & (content == "a batch of one")
    mixed_loss(logits, target.float()).backward()
    assert logits.isfinite().all()
    for key, parameter in learnt(variant, model).items():
        assert parameter.grad.isfinite().all(), key


def test_bfloat16_autocast_is_near_float32(variant):
    # batch norm of random layers as deep as MobileNet's lets rounding grow, so not while training
    model = build(variant).eval()
    image, residuals = batch(variant, (61, 53))
    with torch.inference_mode():
        expected = model(image, residuals)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(image, residuals)
    # autocast resizes and weighs subpixels in float32
    assert logits.dtype == torch.bfloat16 or variant["name"] in PEERS
    step = expected.abs().mean() / 2**8  # of bfloat16 at logits that hardly vary
    assert (logits - expected).abs().mean() < 0.1 * expected.std() + step  # unrelated: > std


def test_a_slice_does_not_depend_on_its_batch(variant):
    model = build(variant).eval()
    image, residuals = batch(variant, (48, 48), count=3)
    with torch.inference_mode():
        alone = model(image[1:2], residuals[1:2])
        torch.testing.assert_close(model(image, residuals)[1:2], alone, rtol=1e-4, atol=1e-4)


def test_residual_maps_matter_exactly_where_they_are_used(variant):
    model = build(variant).eval()
    image, residuals = batch(variant, (48, 48))
    rcu, into = variant.get("rcu", networks.PAPER_RCU), variant.get("residual_input", False)
    used = networks.uses_residuals(variant["name"], rcu, residual_input=into)
    with torch.inference_mode():
        logits = model(image, residuals)
        assert torch.equal(logits, model(image, 1 - residuals)) != used
        if used:
            with pytest.raises(ValueError, match="needs residual maps"):
                model(image)
            number = residuals.shape[1]
            with pytest.raises(ValueError, match=f"expected {number} .* found {2 * number}"):
                model(image, torch.cat([residuals, residuals], dim=1))
        else:
            assert torch.equal(model(image), logits)


@pytest.mark.parametrize(
    ("image", "residuals", "message"),
    [
        ((2, 3, 32, 32), (2, 2, 32, 32), "image must be"),
        ((1, 32, 32), (2, 2, 32, 32), "image must be"),
        ((2, 1, 32, 32), (2, 2, 32, 31), "residuals must be"),
        ((2, 1, 32, 32), (1, 2, 32, 32), "residuals must be"),
        ((2, 1, 32, 32), (2, 32, 32), "residuals must be"),
    ],
)
@pytest.mark.parametrize("name", OURS)
def test_wrong_shapes_are_refused(name, image, residuals, message):
    with pytest.raises(ValueError, match=message):
        build(VARIANTS[name])(torch.zeros(image), torch.zeros(residuals))
