"""What every network that `build.py` names must do. A new name is tested here by itself."""

import pytest
import torch
from torch import nn

from grcsf.losses import mixed_loss
from grcsf.models.build import MODELS, build_segmentation_model, uses_residuals

SIZES = [(48, 64), (97, 131), (61, 53), (1, 5)]


@pytest.fixture(params=MODELS)
def name(request):
    return request.param


def build(name, seed=0):
    torch.manual_seed(seed)
    return build_segmentation_model(name, width=4)


def batch(size, count=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 1, *size, generator=generator)
    return image, torch.rand(count, 2, *size, generator=generator)


def revive(model):
    """In a network this narrow a hidden layer has one ReLU, dead at random with a zero bias."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, 2.0)


@pytest.mark.parametrize("size", SIZES)
def test_logits_have_the_image_s_size(name, size):
    model = build(name).eval()
    with torch.inference_mode():
        logits = model(*batch(size))
    assert logits.shape == (2, 1, *size)
    assert logits.isfinite().all()


def test_batch_of_one_trains(name):
    image, residuals = batch((32, 48), count=1)
    logits = build(name)(image, residuals)
    assert logits.shape == (1, 1, 32, 48)
    assert logits.isfinite().all()


@pytest.mark.parametrize("size", [(48, 64), (61, 53)])
def test_gradient_reaches_every_parameter(name, size):
    model = build(name)
    revive(model)
    image, residuals = batch(size)
    mixed_loss(model(image, residuals), (image > 0.8).float()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        # Biases before a batch norm and of keys before a softmax have no effect, by nature.
        assert parameter.ndim < 2 or parameter.grad.any(), key


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_inputs_stay_finite_in_value_and_gradient(name, value):
    model = build(name)
    image = torch.full((2, 1, 37, 40), value)
    residuals = torch.full((2, 2, 37, 40), value)
    logits = model(image, residuals)
    mixed_loss(logits, torch.zeros_like(logits)).backward()
    assert logits.isfinite().all()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


def test_bfloat16_autocast_is_near_float32(name):
    model = build(name)
    image, residuals = batch((61, 53))
    expected = model(image, residuals)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(image, residuals)
    mixed_loss(logits, (image > 0.8).float()).backward()
    assert logits.dtype == torch.bfloat16
    assert (logits - expected).abs().mean() < 0.2 * expected.std()  # unrelated: > 1
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_one_seed_gives_one_network_and_one_result(name):
    results = []
    for seed in (3, 3, 4):
        with torch.inference_mode():
            results.append(build(name, seed)(*batch((48, 48))))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_slice_does_not_depend_on_its_batch(name):
    model = build(name).eval()
    image, residuals = batch((48, 48), count=3)
    with torch.inference_mode():
        together = model(image, residuals)
        alone = model(image[1:2], residuals[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-4)


def test_residual_maps_matter_exactly_where_they_are_used(name):
    model = build(name).eval()
    image, residuals = batch((48, 48))
    with torch.inference_mode():
        same = torch.equal(model(image, residuals), model(image, 1 - residuals))
    assert same != uses_residuals(name)


def test_missing_residual_maps_are_refused_where_they_are_used(name):
    model = build(name).eval()
    image, _ = batch((32, 32))
    if uses_residuals(name):
        with pytest.raises(ValueError, match="needs residual maps"):
            model(image)
    else:
        assert model(image).shape == image.shape


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
def test_wrong_shapes_are_refused(name, image, residuals, message):
    with pytest.raises(ValueError, match=message):
        build(name)(torch.zeros(image), torch.zeros(residuals))
