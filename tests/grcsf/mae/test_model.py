"""The masked autoencoder against its definition and against transformers' ViTMAE."""

import pytest
import torch

from grcsf.mae.losses import masked_mse
from grcsf.mae.masking import training_masks
from grcsf.mae.model import (
    PRESETS,
    MaeShape,
    MaskedAutoencoder,
    build_mae,
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
def test_patches_are_flattened_row_column_channel_and_unpatchified_exactly(channels):
    model = small_mae(in_channels=channels)
    images = torch.rand(2, channels, 32, 32)
    patches = model.patchify(images)
    second_patch_of_first_row = images[0, :, 0:8, 8:16]  # (C, p, p)
    assert torch.equal(patches[0, 1], second_patch_of_first_row.permute(1, 2, 0).flatten())
    assert torch.equal(model.unpatchify(patches), images)


def test_every_visible_patch_is_seen_and_masked_ones_cannot_be():
    model = small_mae()
    images, masks = torch.rand(1, 1, 32, 32), masks_for(model, 1)
    before = model(images, masks)
    patches = model.patchify(images)
    patches[masks] = torch.rand_like(patches[masks])
    assert torch.equal(model(model.unpatchify(patches), masks), before)
    for position in visible_indices(masks)[0]:
        patches = model.patchify(images)
        patches[0, position] += 1
        assert not torch.allclose(model(model.unpatchify(patches), masks), before, atol=1e-5)


def test_masked_mse_counts_masked_patches_only_and_trains_all_but_the_fixed_positions():
    model = small_mae()
    images, masks = torch.rand(3, 1, 32, 32), masks_for(model, 3)
    errors = (model(images, masks) - model.patchify(images)).square().mean(dim=-1)
    expected = (errors * masks).sum() / masks.sum()
    loss = masked_mse(model, images, masks)
    torch.testing.assert_close(loss, expected)
    loss.backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert without == {"pos_embed", "decoder_pos_embed"}


def test_a_few_steps_lower_the_loss():
    model = small_mae()
    images = torch.linspace(0, 1, 32).expand(4, 1, 32, 32)
    masks = masks_for(model, 4)
    optimiser = torch.optim.Adam(model.parameters(), 1e-3)
    first = masked_mse(model, images, masks).item()
    for _ in range(20):
        optimiser.zero_grad()
        loss = masked_mse(model, images, masks)
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5 * first


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
def test_presets_have_the_sizes_of_the_public_models(preset):
    with torch.device("meta"):
        model = build_mae(preset, image_size=224, in_channels=3)
    assert len(model.blocks) == PRESETS[preset].depth
    assert model.num_patches == 196
    assert model.decoder_pred.out_features == 768
    # of the published 3-channel checkpoints, position embeddings included
    published = {"large": 329_541_888, "base": 111_907_840}
    count = sum(value.numel() for value in model.state_dict().values())
    assert count == published.get(preset, count)


def test_position_embedding_starts_with_zero_and_runs_over_columns_first():
    embedding = sincos_position_embedding(8, 3)[0]  # (1 + 9, 8)
    assert torch.equal(embedding[0], torch.zeros(8))
    column, row = torch.tensor([2, 2 / 100]), torch.tensor([1, 1 / 100])
    expected = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()])
    torch.testing.assert_close(embedding[1 + 1 * 3 + 2], expected)
