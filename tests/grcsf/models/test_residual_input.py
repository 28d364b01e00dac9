"""Residual maps as input channels: the image first, then the maps in their set's order."""

import pytest
import torch

from grcsf.models.build import PretrainedEncoder, build_segmentation_model

NETWORKS = {
    "unet": {},
    "unetpp": {},
    "grcsf": {"rcu": None},
    "mae_unet": {"mae": PretrainedEncoder("tiny", 32, 8)},
}


def first_filters(model, name):
    network = model.backbone if name == "grcsf" else model
    block = network.image_skip if name == "mae_unet" else network.encoder.nodes[0]
    return block[0].weight  # (width, 1 + R, 3, 3)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_channel_is_the_image_or_one_map(name):
    torch.manual_seed(0)
    model = build_segmentation_model(
        name, width=4, input_size=(32, 32), residual_maps=2, residual_input=True, **NETWORKS[name]
    ).eval()
    image, maps = torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    other = maps.clone()
    other[:, 1] = 1 - other[:, 1]
    filters = first_filters(model, name)
    assert filters.shape == (4, 3, 3, 3)
    with torch.no_grad():
        assert not torch.equal(model(image, maps), model(image, other))
        filters[:, 2] = 0  # blind to the second map alone
        seen = model(image, maps)
        assert torch.equal(seen, model(image, other))
        assert not torch.equal(seen, model(image, maps.flip(1)))
        filters[:, 1] = 0
        assert torch.equal(model(image, maps), model(image, maps.flip(1)))
        assert not torch.equal(model(image, maps), model(1 - image, maps))


def test_no_map_is_no_input():
    with pytest.raises(ValueError, match="residual_maps must be at least 1, found 0"):
        build_segmentation_model("unet", residual_maps=0, residual_input=True)
