"""Eq. 1 to 8 of the paper, each against numbers written out by hand and against plain loops.

Sections follow the paper: GCU (1, 2), residual maps (3 to 5), RCU (6), losses (7, 8). What the
modules do beyond their equations is tested beside their modules.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn

from grcsf.losses import dice_loss, focal_loss, mixed_loss
from grcsf.mae.model import MaeShape, MaskedAutoencoder
from grcsf.models.gcu import GlobalCompensationUnit
from grcsf.models.rcu import ImportanceScore, RegionalCompensationUnit
from grcsf.residuals import multi_ratio_residuals

P = 4


def constant(*scores):
    """φ given by hand: one score for each patch, `(N,)`."""
    return lambda features: torch.tensor(scores).expand(len(features), -1)[..., None]


def linear(layer, tokens):
    return tokens @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()


def draw_vectors(unit):
    """Biases and scalars start at 0 or 1, where a mistake in them would not show."""
    for parameter in unit.parameters():
        if parameter.ndim < 2:
            nn.init.normal_(parameter)


# Eq. 1: R = CS(RU ⊗ SE(U), SE(F)); Eq. 2: C = R ⊗ F ⊕ F


def gcu_by_hand():
    """C = 2: both upsamplings copy the first two of four channels to all four pixels."""
    unit = GlobalCompensationUnit(2)
    for up in (unit.up_encoder, unit.up_decoder):
        nn.init.zeros_(up.weight)
        up.weight.data[0, 0] = up.weight.data[1, 1] = 1
    for attention, gates in (
        (unit.attention_decoder, [math.log(3), 0.0]),  # sigmoid: 3/4 and 1/2
        (unit.attention_skip, [0.0, 0.0]),  # 1/2 and 1/2
    ):
        *_, last = (layer for layer in attention.gate if isinstance(layer, nn.Linear))
        nn.init.zeros_(last.weight)
        last.bias.data = torch.tensor(gates)
    return unit


def test_equations_1_and_2_by_hand():
    # RU = (3, 4) and U = (1, 2) at all pixels, so RU ⊗ SE(U) = (3 · 3/4, 4 · 2/2) = (2.25, 4),
    # of length √21.0625 = 4.589390. SE(F) = F / 2, whose direction is F's own.
    encoder_below = torch.tensor([3.0, 4, 9, 9]).view(1, 4, 1, 1)
    decoder_below = torch.tensor([1.0, 2, 9, 9]).view(1, 4, 1, 1)
    skip = torch.tensor([[[1.0, 0], [1, 0]], [[0, 1], [1, 0]]])[None]  # (1,0) (0,1) / (1,1) (0,0)
    unit = gcu_by_hand()
    similarity = unit(skip, encoder_below, decoder_below)
    # 2.25 / 4.589390, 4 / 4.589390, 6.25 / (4.589390 · √2), and 0 at a zero vector
    expected = torch.tensor([[0.490261, 0.871576], [0.962964, 0]])
    torch.testing.assert_close(similarity[0, 0], expected, atol=2e-5, rtol=0)
    updated = torch.tensor([[[1.490261, 0], [1.962964, 0]], [[0, 1.871576], [1.962964, 0]]])
    torch.testing.assert_close(unit.update(skip, similarity)[0], updated, atol=2e-5, rtol=0)


def numpy_transposed(layer, maps):
    """2×2 transposed convolution of stride 2, `(C, h, w)`, by loops."""
    weight, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
    out = np.zeros((weight.shape[1], 2 * maps.shape[1], 2 * maps.shape[2]))
    for c, y, x in np.ndindex(out.shape):
        out[c, y, x] = bias[c] + maps[:, y // 2, x // 2] @ weight[:, c, y % 2, x % 2]
    return out


def numpy_squeeze_excitation(module, maps):
    first, last = (layer for layer in module.gate if isinstance(layer, nn.Linear))
    logits = linear(last, np.maximum(linear(first, maps.mean((1, 2))), 0))
    return maps / (1 + np.exp(-logits))[:, None, None]


def test_equations_1_and_2_by_loops():
    torch.manual_seed(0)
    unit = GlobalCompensationUnit(40)
    draw_vectors(unit)
    skip = torch.rand(1, 40, 4, 6)
    encoder_below, decoder_below = torch.rand(2, 1, 80, 2, 3)
    with torch.inference_mode():
        similarity = unit(skip, encoder_below, decoder_below)
        updated = unit.update(skip, similarity)
    f = skip[0].double().numpy()
    upscaled = numpy_transposed(unit.up_decoder, decoder_below[0].double().numpy())
    refined = numpy_transposed(unit.up_encoder, encoder_below[0].double().numpy())
    refined = refined * numpy_squeeze_excitation(unit.attention_decoder, upscaled)
    weighed = numpy_squeeze_excitation(unit.attention_skip, f)
    expected = np.zeros((4, 6))
    for y, x in np.ndindex(4, 6):
        a, b = refined[:, y, x], weighed[:, y, x]
        expected[y, x] = a @ b / (np.linalg.norm(a) * np.linalg.norm(b))
    assert similarity.shape == (1, 1, 4, 6)
    np.testing.assert_allclose(similarity[0, 0], expected, atol=1e-5)
    np.testing.assert_allclose(updated[0], expected * f + f, atol=1e-5)


# Eq. 3: AbsDiff(I, R) = |I − R|; Eq. 4, 5: RM₁, RM₂ of the mean reconstructions R₁, R₂


def mae_that_answers(grey):
    """Predicts one grey for every pixel; slices of 4 × 4 in four patches of 2 × 2."""
    model = MaskedAutoencoder(MaeShape(8, 1, 1, 8, 1, 1), image_size=4, patch_size=2)
    nn.init.zeros_(model.decoder_pred.weight)
    nn.init.constant_(model.decoder_pred.bias, grey)
    return model.eval()


def test_equations_3_to_5_by_hand():
    patches = torch.tensor([[0.1, 0.3], [0.6, 1.0]])
    image = patches.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    half = torch.tensor([[[1, 1, 0, 0], [1, 0, 1, 0]]], dtype=torch.bool)  # 1 = masked
    most = torch.tensor([[[1, 1, 1, 0], [1, 0, 1, 1]]], dtype=torch.bool)
    models = [mae_that_answers(0.5), mae_that_answers(0.2)]
    actual = multi_ratio_residuals(models, image, [half, most], visible="paste", kind="abs")
    # A patch is the model's grey in passes that mask it and itself in the others, so of two passes:
    # R₁ = (0.5, (0.5 + 0.3)/2 = 0.4, (0.6 + 0.5)/2 = 0.55, 1.0)
    # R₂ = (0.2, (0.2 + 0.3)/2 = 0.25, 0.2, (1.0 + 0.2)/2 = 0.6)
    rm1 = torch.tensor([[0.4, 0.1], [0.05, 0.0]])
    rm2 = torch.tensor([[0.1, 0.05], [0.4, 0.4]])
    torch.testing.assert_close(actual[0, :, ::2, ::2], torch.stack([rm1, rm2]))
    torch.testing.assert_close(actual[0, :, 1::2, 1::2], torch.stack([rm1, rm2]))
    # Eq. 5 without its absolute value: what is brighter than the grey is above 0
    signs = torch.tensor([[[-1.0, -1], [1, 0]], [[-1, 1], [1, 1]]])
    signed = multi_ratio_residuals(models, image, [half, most], visible="paste", kind="signed")
    torch.testing.assert_close(signed[0, :, ::2, ::2], torch.stack([rm1, rm2]) * signs)


def test_equations_3_to_5_by_loops():
    torch.manual_seed(0)
    model = mae_that_answers(0.5)
    nn.init.normal_(model.decoder_pred.weight, std=0.05)
    image = torch.rand(1, 1, 4, 4)
    masks = torch.tensor([[0, 1, 2, 3], [2, 0, 3, 1], [1, 3, 0, 2], [3, 2, 1, 0], [0, 2, 1, 3]]) < 2
    with torch.inference_mode():
        predicted = [model(image, mask[None])[0].numpy() for mask in masks]  # five (4, 2·2)
    i, expected = image[0, 0].numpy(), np.zeros((4, 4))
    for y, x in np.ndindex(4, 4):
        patch, pixel = (y // 2) * 2 + x // 2, (y % 2) * 2 + x % 2
        r = sum(predicted[k][patch, pixel] if masks[k, patch] else i[y, x] for k in range(5))
        expected[y, x] = abs(i[y, x] - r / 5)
    actual = multi_ratio_residuals([model], image, [masks[None]], visible="paste", kind="abs")
    np.testing.assert_allclose(actual[0, 0], expected, atol=1e-6)


# Eq. 6: M = φ(RM'₁ ⊗ U')·W₁ ⊕ φ(RM'₂ ⊗ U')·W₂ ⊕ U, patch by patch, scored by importance


def test_equation_6_by_hand():
    # One channel, one patch of 2 × 2; queries are RM, keys and values U; φ = 1/2, W = (2, −1).
    unit = RegionalCompensationUnit(1, 2, constant(0.5))
    for layer in (*unit.lifts, unit.attention.query, unit.attention.key, unit.attention.value):
        nn.init.ones_(layer.weight)
        nn.init.zeros_(layer.bias)
    unit.map_weights.data = torch.tensor([2.0, -1.0])
    ln2 = math.log(2)
    features = torch.tensor([[0, ln2], [ln2, 0]])[None, None]
    residuals = torch.stack([torch.ones(2, 2), torch.zeros(2, 2)])[None]
    # RM₁ = 1: softmax of (0, ln 2, ln 2, 0) is (1, 2, 2, 1) / 6, so RM'₁ ⊗ U' = 4 ln 2 / 6.
    # RM₂ = 0: all keys weigh 1/4, so RM'₂ ⊗ U' = ln 2 / 2.
    added = 0.5 * (2 * 4 * ln2 / 6 - ln2 / 2)  # = 0.288811
    assert added == pytest.approx(0.288811, abs=1e-6)
    torch.testing.assert_close(unit(features, residuals), features + added)
    # RM₁ = −1, where the sign is kept: (2, 1, 1, 2) / 6, so RM'₁ ⊗ U' = 2 ln 2 / 6.
    added = 0.5 * (2 * 2 * ln2 / 6 - ln2 / 2)
    torch.testing.assert_close(unit(features, -residuals), features + added)


def numpy_equation_6(unit, features, residuals, scores):
    """M of Eq. 6 by loops over patches, maps and query pixels; `(C, h, w)`."""
    attention, (_, height, width) = unit.attention, features.shape
    out, patch = features.copy(), 0
    for top in range(0, height, P):
        for left in range(0, width, P):
            window = (slice(None), slice(top, top + P), slice(left, left + P))
            tokens = features[window].reshape(len(features), -1).T  # (pixels, C)
            keys, values = linear(attention.key, tokens), linear(attention.value, tokens)
            for r, lift in enumerate(unit.lifts):
                pixels = residuals[r][window[1:]].reshape(-1, 1)
                queries = linear(attention.query, linear(lift, pixels))
                for i, query in enumerate(queries):
                    weights = np.exp(keys @ query - (keys @ query).max())
                    attended = attention.scale.item() * (weights / weights.sum()) @ values
                    y, x = divmod(i, features[window].shape[2])
                    weight = unit.map_weights[r].item()
                    out[:, top + y, left + x] += weight * scores[patch] * attended
            patch += 1
    return out


@pytest.mark.parametrize("residual_maps", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 12), (7, 9), (3, 2)])
def test_equation_6_by_loops(size, residual_maps):
    torch.manual_seed(0)
    scores = np.linspace(0.2, 0.9, -(-size[0] // P) * -(-size[1] // P))
    unit = RegionalCompensationUnit(6, P, constant(*scores), residual_maps)
    draw_vectors(unit)
    features, residuals = torch.randn(1, 6, *size), torch.rand(1, residual_maps, *size)
    with torch.inference_mode():
        result = unit(features, residuals)
    expected = numpy_equation_6(
        unit, features[0].double().numpy(), residuals[0].double().numpy(), scores
    )
    np.testing.assert_allclose(result[0], expected, rtol=1e-4, atol=1e-4)


def test_importance_score_of_equation_6_by_loops():
    torch.manual_seed(0)
    # Fig. 5: 1×1 convolution and batch norm, two layers with ReLU, one with a sigmoid
    score = ImportanceScore(16, 2, 8).eval()
    features = torch.rand(1, 16, 2, 2)
    with torch.inference_mode():
        result = score(features)
    convolution, norm = score.reduce
    tokens = features[0].flatten(1).T.numpy() @ convolution.weight[:, :, 0, 0].detach().numpy().T
    values = (tokens / np.sqrt(1 + norm.eps)).reshape(-1)
    first, second, last = (layer for layer in score.score if isinstance(layer, nn.Linear))
    hidden = np.maximum(linear(second, np.maximum(linear(first, values), 0)), 0)
    assert result.item() == pytest.approx(1 / (1 + np.exp(-linear(last, hidden).item())), abs=1e-5)


# Eq. 7: 1 − 2 |x ∩ y| / (|x| + |y|) + focal; Eq. 8: −α (1 − p_t)^γ log p_t, α = 0.25, γ = 2


def test_equations_7_and_8_by_hand():
    # x = (3/4, 3/4), y = (1, 0). Dice: 1 − 2 · 0.75 / (1.5 + 1) = 0.4.
    # Focal, y = 1: p_t = 3/4, 0.25 · (1/4)² · 0.2876821 = 0.0044950;
    #        y = 0: p_t = 1/4, 0.25 · (3/4)² · 1.3862944 = 0.1949477; their mean is 0.0997213.
    logits = torch.full((1, 1, 1, 2), math.log(3))
    target = torch.tensor([1.0, 0]).view(1, 1, 1, 2)
    assert focal_loss(logits, target).item() == pytest.approx(0.0997213, abs=1e-6)
    assert mixed_loss(logits, target).item() == pytest.approx(0.4997213, abs=1e-5)


def numpy_dice(logits, target):
    probability = 1 / (1 + np.exp(-logits))
    return 1 - 2 * (probability * target).sum() / (probability.sum() + target.sum())


def numpy_focal(logits, target, alpha, gamma):
    probability = 1 / (1 + np.exp(-logits))
    p_t = np.where(target == 1, probability, 1 - probability)
    return np.mean(-alpha * (1 - p_t) ** gamma * np.log(p_t))


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3, 1, 5, 7)).astype(np.float32)
    target = (generator.random((3, 1, 5, 7)) > 0.7).astype(np.float32)
    target[1] = 0  # Dice is over the batch: an empty slice must not count as a slice of its own
    return logits, target


def test_equation_7_in_numpy(batch):
    tensors = [*map(torch.from_numpy, batch)]
    assert dice_loss(*tensors).item() == pytest.approx(numpy_dice(*batch), abs=1e-5)
    expected = numpy_dice(*batch) + numpy_focal(*batch, 0.25, 2.0)
    assert mixed_loss(*tensors).item() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (1.0, 0.0), (0.7, 3.5)])
def test_equation_8_in_numpy(batch, alpha, gamma):
    result = focal_loss(*map(torch.from_numpy, batch), alpha=alpha, gamma=gamma)
    assert result.item() == pytest.approx(numpy_focal(*batch, alpha, gamma), rel=1e-5)
