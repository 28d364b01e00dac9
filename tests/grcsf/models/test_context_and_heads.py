"""What any network may have beyond one slice and one output: neighbours, and further heads."""

import pytest
import torch

from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.build import build_segmentation_model


class Channels(SegmentationNetwork):
    """Logits are the slice itself; it remembers the channels that it was shown."""

    def __init__(self, context=0, input_maps=0):
        super().__init__()
        self.context, self.input_maps = context, input_maps

    def segment(self, image, residuals):  # noqa: ARG002
        self.shown = image
        return image[:, self.context : self.context + 1]


class TwoHeads(Channels):
    def segment_supervised(self, image, residuals):
        main = self.segment(image, residuals)
        return [(0.75, main), (0.25, 2 * main)]


def test_channels_are_the_neighbours_around_the_slice_then_the_maps():
    image, maps = torch.rand(2, 5, 16, 32), torch.rand(2, 3, 16, 32)
    network = Channels(context=2, input_maps=3)
    assert torch.equal(network(image, maps), image[:, 2:3])
    assert torch.equal(network.shown, torch.cat([image, maps], dim=1))


def test_neighbours_of_other_networks_follow_the_slice_before_the_maps():
    image, maps = torch.rand(2, 5, 16, 32), torch.rand(2, 3, 16, 32)
    network = Channels(input_maps=4 + 3)
    network.see_neighbours(2)
    assert (network.context, network.input_maps, network.further_inputs) == (2, 3, 7)
    network(image, maps)
    slices = [image[:, place : place + 1] for place in (2, 0, 1, 3, 4)]
    assert torch.equal(network.shown, torch.cat([*slices, maps], dim=1))
    with pytest.raises(ValueError, match="sees 2 neighbours on each side already"):
        network.see_neighbours(1)


@pytest.mark.parametrize("name", ["unet", "grcsf", "trans_fuse"])
def test_a_network_whose_weights_pass_over_neighbours_sees_its_slice_alone(name):
    settings = {"width": 4, "input_size": (32, 32)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone = build_segmentation_model(name, **settings).eval()
        around = build_segmentation_model(name, **settings, context=1).eval()
    state = alone.state_dict()
    for key, value in around.state_dict().items():
        if value.shape != state[key].shape:  # the first convolution's kernel
            more = value.shape[1] - state[key].shape[1]
            nothing = torch.zeros(len(value), more, *value.shape[2:])
            state[key] = torch.cat([state[key], nothing], dim=1)
    around.load_state_dict(state)
    image, maps = torch.rand(1, 3, 32, 32), torch.rand(1, 2, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(around(image, maps), alone(image[:, 1:2], maps))


@pytest.mark.parametrize("channels", [1, 4, 6])
@pytest.mark.parametrize("call", ["forward", "supervised"])
def test_a_missing_neighbour_is_refused(call, channels):
    message = (
        rf"image must be \(B, 5, h, w\) \(a slice and 2 neighbours on each side\), "
        rf"found \(2, {channels}, 8, 8\)"
    )
    with pytest.raises(ValueError, match=message):
        getattr(Channels(context=2), call)(torch.zeros(2, channels, 8, 8))


def test_every_head_is_padded_and_cropped_as_the_output_is():
    image = torch.rand(2, 1, 17, 5)
    network = TwoHeads()
    (first, main), (second, other) = network.supervised(image)
    assert network.shown.shape == (2, 1, 32, 16)
    assert (first, second) == (0.75, 0.25)
    assert torch.equal(main, network(image))
    assert torch.equal(other, 2 * image)


@pytest.mark.parametrize("name", ["unet", "grcsf"])
def test_a_network_of_one_head_trains_on_its_output_alone(name):
    network = build_segmentation_model(name, width=4).eval()
    image, maps = torch.rand(1, 1, 40, 33), torch.rand(1, 2, 40, 33)
    with torch.inference_mode():
        [(weight, logits)] = network.supervised(image, maps)
        assert weight == 1
        assert torch.equal(logits, network(image, maps))
