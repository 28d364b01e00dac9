"""What `recipe: own` and its keys do in a training, and that prediction sees what training saw."""

from functools import partial

import lightning
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from grcsf.losses import (
    cross_entropy_loss,
    dice_cross_entropy_loss,
    structure_loss,
    tversky_cross_entropy_loss,
)
from grcsf.models.blocks import SegmentationNetwork
from grcsf.models.normalisation import Normalisation
from pipeline import predict as prediction
from pipeline import train_segmentation as stage
from pipeline.errors import PipelineError
from pipeline.networks.build import beyond_of, build_network
from pipeline.networks.segmentation_training import SegmentationTraining
from pipeline.planning.network_costs import network_macs, network_parameters
from pipeline.predict import predict
from pipeline.settings import Dataset, Experiment, Slices, Training
from pipeline.storage.files import read_json
from pipeline.storage.slices import CaseSampler, SliceDataset, mean_and_deviation
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.results import RESOURCES, TRAINING
from tests.pipeline.test_peers import SPIN, WIDE, TwoHeads, described
from tests.pipeline.trainings import SEED, assert_same, killed_before_epoch, weights

FIGURES = {"mean", "deviation"}
triple_cross_entropy = partial(cross_entropy_loss, lesion_weight=3)
plain_cross_entropy = partial(cross_entropy_loss, lesion_weight=1)
a_fifth_dice = partial(dice_cross_entropy_loss, dice_weight=0.2)
OWN = {"recipe": "own", "epochs": 2, "batch_size": 1}


def trained(layout, settings, name="spin"):
    stage.train_segmentation(layout, name, 1, settings, 0, WIDE, SEED, RESOURCES)
    return layout.model(name, 1)


def loss_of_a_step(monkeypatch, network, training, image, label):
    module = SegmentationTraining(network, training, SEED)
    monkeypatch.setattr(SegmentationTraining, "trainer", type("One", (), {"world_size": 1})())
    monkeypatch.setattr(module, "log", lambda *_, **__: None)
    return module.training_step({"image": image, "label": label}, 0)


@pytest.mark.parametrize(
    ("given", "loss"),
    [
        ({"loss": "cross_entropy", "positive_weight": 3}, triple_cross_entropy),
        ({"loss": "cross_entropy"}, plain_cross_entropy),
        ({"loss": "dice_cross_entropy", "dice_weight": 0.2}, a_fifth_dice),
        ({"loss": "structure"}, structure_loss),
    ],
)
def test_the_chosen_loss_is_taken_of_every_head(monkeypatch, given, loss):
    image, training = torch.rand(2, 1, 8, 8), Training(**given)
    label = (image > 0.7).float()
    actual = loss_of_a_step(monkeypatch, TwoHeads(), training, image, label)
    expected = loss(image - 0.5, label) + 0.25 * loss(3 * image - 1, label)
    torch.testing.assert_close(actual, expected)


def test_ut_net_s_auxiliary_heads_weigh_in_its_own_loss_and_cost_no_macs(monkeypatch):
    own = Experiment(model="ut_net", width=2, training={"recipe": "own"})
    network = build_network(own, 0, Slices(size=(32, 32), window=(0, 1))).eval()
    image = torch.rand(2, 1, 32, 32)
    label = (image > 0.7).float()
    heads = network.supervised(image)
    assert [weight for weight, _ in heads] == [1, 0.4, 0.2, 0.1]
    expected = sum(weight * tversky_cross_entropy_loss(logits, label) for weight, logits in heads)
    actual = loss_of_a_step(monkeypatch, network, own.training, image, label)
    torch.testing.assert_close(actual, expected)
    chosen = Dataset.model_validate(described({"model": "ut_net", "width": 2}))
    aux = Dataset.model_validate(described({**own.model_dump(exclude={"resources"})}))
    assert network_macs(aux, "one") == network_macs(chosen, "one")
    # 1 weight a channel and a bias, for 4, 8 and 16 channels
    assert network_parameters(aux, "one") - network_parameters(chosen, "one") == 28 + 3


class OneWeight(torch.nn.Module):
    """Logits are one weight times the image, whose gradient so is known by hand."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, image, _residuals=None):
        return self.weight * image

    def supervised(self, image, residuals=None):
        return [(1.0, self(image, residuals))]


def steps(tmp_path, epochs=2, **training):
    """The weight after each epoch of one step: its gradient is −16 at the weight 0."""
    chosen = Training(epochs=epochs, loss="cross_entropy", schedule="constant", **training)
    module, seen = SegmentationTraining(OneWeight(), chosen, SEED), []
    # log p has the slope 1 − p = 0.5 of the logit, times the image 32
    data = DataLoader([{"image": torch.full((1, 2, 2), 32.0), "label": torch.ones(1, 2, 2)}])

    class Noted(lightning.Callback):
        def on_train_batch_end(self, *_):
            seen.append(float(module.network.weight.detach()))

    trainer = lightning.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[Noted()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, data, data)
    return seen


def test_sgd_has_its_rate_momentum_and_decay(tmp_path):
    chosen = {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 0.5, "learning_rate": 1.0}
    first, second = steps(tmp_path, **chosen)
    assert first == pytest.approx(16)
    # the slope is nearly 0 at a logit of 512: half of the first step, and decay 0.5 · 16
    assert second == pytest.approx(16 + 0.5 * 16 - 0.5 * 16, abs=1e-4)


def test_gradients_are_shortened_to_clip(tmp_path):
    chosen = {"optimizer": "sgd", "momentum": 0, "learning_rate": 1.0}
    assert steps(tmp_path, 1, clip=2.0, **chosen) == pytest.approx([2.0])


def test_moments_can_be_forgotten_at_every_epoch_and_have_their_own_decay(tmp_path):
    # at a logit of 32 · 3 the gradient is 0 in float32, so all that moves the weight is memory
    first, second = steps(tmp_path, learning_rate=3.0, betas=(0.5, 0.999))
    assert first == pytest.approx(3)
    # moments 0.5 · 0.5 · 16 over 1 − 0.25, and 0.999 · 0.001 · 256 over 1 − 0.999²
    assert second - first == pytest.approx(3 * (4 / 0.75) / (0.255744 / 0.001999) ** 0.5, rel=1e-3)
    first, second = steps(tmp_path, learning_rate=3.0, restart_moments=True)
    assert second == pytest.approx(first)


def test_an_epoch_shows_one_slice_of_every_case_mostly_with_lesion():
    cases, case_of = [([0, 1], [2, 3]), ([4], [5]), ([], [6, 7])], [0, 0, 0, 0, 1, 1, 2, 2]
    order, seen = CaseSampler(cases, 0.75, seed=3), []
    for epoch in range(400):
        order.set_epoch(epoch)
        shown = list(order)
        assert len(shown) == len(order) == 3
        assert sorted(case_of[number] for number in shown) == [0, 1, 2]
        seen += shown
    order.set_epoch(0)
    assert list(order) == seen[:3], "seed and epoch alone decide"
    share = np.isin(seen, [0, 1, 4]).sum() / np.isin(seen, range(6)).sum()
    assert share == pytest.approx(0.75, abs=0.05)
    assert set(seen) == set(range(8))


def test_spin_s_own_training_normalises_by_its_training_cases_and_so_does_prediction(
    ingested, monkeypatch
):
    own = Experiment(**SPIN, training=OWN)
    monkeypatch.setattr(prediction, "slices_in_context", noted := Noted(prediction))
    manifest = trained(ingested, own)
    record = read_json(manifest)["settings"]
    stores = {case: ingested.case_store(case) for case in ("a", "b")}
    data = SliceDataset([(case, z) for case in stores for z in range(6)], stores, WIDE)
    pixels = torch.cat([data[i]["image"] for i in range(12)]).double()
    figures = {"mean": float(pixels.mean()), "deviation": float(pixels.std(correction=0))}
    assert record["normalisation"] == pytest.approx(figures, rel=1e-6)
    state = weights(manifest)
    for name in FIGURES:
        stored = state[f"normalisation.{name}"]
        assert stored.flatten().tolist() == pytest.approx([figures[name]] * 5)
    predict(ingested, "spin", 1, own, 0, WIDE, RESOURCES)
    (beyond,) = noted.beyond
    assert beyond == pytest.approx(figures["mean"])
    plain = build_network(Experiment(**SPIN), 0, WIDE).eval()
    rest = {key: value for key, value in state.items() if not key.startswith("normalisation")}
    plain.load_state_dict(rest)
    mean, deviation = (float(state[f"normalisation.{name}"][0]) for name in ("mean", "deviation"))
    planes, stores = [("d", z) for z in range(6)], {"d": ingested.case_store("d")}
    shown = SliceDataset(planes, stores, WIDE, context=2, beyond=mean)
    image = torch.stack([shown[z]["image"] for z in range(6)])
    assert image[0, 0].unique().tolist() == pytest.approx([mean])
    with torch.inference_mode():
        expected = torch.sigmoid(plain((image - mean) / deviation))
    path = ingested.prediction_store("spin", 1, "d")
    predicted = torch.from_numpy(read_array(open_store(path), "probability")).float()
    resized = torch.nn.functional.interpolate(expected, predicted.shape[1:], mode="bilinear")
    assert not predicted[0].any(), "an empty slice, which no network sees"
    assert (predicted - resized[:, 0])[1:].abs().mean() < 0.01


class Noted:
    """A function that does as before, and remembers what lies beyond a volume."""

    def __init__(self, module):
        self._original, self.beyond = module.slices_in_context, set()

    def __call__(self, *arguments):
        self.beyond.add(arguments[-1])
        return self._original(*arguments)


def test_a_resumed_training_from_public_weights_ends_in_the_same_bits(ingested, tmp_path):
    torch.manual_seed(9)
    save_file(build_network(Experiment(**SPIN), 0, WIDE).state_dict(), tmp_path / "a.safetensors")
    start = {"pretrained": str(tmp_path / "a.safetensors")}
    own = Experiment(**SPIN, **start, training=OWN)
    whole = weights(trained(ingested, own))
    with killed_before_epoch(1):
        trained(ingested, own, "other")
    assert_same(whole, weights(trained(ingested, own, "other")))


def test_training_slices_of_one_intensity_are_refused(ingested):
    dark = WIDE.model_copy(update={"window": (5000, 6000)})
    own = Experiment(**SPIN, training=OWN)
    expected = r"training.normalise: found the intensity 0 in all slices of 2 training cases"
    with pytest.raises(PipelineError, match=expected):
        stage.train_segmentation(ingested, "spin", 1, own, 0, dark, SEED, RESOURCES)


def test_without_normalisation_nothing_lies_beyond_a_volume():
    network = build_network(Experiment(**SPIN, training=TRAINING), 0, WIDE)
    assert isinstance(network, SegmentationNetwork)
    assert network.normalisation is None
    assert beyond_of(network) == 0
    network.normalisation = Normalisation([0.25] * 5, [1.0] * 5)
    assert beyond_of(network) == 0.25


def test_mean_and_deviation_by_hand():
    class Two(SliceDataset):
        def __init__(self):
            self.slices = [("a", 0), ("a", 1)]

        def __getitem__(self, index):
            return {"image": torch.tensor([[[0.0, 1.0]], [[1.0, 1.0]]])[index]}

    # 0, 1, 1, 1: mean 3/4, variance 3/4 − 9/16
    assert mean_and_deviation(Two()) == pytest.approx((0.75, (3 / 16) ** 0.5))
