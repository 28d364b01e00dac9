"""Public, Hugging Face and own state dicts: exact folding, parity, clear refusals."""

import copy
from functools import partial

import pytest
import torch

from grcsf.mae.checkpoint import (
    IMAGENET,
    UNNORMALISED,
    check_state_dict,
    fold_to_grey,
    from_hugging_face,
    load_mae_state,
    to_hugging_face,
    unwrap,
)
from grcsf.mae.masking import training_masks
from grcsf.mae.model import PRESETS, MaeShape, MaskedAutoencoder

SMALL = MaeShape(32, 2, 2, 16, 2, 2)


def random_mae(shape=SMALL, *, in_channels=1, seed=0, std=0.1, **sizes):
    torch.manual_seed(seed)
    sizes = {"image_size": 32, "patch_size": 8} | sizes
    model = MaskedAutoencoder(shape, in_channels=in_channels, **sizes)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=std)
    return model.eval()


def masks_for(model, batch):
    return training_masks(torch.Generator().manual_seed(1), batch, model.num_patches, 0.75)


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in state.items())


@torch.no_grad()
def grey_through_colour(model, grey, masks, normalisation):
    """What folding replaces: repeat, normalise, predict, de-normalise, average the channels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in normalisation)
    predictions = model((grey.repeat(1, 3, 1, 1) - mean) / std, masks)
    coloured = model.unpatchify(predictions) * std + mean
    return model.patchify(coloured.mean(dim=1, keepdim=True))


@pytest.mark.parametrize("normalisation", [IMAGENET, UNNORMALISED])
def test_folding_is_exact(normalisation):
    colour, grey = random_mae(in_channels=3), random_mae(seed=9)
    before = copy.deepcopy(colour.state_dict())
    grey.load_state_dict(fold_to_grey(colour.state_dict(), normalisation))
    assert_same(colour.state_dict(), before)
    images, masks = torch.rand(3, 1, 32, 32), masks_for(colour, 3)
    expected = grey_through_colour(colour, images, masks, normalisation)
    with torch.no_grad():
        torch.testing.assert_close(grey(images, masks), expected, atol=1e-5, rtol=0)


def test_only_three_channels_fold():
    with pytest.raises(ValueError, match="1 input channels, expected 3"):
        fold_to_grey(random_mae().state_dict(), IMAGENET)
    state = random_mae(in_channels=3).state_dict()
    del state["decoder_pred.bias"]
    with pytest.raises(ValueError, match=r"without decoder_pred\.bias"):
        fold_to_grey(state, IMAGENET)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(("channels", "own"), [(3, 1), (1, 1), (3, 3)])
def test_a_checkpoint_is_folded_where_its_channels_differ_and_loads_unchanged_else(
    channels, own, wrapped
):
    state = random_mae(in_channels=channels).state_dict()
    model = random_mae(in_channels=own, seed=9)
    load_mae_state(model, {"model": state} if wrapped else state, normalisation=IMAGENET)
    assert_same(model.state_dict(), state if channels == own else fold_to_grey(state, IMAGENET))


def test_an_unfit_state_is_refused_in_one_line():
    model = random_mae()
    state = model.state_dict()
    state["head.weight"] = torch.zeros(1)
    for key in [key for key in state if key.startswith("decoder_blocks.0")]:
        del state[key]
    state["pos_embed"] = torch.zeros(1, 197, 32)
    with pytest.raises(ValueError, match="does not fit") as refusal:
        check_state_dict(model, state)
    message = str(refusal.value)
    assert "12 missing (decoder_blocks.0.norm1.weight, " in message
    assert "and 9 more" in message
    assert "1 unexpected (head.weight)" in message
    assert "1 mis-shaped (pos_embed (1, 197, 32) instead of (1, 17, 32))" in message
    assert "\n" not in message


def test_damaged_weights_are_refused_and_nothing_is_loaded():
    model = random_mae()
    before = copy.deepcopy(model.state_dict())
    damaged = random_mae(seed=3).state_dict()
    damaged["norm.weight"] = torch.full((32,), float("nan"))
    with pytest.raises(ValueError, match=r"1 not finite \(norm.weight\)"):
        load_mae_state(model, damaged, normalisation=IMAGENET)
    assert_same(model.state_dict(), before)


def test_what_is_no_state_dict_is_refused():
    for checkpoint, message in (
        ({"model": "weights"}, "no state dict but str"),
        ({}, "no state dict but dict"),
        ({"epoch": 3}, "entry 'epoch' is int, not a tensor"),
    ):
        with pytest.raises(ValueError, match=message):
            unwrap(checkpoint)


def hugging_face_mae(shape, *, image_size, patch_size):
    transformers = pytest.importorskip("transformers")
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads")
    layers = dict(zip((*names, *(f"decoder_{name}" for name in names)), shape, strict=True))
    config = transformers.ViTMAEConfig(
        **layers,
        intermediate_size=4 * shape.width,
        decoder_intermediate_size=4 * shape.decoder_width,
        image_size=image_size,
        patch_size=patch_size,
        layer_norm_eps=1e-6,
        mask_ratio=0.75,
    )
    torch.manual_seed(4)
    model = transformers.ViTMAEForPreTraining(config).eval()
    # Built from a configuration, transformers leaves the fixed positions at zero until asked.
    for part in (*model.modules(), *model.parameters()):
        part._is_hf_initialized = False
    model.vit.embeddings.initialize_weights()
    model.decoder.initialize_weights((image_size // patch_size) ** 2)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.03)
    return model


@torch.no_grad()
def largest_difference(ours, theirs):
    images, masks = torch.rand(2, 3, ours.image_size, ours.image_size), masks_for(ours, 2)
    # Their model keeps the patches of lowest noise: our mask, as noise, chooses the same ones.
    expected = theirs(images, noise=masks.float())
    assert torch.equal(expected.mask.bool(), masks)
    return (ours(images, masks) - expected.logits).abs().max().item()


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (SMALL, {"image_size": 32, "patch_size": 8}),
        # ViT-Base's widths and tokens; its further layers are like these
        (PRESETS["base"]._replace(depth=2, decoder_depth=1), {"image_size": 224, "patch_size": 16}),
    ],
)
def test_parity_with_transformers_both_ways(shape, sizes):
    theirs = hugging_face_mae(shape, **sizes)
    build = partial(random_mae, shape, in_channels=3, std=0.6 * shape.width**-0.5, **sizes)
    ours = build()
    positions = ours.pos_embed.clone(), ours.decoder_pos_embed.clone()
    load_mae_state(ours, theirs.state_dict(), normalisation=IMAGENET)
    torch.testing.assert_close(
        (ours.pos_embed, ours.decoder_pos_embed), positions, atol=1e-6, rtol=0
    )
    assert largest_difference(ours, theirs) <= 1e-5

    ours = build(seed=11)
    theirs.load_state_dict(to_hugging_face(ours.state_dict()), strict=True)
    assert largest_difference(ours, theirs) <= 1e-5


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({3: torch.ones(1)}, "entry 3 is named by int, not by text"),
        ({"mask_token": torch.ones(1, 1, 16).to_sparse()}, "'mask_token' is sparse"),
        (
            {"mask_token": torch.full((1, 1, 16), 1e300, dtype=torch.float64)},
            r"1 not finite \(mask_token\)",
        ),
    ],
)
def test_entries_that_are_no_weights_are_refused(entry, found):
    state = random_mae().state_dict() | entry
    with pytest.raises(ValueError, match=found):
        load_mae_state(random_mae(), state, normalisation=IMAGENET)


@pytest.mark.parametrize("channels", [1, 3])
def test_entries_of_another_form_are_refused(channels):
    state = to_hugging_face(random_mae(in_channels=channels).state_dict())
    for key in ("vit.layers.0.attention.q_proj.weight", "decoder.decoder_pred.bias"):
        other = state | {key: torch.tensor(1.0)}
        with pytest.raises(ValueError, match=r"does not fit|decoder_pred.bias have the shapes"):
            load_mae_state(random_mae(), other, normalisation=IMAGENET)


def test_names_written_before_transformers_5_are_read():
    state = random_mae(in_channels=3).state_dict()
    older = {}
    for key, value in to_hugging_face(state).items():
        for now, before in (
            ("vit.layers.", "vit.encoder.layer."),
            ("attention.q_proj", "attention.attention.query"),
            ("attention.k_proj", "attention.attention.key"),
            ("attention.v_proj", "attention.attention.value"),
            ("attention.o_proj", "attention.output.dense"),
            ("mlp.fc1", "intermediate.dense"),
            ("mlp.fc2", "output.dense"),
        ):
            key = key.replace(now, before)
        older[key] = value
    assert "vit.encoder.layer.0.attention.attention.query.weight" in older
    assert_same(from_hugging_face(older), state)
