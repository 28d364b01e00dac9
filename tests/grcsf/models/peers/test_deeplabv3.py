"""DeepLabv3 is torchvision's, on our terms."""

import pytest
import torch
from torchvision.models.segmentation import deeplabv3_resnet50

from grcsf.complexity import paper_counts, parameter_count, shapes_only, true_macs
from grcsf.losses import mixed_loss
from grcsf.models.peers.deeplabv3 import DeepLabv3, reference_state


@pytest.fixture(scope="module")
def whole():
    torch.manual_seed(0)
    return deeplabv3_resnet50(weights=None, weights_backbone=None, num_classes=1, aux_loss=False)


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(0)
    return DeepLabv3().eval()


def small(inputs=0):
    torch.manual_seed(1)
    return DeepLabv3(inputs, width=16, depths=(1, 1, 1, 1))


def test_it_is_torchvision_s_module_for_module_and_starts_alike(whole, ours):
    assert repr(ours.network) == repr(whole).replace("DeepLabHead", "Sequential")
    state = ours.network.state_dict()
    assert len(state) == 362
    assert state["classifier.4.weight"].shape == (1, 256, 1, 1)
    assert all(torch.equal(state[name], value) for name, value in whole.state_dict().items())


def test_a_slice_of_any_size_is_shown_three_times(whole, ours):
    whole.eval()
    image = torch.rand(1, 1, 21, 38)
    with torch.inference_mode():
        assert torch.equal(ours(image), whole(image.repeat(1, 3, 1, 1))["out"])


def test_counts_are_those_of_table_1():
    with shapes_only():
        network = DeepLabv3().eval()
        image = torch.rand(1, 1, 224, 224)
    assert parameter_count(network) == 39_633_729
    assert f"{true_macs(network, image) / 1e9:.4f}" == "31.3065"
    pytest.importorskip("thop")
    macs, parameters = paper_counts(network, image)
    assert f"{macs / 1e9:.4f}" == "31.4137"
    assert parameters == 39_633_729


@pytest.mark.parametrize("maps", [0, 2])
@pytest.mark.parametrize("size", [(61, 53), (16, 16)])
def test_a_training_step_reaches_every_parameter(size, maps):
    network = small(maps).train()
    image = torch.rand(2, 1, *size)
    mixed_loss(network(image, torch.rand(2, 2, *size)), (image > 0.8).float()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # at two pixels the widest dilations have weights that see padding alone
        assert parameter.grad.any(), name


def test_one_slice_is_predicted_and_not_trained_on():
    network, image = small(), torch.rand(1, 1, 33, 40)
    with pytest.raises(ValueError, match="batches of two slices or more, found one"):
        network(image)
    with torch.inference_mode():
        assert network.eval()(image).shape == image.shape


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_slices_and_half_precision_stay_finite(value):
    network, image = small().eval(), torch.full((1, 1, 40, 33), value)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(image).isfinite().all()


def test_each_map_is_a_channel_behind_the_three_of_the_slice():
    network, image, maps = small(2).eval(), torch.rand(1, 1, 32, 32), torch.rand(1, 2, 32, 32)
    filters = network.network.backbone["conv1"].weight
    assert filters.shape == (64, 5, 7, 7)
    with torch.no_grad():
        seen = network(image, maps)
        assert not torch.equal(seen, network(image, maps.flip(1)))
        filters[:, 3:] = 0
        assert torch.equal(network(image, maps), network(image, 1 - maps))
        assert not torch.equal(network(image, maps), network(1 - image, maps))


def test_weights_of_torchvision_s_two_kinds_of_files_are_taken():
    network, other = small(inputs=1), small()
    public = other.network.state_dict()
    public = {name: torch.rand(value.shape) for name, value in public.items()}
    backbone = {
        name.removeprefix("backbone."): value
        for name, value in public.items()
        if name.startswith("backbone.") and not name.endswith("num_batches_tracked")
    }
    classes = {"classifier.4.weight": torch.ones(21, 64, 1, 1), "classifier.4.bias": torch.ones(21)}
    auxiliary = {"aux_classifier.0.weight": torch.ones(1)}
    for file in ({**backbone, "fc.bias": torch.ones(9)}, {**public, **classes, **auxiliary}):
        state = reference_state(network, file)
        network.load_state_dict(state)
        assert torch.equal(state["network.backbone.conv1.weight"][:, :3], backbone["conv1.weight"])
        name = "layer3.0.downsample.0.weight"
        assert torch.equal(state[f"network.backbone.{name}"], backbone[name])
        kept = ["network.classifier.4.weight", "network.classifier.4.bias"]
        assert all(torch.equal(state[name], network.state_dict()[name]) for name in kept)
    assert torch.equal(state["network.classifier.1.weight"], public["classifier.1.weight"])


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"fit DeepLabv3: 80 missing .* 1 unexpected"):
        reference_state(small(), {"encoder.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"width must be 16, 32, .* found 24"):
        DeepLabv3(width=24)
