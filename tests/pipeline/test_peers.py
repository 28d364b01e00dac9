"""The other networks of Table 1 from settings to masks: sizes, neighbours, heads, batches."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from grcsf.losses import mixed_loss
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.peer_sizes import PEERS
from grcsf.neighbours import with_neighbours
from pipeline.networks.build import beyond_of, build_network
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.planning.network_costs import network_macs, network_parameters
from pipeline.predict import predict, predict_case
from pipeline.settings import Dataset, Experiment, Settings, Slices
from pipeline.storage.files import read_json
from pipeline.storage.slices import LargeBatches, SliceDataset, SliceSampler, slice_loader
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import RESOURCES, TRAINING
from tests.pipeline.trainings import SEED

SPIN = {"model": "spin", "width": 16}
FUSE = {"model": "trans_fuse", "width": 1}
WIDE = Slices(size=(32, 40), window=(0, 150))


def described(experiment, size=(32, 32)):
    return {
        "source": {"adapter": "manifest", "root": "x", "modality": "MR"},
        "slices": {"size": size, "window": (0, 150)},
        "experiments": {"one": experiment},
    }


def dataset(experiment, size=(32, 32)):
    return Dataset.model_validate(described(experiment, size))


class Shown(SegmentationNetwork):
    """Logits are the middle slice of five, which it remembers."""

    size_multiple = 1
    context = 2

    def __init__(self):
        super().__init__()
        self.shown = []

    def segment(self, image, residuals):  # noqa: ARG002
        self.shown.append(image)
        return image[:, 2:3]


class TwoHeads(torch.nn.Module):
    def supervised(self, image, residuals=None):  # noqa: ARG002
        return [(1.0, image - 0.5), (0.25, 3 * image - 1)]


@pytest.mark.parametrize(
    ("experiment", "message"),
    [
        ({"model": "deeplabv3", "width": 24}, "width: found 24, expected 16, 32, 48 … for deep"),
        ({"model": "spin", "width": 8}, "width: found 8, expected 16, 32, 48"),
        ({"model": "ut_net", "width": 3}, "width: found 3, expected 2, 4, 6"),
        ({"model": "trans_unet", "encoder": "mobilenet"}, "takes no encoder"),
        ({"model": "trans_fuse", "gcu": None}, "takes no gcu"),
        ({"model": "spin"}, "slices.size: found 32×32, expected for spin more than 32 pixels"),
        ({"model": "swin_unet"}, r"slices.size: found 32×32, expected for swin_unet multiples"),
    ],
)
def test_what_a_network_cannot_be_is_refused_before_anything_runs(experiment, message):
    with pytest.raises(ValidationError, match=message):
        dataset(experiment)


@pytest.mark.parametrize(("size", "window"), [(64, 2), (224, 7), (448, 7), (512, 8)])
def test_swin_unet_s_window_follows_the_slices(size, window):
    chosen = dataset({"model": "swin_unet", "width": 2}, (size, size))
    with torch.device("meta"):
        network = build_network(chosen.experiments["one"], 0, chosen.slices)
    assert network.layers[0].blocks[0].window_size == (window, window)


def test_deeplabv3_needs_two_slices_in_each_process():
    one = {"model": "deeplabv3", "training": {"batch_size": 2}, "resources": {"gpus": 2}}
    with pytest.raises(ValidationError, match=r"batch_size: found 2, expected at least 4"):
        Settings.model_validate({"datasets": {"d": described(one)}})


@pytest.mark.parametrize(("least", "sizes"), [(1, [3, 3, 1]), (2, [3, 3])])
def test_a_last_batch_of_one_slice_is_left_out_where_it_cannot_be_learnt_from(least, sizes):
    order = SliceSampler(range(7), (), 1, SEED)
    loader = slice_loader(list(range(7)), 3, order, 0, least)
    assert len(loader) == len(sizes)
    assert [len(batch) for batch in loader] == sizes
    assert [len(batch) for batch in LargeBatches(order, 2, 1)] == [2, 2, 2, 1]


def test_every_head_is_compared_with_the_label_by_its_weight(monkeypatch):
    training = SegmentationTraining(TwoHeads(), TRAINING, SEED)
    monkeypatch.setattr(SegmentationTraining, "trainer", type("One", (), {"world_size": 1})())
    monkeypatch.setattr(training, "log", lambda *_, **__: None)
    image = torch.rand(2, 1, 8, 8)
    label = (image > 0.7).float()
    loss = training.training_step({"image": image, "label": label}, 0)
    expected = mixed_loss(image - 0.5, label) + 0.25 * mixed_loss(3 * image - 1, label)
    torch.testing.assert_close(loss, expected)


def test_a_slice_is_shown_between_its_neighbours_in_training_and_in_prediction(ingested):
    stores = {"a": ingested.case_store("a")}
    depth = open_store(stores["a"]).attrs["slices"]
    planes = [("a", z) for z in range(depth)]
    alone = [SliceDataset(planes, stores, WIDE)[z]["image"] for z in range(depth)]
    expected = with_neighbours(torch.stack(alone), 2, 2, 2)  # (z, 5, h, w)
    data = SliceDataset(planes, stores, WIDE, context=2)
    assert torch.equal(torch.stack([data[z]["image"] for z in range(depth)]), expected)
    assert data[0]["label"].shape == (1, *WIDE.size)
    network = Shown()
    predict_case(network, open_store(stores["a"]), None, WIDE, torch.device("cpu"), 3)
    # what is empty is not looked at
    filled = torch.stack([plane.min() < plane.max() for plane in alone])
    assert 0 < filled.sum() < depth
    assert torch.equal(torch.cat(network.shown), expected[filled])


@pytest.mark.parametrize("network", [SPIN, {"model": "unet", "width": 2, "context": 1}])
def test_neighbours_are_trained_on_predicted_with_and_counted(ingested, network):
    chosen = Experiment(**network, training=TRAINING)
    train_segmentation(ingested, "spin", 1, chosen, 0, WIDE, SEED, RESOURCES)
    predict(ingested, "spin", 1, chosen, 0, WIDE, RESOURCES)
    predicted = read_array(open_store(ingested.prediction_store("spin", 1, "d")), "probability")
    assert np.isfinite(predicted.astype(float)).all()
    assert predicted.std() > 0
    settings = dataset(network, WIDE.size)
    count = read_json(ingested.model("spin", 1))["parameters"]
    assert network_parameters(settings, "one") == count
    assert network_macs(settings, "one") > 0


@pytest.mark.parametrize(("normalise", "seen"), [(None, 0.4), ("dataset", 0.5), ("imagenet", 0.4)])
def test_colours_are_shown_beside_neighbours_and_nothing_beyond_the_volume(normalise, seen):
    chosen = dataset({**FUSE, "context": 1, "training": {"normalise": normalise}})
    network = build_network(chosen.experiments["one"], 0, chosen.slices).eval()
    if normalise == "dataset":
        network.normalisation.fill(0.3, 0.2)
    shown = []
    network.cnn.conv1.register_forward_pre_hook(lambda _, given: shown.append(given[0]))
    beyond = beyond_of(network)
    with torch.inference_mode():
        network(with_neighbours(torch.full((2, 1, 32, 32), 0.4), 1, 1, 1, beyond))
    (first,) = shown  # of each slice: three colours, the neighbour before it, the one behind it
    assert first[:, 3:, 0, 0].tolist() == [pytest.approx([0, seen]), pytest.approx([seen, 0])]


@pytest.mark.parametrize(("model", "neighbours"), [("unet", 0), ("spin", 2)])
def test_neighbours_that_a_network_has_anyway_are_no_other_setting(model, neighbours):
    given = Experiment(model=model, context=neighbours)
    assert given.neighbours == neighbours
    assert given.model_dump() == Experiment(model=model).model_dump()


def test_every_network_of_table_1_can_be_chosen_and_its_settings_read_again():
    for name in PEERS:
        chosen = Experiment(model=name)
        assert Experiment.model_validate(chosen.model_dump()) == chosen
