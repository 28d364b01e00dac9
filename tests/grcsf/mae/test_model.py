"""The masked autoencoder against its definition and against transformers' ViTMAE."""

import pytest
import torch

from grcsf.mae.masking import training_masks
from grcsf.mae.model import (
    PRESETS,
    MaeShape,
    MaskedAutoencoder,
    build_mae,
    masked_mse,
    sincos_position_embedding,
    visible_indices,
)

SMALL = MaeShape(32, 2, 2, 16, 1, 2)


def small_mae(**options):
    torch.manual_seed(0)
    return MaskedAutoencoder(SMALL, **{"image_size": 32, "patch_size": 8} | options)


def masks_for(model, batch, ratio=0.5):
    generator = torch.Generator().manual_seed(1)
    return training_masks(generator, batch, model.num_patches, ratio)


@pytest.mark.parametrize("channels", [1, 3])
def test_unpatchify_inverts_patchify_exactly(channels):
    model = small_mae(in_channels=channels)
    images = torch.rand(2, channels, 32, 32)
    assert torch.equal(model.unpatchify(model.patchify(images)), images)


def test_patches_are_flattened_row_column_channel():
    model = small_mae(in_channels=3)
    images = torch.rand(1, 3, 32, 32)
    second_patch_of_first_row = images[0, :, 0:8, 8:16]  # (C, p, p)
    expected = second_patch_of_first_row.permute(1, 2, 0).flatten()
    assert torch.equal(model.patchify(images)[0, 1], expected)


@pytest.mark.parametrize(("image_size", "patch_size"), [(32, 8), (48, 16), (60, 12)])
def test_predictions_have_one_row_per_patch(image_size, patch_size):
    model = small_mae(image_size=image_size, patch_size=patch_size)
    images = torch.rand(2, 1, image_size, image_size)
    predictions = model(images, masks_for(model, 2))
    assert predictions.shape == (2, (image_size // patch_size) ** 2, patch_size**2)


def test_masked_pixels_cannot_be_seen():
    model = small_mae()
    images, masks = torch.rand(2, 1, 32, 32), masks_for(model, 2)
    patches = model.patchify(images)
    patches[masks] = torch.rand_like(patches[masks])
    changed = model.unpatchify(patches)
    assert torch.equal(model(images, masks), model(changed, masks))


def test_every_visible_patch_is_seen():
    model = small_mae()
    images, masks = torch.rand(1, 1, 32, 32), masks_for(model, 1)
    before = model(images, masks)
    for position in (~masks[0]).nonzero().flatten().tolist():
        patches = model.patchify(images)
        patches[0, position] += 1
        assert not torch.allclose(model(model.unpatchify(patches), masks), before, atol=1e-5)


def test_several_masks_of_an_image_equal_one_at_a_time():
    model = small_mae()
    images = torch.rand(2, 1, 32, 32)
    masks = masks_for(model, 6)
    together = model.decode(model.encode(model.embed(images), masks), masks)
    singly = [model(images[n // 3 : n // 3 + 1], masks[n : n + 1]) for n in range(6)]
    torch.testing.assert_close(together, torch.cat(singly), atol=1e-6, rtol=0)


def test_masked_mse_counts_masked_patches_only():
    model = small_mae()
    images, masks = torch.rand(3, 1, 32, 32), masks_for(model, 3)
    errors = (model(images, masks) - model.patchify(images)).square().mean(dim=-1)
    expected = (errors * masks).sum() / masks.sum()
    torch.testing.assert_close(masked_mse(model, images, masks), expected)


def test_training_reaches_every_weight_but_the_fixed_positions():
    model = small_mae()
    masked_mse(model, torch.rand(2, 1, 32, 32), masks_for(model, 2)).backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert without == {"pos_embed", "decoder_pos_embed"}


def test_a_few_steps_lower_the_loss():
    model = small_mae()
    images = torch.linspace(0, 1, 32).expand(4, 1, 32, 32)
    masks = masks_for(model, 4)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    losses = []
    for _ in range(20):
        optimiser.zero_grad()
        loss = masked_mse(model, images, masks)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_visible_indices_ascend():
    masks = torch.tensor([[True, False, True, False], [False, False, True, True]])
    assert visible_indices(masks).tolist() == [[1, 3], [0, 1]]


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (torch.tensor([[True, False], [False, False]]), "leave 1 to 2 patches visible"),
        (torch.ones(1, 4, dtype=torch.bool), "leave 0 of 4 patches visible"),
        (torch.zeros(1, 4, dtype=torch.bool), "leave 4 of 4 patches visible"),
        (torch.ones(1, 4), "expected torch.bool"),
    ],
)
def test_unusable_masks_are_refused(masks, message):
    with pytest.raises(ValueError, match=message):
        visible_indices(masks)


def test_wrong_sizes_are_refused():
    model = small_mae()
    with pytest.raises(ValueError, match=r"images are \(1, 1, 30, 32\)"):
        model.embed(torch.rand(1, 1, 30, 32))
    with pytest.raises(ValueError, match=r"masks are \(3, 16\), expected \(2·K, 16\)"):
        model(torch.rand(2, 1, 32, 32), masks_for(model, 3))
    with pytest.raises(ValueError, match="no multiple of patch size"):
        small_mae(image_size=30)
    with pytest.raises(ValueError, match="no MAE preset is called 'huge'"):
        build_mae("huge")


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_build(preset):
    with torch.device("meta"):
        model = build_mae(preset, image_size=224, in_channels=3)
    shape = PRESETS[preset]
    assert len(model.blocks) == shape.depth
    assert model.num_patches == 196
    assert model.decoder_pred.out_features == 768


@pytest.mark.parametrize(("preset", "parameters"), [("large", 329_541_888), ("base", 111_907_840)])
def test_parameters_match_the_public_models(preset, parameters):
    """The published 3-channel checkpoints' sizes, position embeddings included."""
    with torch.device("meta"):
        model = build_mae(preset, in_channels=3)
    assert sum(value.numel() for value in model.state_dict().values()) == parameters


def test_position_embedding_starts_with_zero_and_runs_over_columns_first():
    embedding = sincos_position_embedding(8, 3)[0]  # (1 + 9, 8)
    assert torch.equal(embedding[0], torch.zeros(8))
    column, row = 2, 1
    expected = [column, column / 100, column, column / 100, row, row / 100, row, row / 100]
    angles = torch.tensor(expected)
    trigonometric = torch.stack([*angles[:2].sin(), *angles[2:4].cos()])
    torch.testing.assert_close(embedding[1 + row * 3 + column, :4], trigonometric)
    trigonometric = torch.stack([*angles[4:6].sin(), *angles[6:].cos()])
    torch.testing.assert_close(embedding[1 + row * 3 + column, 4:], trigonometric)
