"""Residual maps: the batched form against the equations' plain loop."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from grcsf.mae.masking import slice_masks, tissue_masks
from grcsf.mae.model import MaeShape, MaskedAutoencoder
from grcsf.reference import reference_residuals
from grcsf.residuals import (
    least_residual,
    mean_reconstruction,
    multi_ratio_residuals,
    residual_map,
    tissue_patches,
)

VISIBLE = ["paste", "ignore", "predict"]
KINDS = ["abs", "squared", "ssim", "signed"]


def random_mae(image_size=32, seed=0):
    torch.manual_seed(seed)
    shape = MaeShape(32, 2, 2, 16, 2, 2)
    model = MaskedAutoencoder(shape, image_size=image_size, patch_size=8)
    for weight in model.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.1)
    # Predictions spread over and a little beyond [0, 1], so that clipping takes part.
    torch.nn.init.constant_(model.decoder_pred.bias, 0.5)
    return model.eval()


def masks_for(model, slices, ratio, passes, scheme="random"):
    asked = {"seed": 0, "case": "a", "mask_ratio": ratio, "passes": passes, "scheme": scheme}
    drawn = [slice_masks(slice_index=z, patches=model.num_patches, **asked) for z in range(slices)]
    return torch.from_numpy(np.stack(drawn))


def images_of(slices, height, width):
    return torch.rand(slices, 1, height, width, generator=torch.Generator().manual_seed(5))


@pytest.fixture
def two_ratios():
    models = [random_mae(32), random_mae(40, seed=1)]
    masks = [masks_for(models[0], 5, 0.5, 3), masks_for(models[1], 5, 0.75, 4)]
    return models, masks


@pytest.mark.parametrize(
    ("visible", "kind", "size"),
    [
        *((visible, kind, (97, 131)) for visible in VISIBLE for kind in KINDS),
        ("paste", "abs", (32, 32)),
        ("ignore", "ssim", (24, 20)),
    ],
)
def test_batched_equals_the_plain_loop(two_ratios, visible, kind, size):
    models, masks = two_ratios
    images = images_of(5, *size)
    batched = multi_ratio_residuals(models, images, masks, visible=visible, kind=kind)
    plain = reference_residuals(models, images, masks, visible=visible, kind=kind)
    assert batched.shape == (5, 2, *size)
    assert batched.dtype == torch.float32
    assert least_residual(kind) <= batched.min() <= batched.max() <= 1
    assert (batched.min() < 0) == (kind == "signed")
    torch.testing.assert_close(batched, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("visible", VISIBLE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("size", [(233, 197), (1, 5)])
def test_constant_slices_of_odd_sizes_have_finite_residuals(two_ratios, visible, kind, value, size):
    models, masks = two_ratios
    images, first = torch.full((1, 1, *size), value), [drawn[:1] for drawn in masks]
    for dtype in (torch.float32, torch.bfloat16):
        residuals = multi_ratio_residuals(
            models, images, first, visible=visible, kind=kind, dtype=dtype
        )
        assert residuals.shape == (1, 2, *size)
        assert residuals.isfinite().all()
        assert least_residual(kind) <= residuals.min() <= residuals.max() <= 1


@pytest.mark.parametrize("visible", VISIBLE)
def test_neither_order_nor_batch_matter(two_ratios, visible):
    models, masks = two_ratios
    images = images_of(5, 48, 40)
    options = {"visible": visible, "kind": "abs"}
    whole = multi_ratio_residuals(models, images, masks, **options)
    order = torch.tensor([3, 0, 4, 1, 2])
    shuffled = multi_ratio_residuals(
        models, images[order], [chosen[order] for chosen in masks], sequences=1, **options
    )
    torch.testing.assert_close(shuffled, whole[order], atol=1e-5, rtol=0)
    assert torch.equal(whole, multi_ratio_residuals(models, images, masks, **options))


def tissue_of(model, images, ratio, passes):
    """(B, K, L) masks and the (B, L) patches that count."""
    counted = tissue_patches(model, images)
    asked = {"seed": 0, "case": "a", "mask_ratio": ratio, "passes": passes}
    rows = enumerate(counted.numpy())
    drawn = [tissue_masks(tissue, slice_index=z, **asked) for z, tissue in rows]
    return torch.from_numpy(np.stack(drawn)), counted


@pytest.mark.parametrize(
    ("visible", "kind"), [("paste", "ssim"), ("ignore", "abs"), ("predict", "squared")]
)
def test_slices_with_more_and_less_tissue_share_a_batch(visible, kind):
    models = [random_mae(64), random_mae(80, seed=1)]
    images = images_of(6, 48, 40)
    for z, rows in enumerate((48, 30, 16, 30, 8, 0)):
        images[z, :, rows:] = 0.02
    drawn = [tissue_of(models[0], images, 0.5, 2), tissue_of(models[1], images, 0.75, 4)]
    masks, counted = zip(*drawn, strict=True)
    visible_patches = {int((~hidden).sum()) for hidden in masks[0]}
    assert len(visible_patches) > 2, "they leave unequal numbers visible"
    options = {"visible": visible, "kind": kind, "counted": counted}
    actual = multi_ratio_residuals(models, images, masks, **options)
    plain = reference_residuals(models, images, masks, **options)
    torch.testing.assert_close(actual, plain, atol=1e-5, rtol=0)
    few = multi_ratio_residuals(models, images, masks, sequences=1, **options)
    torch.testing.assert_close(few, actual, atol=1e-5, rtol=0)
    assert actual[1, :, :20].mean() > 0.01
    assert not actual[1, :, 40:].any(), "the background's residual is 0"


def test_tissue_is_what_is_bright_somewhere_and_never_too_little():
    model = random_mae(64)  # 64 patches of 8 × 8
    image = torch.full((2, 1, 64, 64), 0.05)
    image[0, 0, 8:40, 8:56] = 0.4
    image[1, 0, 3, 3] = 0.06
    shown = tissue_patches(model, image).reshape(2, 8, 8)
    assert shown[0, 1:5, 1:7].all()
    assert shown[0].sum() == 24
    assert shown[1, 0, 0]
    assert shown[1].sum() == 16, "a share of fewer could not be masked"


def test_ignore_averages_masked_passes_only():
    model = random_mae()
    image, masks = images_of(1, 32, 32), masks_for(model, 1, 0.5, 2)
    with torch.no_grad():
        predictions = torch.stack([model(image, masks[:, k])[0] for k in range(2)])
    actual = model.patchify(mean_reconstruction(model, image, masks, visible="ignore"))[0]
    patches = model.patchify(image)[0]
    seen = set()
    for position in range(model.num_patches):
        hidden = masks[0, :, position]
        seen.add(int(hidden.sum()))
        expected = predictions[hidden, position].mean(dim=0) if hidden.any() else patches[position]
        torch.testing.assert_close(actual[position], expected.clamp(0, 1), atol=1e-6, rtol=0)
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("visible", VISIBLE)
def test_the_mean_is_clipped_not_each_pass(visible):
    model = random_mae()
    torch.nn.init.constant_(model.decoder_pred.bias, 3.0)
    image, masks = images_of(1, 32, 32), masks_for(model, 1, 0.5, 2, "stratified")
    actual = mean_reconstruction(model, image, masks, visible=visible)
    assert actual.max() == 1
    if visible == "paste":  # the mean of a pixel and a prediction near 3 is beyond 1 everywhere
        assert actual.min() == 1


def test_differences_by_hand_and_shapes_must_agree():
    images = torch.tensor([[[[0.2, 1.0]]]]), torch.tensor([[[[0.7, 0.9]]]])
    by_hand = {"abs": [0.5, 0.1], "squared": [0.25, 0.01], "signed": [-0.5, 0.1]}
    for kind, expected in by_hand.items():
        torch.testing.assert_close(residual_map(*images, kind), torch.tensor([[[expected]]]))
    with pytest.raises(ValueError, match="differ in shape"):
        residual_map(images[0], images[1][..., :-1], "abs")


def test_a_signed_map_without_its_sign_is_the_paper_s_bit_for_bit():
    model, images = random_mae(), images_of(3, 32, 32)
    masks = [masks_for(model, 3, 0.5, 2)]
    signed, plain = (
        multi_ratio_residuals([model], images, masks, visible="ignore", kind=kind)
        for kind in ("signed", "abs")
    )
    assert signed.min() < -0.1 < 0.1 < signed.max()
    assert torch.equal(signed.abs(), plain)
    assert torch.equal(signed.half().abs(), plain.half()), "also as it is stored"


def test_ssim_equals_scikit_image_inside_the_border():
    images = images_of(2, 40, 48)
    reconstructions = (0.6 * images + 0.4 * images.flip(-1)).clamp(0, 1)
    actual = residual_map(images, reconstructions, "ssim")
    for image, reconstruction, residual in zip(images, reconstructions, actual, strict=True):
        pair = image[0].double().numpy(), reconstruction[0].double().numpy()
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        _, similarity = structural_similarity(*pair, data_range=1.0, full=True, **options)
        expected = np.clip(1 - similarity, 0, 1)[5:-5, 5:-5]
        np.testing.assert_allclose(residual[0, 5:-5, 5:-5].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"visible": "copy"}, "visible: found 'copy', expected one of: paste, ignore, predict"),
        ({"kind": "mse"}, "kind: found 'mse', expected one of: abs, squared, ssim, signed"),
        ({"masks": []}, "1 models but masks for 0 ratios"),
        ({"images": torch.rand(2, 1, 32, 32)}, r"masks are \(1, 2, 16\), expected \(2, passes, 16"),
        ({"images": torch.rand(0, 1, 32, 32)}, "no slice"),
        ({"masks": [torch.zeros(1, 0, 16, dtype=torch.bool)]}, r"masks are \(1, 0, 16\)"),
        ({"models": [random_mae().bfloat16()]}, "bfloat16 and cannot compute in torch.float32"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    model = random_mae()
    arguments = {"models": [model], "images": images_of(1, 32, 32), "visible": "paste"}
    arguments |= {"masks": [masks_for(model, 1, 0.5, 2)], "kind": "abs"}
    with pytest.raises(ValueError, match=message):
        multi_ratio_residuals(**arguments | change)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("visible", VISIBLE)
def test_a_gpu_agrees_with_the_cpu(two_ratios, visible):
    models, masks = two_ratios
    images = images_of(5, 97, 131)
    expected = multi_ratio_residuals(models, images, masks, visible=visible, kind="abs")
    models = [model.to("cuda") for model in models]
    actual = multi_ratio_residuals(models, images.to("cuda"), masks, visible=visible, kind="abs")
    torch.testing.assert_close(actual.cpu(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_where_memory_ends_fewer_slices_go_at_once(fits, monkeypatch):
    model = random_mae()
    images, masks = images_of(7, 32, 32), masks_for(model, 7, 0.5, 2)
    chosen = {"visible": "paste", "kind": "abs"}
    expected = multi_ratio_residuals([model], images, [masks], **chosen)
    predict = model.predict_passes
    tried = []

    def limited(images, masks):
        tried.append(len(images))
        if len(images) > fits:
            raise torch.OutOfMemoryError("full")
        return predict(images, masks)

    monkeypatch.setattr(model, "predict_passes", limited)
    actual = multi_ratio_residuals([model], images, [masks], **chosen)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    assert max(tried) > fits
    fitting = {}
    for _ in range(2):
        tried.clear()
        again = multi_ratio_residuals([model], images, [masks], fitting=fitting, **chosen)
        torch.testing.assert_close(again, expected, rtol=0, atol=1e-5)
    assert max(tried) <= fits, "what did not fit is not tried again"
    monkeypatch.setattr(model, "predict_passes", Mock(side_effect=torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        multi_ratio_residuals([model], images, [masks], **chosen)


@pytest.mark.parametrize("cast", [True, False], ids=["weights", "autocast"])
@pytest.mark.parametrize("visible", VISIBLE)
def test_bfloat16_is_close(cast, visible):
    model = random_mae()
    images, masks = images_of(4, 50, 30), masks_for(model, 4, 0.5, 3)
    exact = reference_residuals([model], images, [masks], visible=visible, kind="abs")
    if cast:
        model = model.to(torch.bfloat16)
    rough = multi_ratio_residuals(
        [model], images, [masks], visible=visible, kind="abs", dtype=torch.bfloat16
    )
    assert rough.dtype == torch.float32
    difference = (rough - exact).abs()
    assert 0 < difference.mean() < 5e-3
    assert difference.max() < 0.05
