"""SimMIM behind the masked autoencoder's interface, against transformers' own forward."""

import pytest
import torch

from grcsf.mae.build import build_masked_model
from grcsf.mae.losses import MASKED_LOSSES, masked_l1
from grcsf.mae.masking import training_masks
from grcsf.mae.model import PRESETS, MaskedAutoencoder
from grcsf.mae.simmim import SimMim
from grcsf.reference import reference_residuals
from grcsf.residuals import mean_reconstruction, multi_ratio_residuals


@pytest.fixture
def model():
    torch.manual_seed(0)
    return SimMim(32, 2, 2, image_size=32, patch_size=8).eval()


@pytest.fixture
def images():
    return torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))


def masks(rows):
    return training_masks(torch.Generator().manual_seed(2), rows, 16, 0.5)


def test_predictions_and_loss_are_transformers_own_and_train_every_weight(model, images):
    hidden = masks(3)
    theirs = model.network(images, bool_masked_pos=hidden)
    torch.testing.assert_close(model.unpatchify(model(images, hidden)), theirs.reconstruction)
    loss = masked_l1(model, images, hidden)
    # theirs adds 1e-5 to the number of masked pixels
    assert loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    loss.backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None]


@pytest.mark.parametrize("visible", ["paste", "ignore", "predict"])
def test_residual_maps_agree_with_the_plain_loop(model, images, visible):
    passes = masks(6).unflatten(0, (3, 2))
    settings = {"visible": visible, "kind": "abs"}
    actual = multi_ratio_residuals([model], images, [passes], **settings)
    torch.testing.assert_close(actual, reference_residuals([model], images, [passes], **settings))
    assert 0 <= actual.min() < actual.max() <= 1
    mean = mean_reconstruction(model, images, passes, visible=visible)
    torch.testing.assert_close((images - mean).abs(), actual)


def test_architectures_by_name():
    assert set(MASKED_LOSSES) == {"mae", "simmim"}
    mae = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    simmim = build_masked_model("simmim", "tiny", image_size=32, patch_size=8)
    assert isinstance(mae, MaskedAutoencoder)
    assert isinstance(simmim, SimMim)
    assert simmim.network.config.hidden_size == PRESETS["tiny"].width
    assert simmim.num_patches == mae.num_patches == 16
    for wrong in (("vae", "tiny"), ("simmim", "huge")):
        with pytest.raises(ValueError, match="there are:"):
            build_masked_model(*wrong)
    with pytest.raises(ValueError, match="no multiple of patch size 7"):
        SimMim(32, 1, 2, image_size=32, patch_size=7)


def test_wrong_shapes_are_refused(model, images):
    with pytest.raises(ValueError, match=r"images are \(3, 1, 16, 16\)"):
        model(images[..., :16, :16], masks(3))
    with pytest.raises(ValueError, match=r"masks are \(2, 16\)"):
        model(images, masks(2))
