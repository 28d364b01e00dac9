"""The losses of masked training, and that a graphics card never waits for one."""

import pytest
import torch

from grcsf.mae.build import build_masked_model
from grcsf.mae.losses import MASKED_LOSSES, masked_l1
from grcsf.mae.masking import training_masks


def test_masked_l1_by_hand():
    image = torch.tensor([[[[0.1, 0.2], [0.3, 0.8]]]])
    hidden = torch.tensor([[True, False, False, True]])
    loss = masked_l1(lambda *_: torch.zeros(1, 4, 1), image, hidden)
    assert loss.item() == pytest.approx((0.1 + 0.8) / 2)


@pytest.mark.parametrize("architecture", ["mae", "simmim"])
def test_no_step_asks_the_device_for_a_value(architecture):
    # tensors on `meta` have none to give; masks stay on the CPU, as in training
    model = build_masked_model(architecture, "tiny", image_size=32, patch_size=8).to("meta")
    masks = training_masks(torch.Generator().manual_seed(0), 3, model.num_patches, 0.5)
    images = torch.empty(3, 1, 32, 32, device="meta")
    MASKED_LOSSES[architecture](model, images, masks).backward()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    assert all(weight.grad.is_meta for weight in trained)
