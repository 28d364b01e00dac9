"""Normalised input: by hand, and as every network takes it."""

import pytest
import torch

from grcsf.models.build import build_segmentation_model
from grcsf.models.normalisation import IMAGENET_DEVIATION, IMAGENET_MEAN, Normalisation
from grcsf.models.peer_sizes import PEERS
from grcsf.models.peers.slices import repeat_slice
from grcsf.neighbours import with_neighbours

WIDTHS = {"deeplabv3": 16, "spin": 16, "trans_unet": 4, "swin_unet": 2, "trans_fuse": 1}


def test_imagenet_s_figures_are_taken_from_each_colour_and_maps_stay():
    image = torch.tensor([0.5, 0.25]).reshape(1, 2, 1, 1)  # a slice, and a map
    seen = repeat_slice(image, Normalisation(IMAGENET_MEAN, IMAGENET_DEVIATION))
    # (0.5 − 0.485) / 0.229, (0.5 − 0.456) / 0.224, (0.5 − 0.406) / 0.225
    assert seen.flatten().tolist() == pytest.approx([0.065502, 0.196429, 0.417778, 0.25], rel=1e-4)


@pytest.mark.parametrize("name", ["unet", "grcsf", *PEERS])
def test_every_network_sees_its_image_normalised_and_its_maps_as_they_are(name):
    torch.manual_seed(0)
    size = (128, 128) if name == "ut_net" else (64, 64)
    options = {"width": WIDTHS.get(name, 2), "input_size": size, "residual_input": True}
    network = build_segmentation_model(name, **options, residual_maps=1, rcu=None).eval()
    image = torch.rand(2, 1 + 2 * network.context, *size)
    maps = torch.rand(2, 1, *size)
    with torch.inference_mode():
        expected, before = network((image - 0.3) / 0.2, maps), network(image, maps)
        channels = 3 if network.colours else image.shape[1]
        network.normalisation = Normalisation([0.0] * channels, [1.0] * channels)
        assert torch.equal(network(image, maps), before)
        network.normalisation.fill(0.3, 0.2)
        torch.testing.assert_close(network(image, maps), expected)
        assert torch.equal(network.supervised(image, maps)[0][1], network(image, maps))
    assert {"normalisation.mean", "normalisation.deviation"} < network.state_dict().keys()
    assert name not in PEERS or network.colours == PEERS[name].colours


def test_what_lies_beyond_a_volume_is_nothing_after_normalisation():
    shown = with_neighbours(torch.full((2, 1, 1, 1), 0.7), 1, before=1, after=1, beyond=0.3)
    seen = Normalisation([0.3] * 3, [0.2] * 3)(shown)
    assert seen[:, :, 0, 0].tolist() == [pytest.approx([0, 2, 2]), pytest.approx([2, 2, 0])]


def test_deviations_of_nothing_are_refused():
    with pytest.raises(ValueError, match="deviations above 0"):
        Normalisation([0.0], [0.0])
    with pytest.raises(ValueError, match="deviation above 0, found 0"):
        Normalisation([0.0], [1.0]).fill(0.5, 0.0)
