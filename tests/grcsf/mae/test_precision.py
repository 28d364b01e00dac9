"""Lower precision: what is lowered, what is not, and how little it changes."""

import numpy as np
import pytest
import torch
from scipy import stats

from grcsf.mae.build import build_masked_model
from grcsf.mae.masking import slice_masks
from grcsf.mae.precision import Int8Linear, at_precision
from grcsf.reference import reference_residuals
from grcsf.residuals import multi_ratio_residuals


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
    return torch.from_numpy(
        np.stack(
            [
                slice_masks(
                    seed=0,
                    case="a",
                    slice_index=z,
                    mask_ratio=0.5,
                    passes=5,
                    patches=36,
                    scheme="random",
                )
                for z in range(3)
            ]
        )
    )


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_residuals_hardly_change(model, images, masks, precision):
    chosen = {"visible": "paste", "kind": "abs"}
    expected = reference_residuals([model], images, [masks], **chosen)
    lowered = at_precision(model, precision)
    found = multi_ratio_residuals([lowered], images, [masks], dtype=torch.bfloat16, **chosen)
    assert found.dtype == torch.float32
    assert (found - expected).abs().mean() <= 0.02 * expected.mean()
    assert stats.spearmanr(found.flatten(), expected.flatten()).statistic >= 0.999
    assert not torch.equal(found, expected), "nothing was lowered"


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_only_products_of_linear_layers_are_lowered(model, precision):
    lowered = at_precision(model, precision)
    for name, weights in lowered.named_parameters():
        layer = lowered.get_submodule(name.rpartition(".")[0])
        half = isinstance(layer, torch.nn.Linear) and not name.startswith(model.head)
        assert weights.dtype == (torch.bfloat16 if half else torch.float32), name
    quantised = [name for name, layer in lowered.named_modules() if isinstance(layer, Int8Linear)]
    assert all(name.startswith(model.encoder) for name in quantised)
    assert bool(quantised) == (precision == "int8")
    assert all(weights.dtype == torch.float32 for weights in model.parameters()), "a copy is made"


def test_full_precision_is_the_model_itself(model):
    assert at_precision(model, "fp32") is model


def test_unknown_precision(model):
    with pytest.raises(ValueError, match="found 'fp8', expected fp32, bf16 or int8"):
        at_precision(model, "fp8")


@pytest.mark.parametrize("bias", [True, False])
def test_eight_bits_by_hand(bias):
    linear = torch.nn.Linear(2, 2, bias=bias)
    linear.weight.data = torch.tensor([[127.0, -64.0], [0.5, 0.25]])
    if bias:
        linear.bias.data = torch.tensor([10.0, -1.0])
    # activations from -63.5 to 63.5 have steps of 1 in 7 bits and a sign, and 0 is one of them
    found = Int8Linear(linear)(torch.tensor([[63.5, -63.5], [10.0, 0.0]]))
    expected = torch.tensor([[127 * 64 + 64 * 64, 32 - 16.0], [1270.0, 5.0]])
    if bias:
        expected += linear.bias.detach()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.5)
