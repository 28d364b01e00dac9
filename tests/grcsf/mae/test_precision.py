"""Lower precision and compiled layers: what is lowered, and how little either changes."""

import copy
from functools import partial

import pytest
import torch
from scipy import stats
from torch._dynamo.utils import counters

from grcsf.mae.build import build_masked_model
from grcsf.mae.masking import training_masks
from grcsf.mae.precision import Int8Linear, at_precision, compile_layers
from grcsf.reference import reference_residuals
from grcsf.residuals import multi_ratio_residuals

PASTED = {"visible": "paste", "kind": "abs"}


@pytest.fixture(params=["mae", "simmim"])
def model(request):
    torch.manual_seed(0)
    built = build_masked_model(request.param, "tiny", image_size=48, patch_size=8).eval()
    if request.param == "mae":
        # predictions around 0.5, where clipping does not hide errors
        torch.nn.init.constant_(built.decoder_pred.bias, 0.5)
    return built


@pytest.fixture
def images():
    return torch.rand(3, 1, 48, 48, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def masks():
    drawn = training_masks(torch.Generator().manual_seed(0), 15, 36, 0.5)
    return drawn.unflatten(0, (3, 5))


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_residuals_hardly_change(model, images, masks, precision):
    expected = reference_residuals([model], images, [masks], **PASTED)
    lowered = at_precision(model, precision)
    actual = multi_ratio_residuals([lowered], images, [masks], dtype=torch.bfloat16, **PASTED)
    assert actual.dtype == torch.float32
    assert (actual - expected).abs().mean() <= 0.02 * expected.mean()
    assert stats.spearmanr(actual.flatten(), expected.flatten()).statistic >= 0.999
    assert not torch.equal(actual, expected), "nothing was lowered"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_only_products_of_linear_layers_are_lowered(model, precision):
    lowered = at_precision(model, precision)
    for name, weights in lowered.named_parameters():
        layer = lowered.get_submodule(name.rpartition(".")[0])
        last = name.startswith((model.head, "decoder_blocks.1"))
        half = isinstance(layer, torch.nn.Linear) and not last
        assert weights.dtype == (torch.bfloat16 if half else torch.float32), name
    quantised = [name for name, layer in lowered.named_modules() if isinstance(layer, Int8Linear)]
    assert all(name.startswith(model.encoder) for name in quantised)
    assert bool(quantised) == (precision == "int8")
    assert all(weights.dtype == torch.float32 for weights in model.parameters()), "a copy is made"


@pytest.mark.parametrize("model", ["mae"], indirect=True)
def test_the_last_layer_computes_in_float32(model):
    tokens = torch.rand(2, 37, 128, generator=torch.Generator().manual_seed(2))
    expected = model.decoder_blocks[-1](tokens)
    last = at_precision(model, "bf16").decoder_blocks[-1]
    matmul, within = torch.backends.cuda.matmul, []
    before = matmul.allow_tf32
    last.layer.register_forward_hook(lambda *_: within.append(matmul.allow_tf32))
    with torch.autocast("cpu", torch.bfloat16):
        actual = last(tokens)
        assert not torch.equal(model.decoder_blocks[-1](tokens), expected)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)
    assert within == [True], "a GPU needs TF32 for speed"
    assert matmul.allow_tf32 == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("compiling", [False, True])
def test_bf16_on_a_gpu_is_close_to_the_plain_loop(model, images, masks, compiling):
    expected = reference_residuals([model], images, [masks], **PASTED)
    lowered = at_precision(copy.deepcopy(model).to("cuda"), "bf16")
    if compiling:
        compile_layers(lowered)
    actual = multi_ratio_residuals(
        [lowered], images.to("cuda"), [masks], dtype=torch.bfloat16, **PASTED
    )
    assert (actual.cpu() - expected).abs().mean() <= 0.01 * expected.mean()


def test_full_precision_is_the_model_itself_and_others_are_named(model):
    assert at_precision(model, "fp32") is model
    with pytest.raises(ValueError, match="found 'fp8', expected fp32, bf16 or int8"):
        at_precision(model, "fp8")


@pytest.mark.parametrize(("model", "kinds"), [("mae", 2), ("simmim", 1)], indirect=["model"])
def test_layers_are_compiled_once_for_all_batches_and_change_rounding_alone(
    model, images, masks, kinds, monkeypatch
):
    # Traced only, in float32; benchmarks/residual_maps.py times and compares the real compiler.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.compiler.reset()
    counters.clear()
    compiled = copy.deepcopy(model)
    compile_layers(compiled)
    three_of_four = (torch.arange(36) % 4 > 0).expand(3, 5, 36)
    for hidden, count in ((masks, 3), (masks, 2), (three_of_four, 3)):
        part = (images[:count], [hidden[:count]])
        expected = multi_ratio_residuals([model], *part, **PASTED)
        difference = (multi_ratio_residuals([compiled], *part, **PASTED) - expected).abs()
        assert difference.max() <= 1e-5
        assert difference.mean() <= 0.01 * expected.mean()
        assert counters["stats"]["unique_graphs"] == kinds


@pytest.mark.parametrize("bias", [True, False])
def test_eight_bits_by_hand(bias):
    linear = torch.nn.Linear(2, 2, bias=bias)
    linear.weight.data = torch.tensor([[127.0, -64.0], [0.5, 0.25]])
    if bias:
        linear.bias.data = torch.tensor([10.0, -1.0])
    # activations from -63.5 to 63.5 have steps of 1 in 7 bits and a sign, and 0 is one of them
    actual = Int8Linear(linear)(torch.tensor([[63.5, -63.5], [10.0, 0.0]]))
    expected = torch.tensor([[127 * 64 + 64 * 64, 32 - 16.0], [1270.0, 5.0]])
    if bias:
        expected += linear.bias.detach()
    torch.testing.assert_close(actual, expected, rtol=0.02, atol=0.5)
