"""Trainings of Table 1's networks from files in their authors' form, each kind made up here."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline import train_segmentation as stage
from pipeline.errors import PipelineError
from pipeline.networks.build import build_network
from pipeline.networks.public_checkpoints import load_public_weights
from pipeline.orchestration.job_files import read_files
from pipeline.planning.network_costs import network_macs, network_parameters
from pipeline.settings import Dataset, Experiment, Slices
from pipeline.settings.paths import pretrained_files
from pipeline.settings.recipes.start import PRETRAINED
from pipeline.storage.files import read_json
from pipeline.storage.source_notes import source_changes
from tests.grcsf.models.peers import test_trans_unet as trans_unet
from tests.pipeline.networks.test_public_checkpoints import Trap
from tests.pipeline.results import SLICES, TRAINING
from tests.pipeline.trainings import nothing_trained, segment
from tests.pipeline.trainings import weights as weights_of

KEY = "experiments.grcsf.pretrained"
FUSED = Experiment(model="trans_fuse", width=1, training=TRAINING)


def network_of(model, seed, **changes):
    torch.manual_seed(seed)
    if model == "trans_unet":
        return trans_unet.small(seed)
    width = {"deeplabv3": 16, "spin": 16, "trans_fuse": 1}.get(model, 2)
    size = (64, 64) if model in ("swin_unet", "spin") else (32, 32)
    chosen = Experiment(model=model, width=width, **changes)
    return build_network(chosen, 0, Slices(size=size, window=(0, 1)))


def under(prefix, network):
    """The part of a network's weights below a name, with that name left out."""
    return {
        name.removeprefix(prefix): value.contiguous()
        for name, value in network.state_dict().items()
        if name.startswith(prefix)
    }


def write_public(model, network, folder):
    """A made-up public file, and the values that it has for the network."""
    state = network.state_dict()
    if model == "deeplabv3":
        path, part = folder / "a.pth", "network.backbone."
        torch.save({**under(part, network), "fc.bias": torch.ones(3)}, path)
    elif model == "swin_unet":
        path, part = folder / "a.bin", ""
        torch.save({"model": state}, path)
    elif model == "trans_unet":
        path, state, part = folder / "a.npz", trans_unet.encoder_of(network), ""
        np.savez(path, **trans_unet.as_archive(state))
    elif model == "trans_fuse":
        path, part = folder / "a.pth", "transformer."
        torch.save({"model": under(part, network)}, path)
    else:
        path, part = folder / "a.safetensors", ""
        save_file(state, path)
    return path, {name: value for name, value in state.items() if name.startswith(part)}


@pytest.mark.parametrize("model", PRETRAINED)
def test_what_a_file_holds_is_what_the_network_starts_from(tmp_path, model):
    network = network_of(model, 2)
    path, public = write_public(model, network_of(model, 1), tmp_path)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert pretrained_files(model, [str(path)], KEY) == [path]
    load_public_weights(network, model, [path], KEY)
    after = network.state_dict()
    assert any(not torch.equal(value, before[name]) for name, value in after.items())
    for name, value in after.items():
        assert torch.equal(value, public.get(name, before[name])), name


@pytest.fixture
def two_files(tmp_path):
    """A ResNet and a DeiT, each in a file of its own, and the network whose they are."""
    source = build_network(FUSED, 0, SLICES)
    torch.save(under("cnn.", source), tmp_path / "resnet.pth")
    save_file(under("transformer.", source), tmp_path / "deit.safetensors")
    return [str(tmp_path / "resnet.pth"), str(tmp_path / "deit.safetensors")], source


def test_a_training_begins_with_both_files_and_is_known_by_what_they_hold(
    ingested, two_files, tmp_path, monkeypatch
):
    files, source = two_files
    seen = {}

    def begin(module, *_, **__):
        seen.update({name: value.clone() for name, value in module.network.state_dict().items()})
        raise KeyboardInterrupt

    started = FUSED.model_copy(update={"pretrained": tuple(files)})
    with monkeypatch.context() as patch:
        patch.setattr(stage, "fit", begin)
        with pytest.raises(KeyboardInterrupt):
            segment(ingested, started)
    filled = [name for name in seen if name.startswith(("cnn.", "transformer."))]
    assert all(torch.equal(seen[name], source.state_dict()[name]) for name in filled)
    assert not torch.equal(seen["head_2.0.0.weight"], source.state_dict()["head_2.0.0.weight"])
    manifest = segment(ingested, started)
    whole = weights_of(manifest)
    assert read_json(manifest)["settings"]["experiment"]["pretrained"] == files
    moved = tmp_path / "elsewhere.pth"
    Path(files[0]).rename(moved)
    moved.touch()
    elsewhere = FUSED.model_copy(update={"pretrained": (str(moved), files[1])})
    with nothing_trained():
        segment(ingested, elsewhere)
    note = ingested.sources("train_segmentation grcsf 1")
    assert source_changes(note).replaced == []
    torch.save({name: value + 1 for name, value in under("cnn.", source).items()}, moved)
    assert source_changes(note).replaced == [moved]
    retrained = weights_of(segment(ingested, elsewhere))
    assert any(not torch.equal(value, whole[name]) for name, value in retrained.items())


def test_files_are_inputs_of_the_training_alone_and_cost_nothing(ingested, two_files):
    files, _ = two_files
    one = {"model": "trans_fuse", "width": 1, "pretrained": files}
    described = {
        "source": {"adapter": "manifest", "root": "x", "modality": "MR"},
        "slices": {"size": (32, 32), "window": (0, 150)},
        "experiments": {"one": one, "plain": {**one, "pretrained": None}},
    }
    chosen, names = Dataset.model_validate(described), {"experiment": "one", "subset": 1}
    read = read_files(ingested, chosen, "train_segmentation", names)
    assert [str(path) for path in read[-2:]] == files
    assert not {*files} & {*map(str, read_files(ingested, chosen, "predict", names))}
    assert network_macs(chosen, "one") == network_macs(chosen, "plain")
    assert network_parameters(chosen, "one") == network_parameters(chosen, "plain")


def read_weights(path):
    """What `write_public` has written."""
    if path.suffix == ".npz":
        return {name: torch.as_tensor(array) for name, array in np.load(path).items()}
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path)


def refusal(model, path):
    network = network_of(model, 1)
    with pytest.raises(PipelineError) as raised:
        load_public_weights(network, model, pretrained_files(model, [str(path)], KEY), KEY)
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    assert text.startswith(f"{KEY}: {path}: ")
    assert text.endswith(f"; it takes {PRETRAINED[model]}")
    return text.removeprefix(f"{KEY}: {path}: ").removesuffix(f"; it takes {PRETRAINED[model]}")


@pytest.mark.parametrize("model", PRETRAINED)
def test_entries_that_are_no_weights_are_refused_in_one_line(tmp_path, model):
    path = tmp_path / "a.pth"
    for entry, found in (
        ({3: torch.ones(1)}, "entry 3 is named by int, not by text"),
        ({"a": torch.ones(2).to_sparse()}, "entry 'a' is sparse, expected a dense tensor"),
        ({"a": torch.ones(2, device="meta")}, "entry 'a' is without values, expected a dense"),
        ({"a": torch.ones(2, dtype=torch.int8)}, "'a' is of torch.int8, expected floating-point"),
        ({"a": torch.ones(2, dtype=torch.bool)}, "'a' is of torch.bool, expected floating-point"),
        ({"a": torch.ones(2) * 1j}, "'a' is of torch.complex64, expected floating-point"),
    ):
        torch.save(entry, path)
        assert found in refusal(model, path)


@pytest.mark.parametrize(
    ("model", "table"),
    [
        ("swin_unet", "layers.0.blocks.0.attn.relative_position_bias_table"),
        ("trans_unet", "Transformer/posembed_input/pos_embedding"),
    ],
)
def test_a_table_of_another_form_is_refused_in_one_line(tmp_path, model, table):
    written, _ = write_public(model, network_of(model, 1), tmp_path)
    state, path = read_weights(written), tmp_path / "changed.pth"
    state = state.get("model", state)
    for form in ((), (7,), (1, 0, 2), (170, 3)):
        torch.save(state | {table: torch.ones(form)}, path)
        assert "1 mis-shaped" in refusal(model, path)


@pytest.mark.parametrize("model", PRETRAINED)
def test_values_beyond_float32_are_refused_in_one_line(tmp_path, model):
    written, _ = write_public(model, network_of(model, 1), tmp_path)
    state, path = read_weights(written), tmp_path / "changed.pth"
    state = state.get("model", state)
    name = next(name for name, value in state.items() if value.ndim == 4)
    large = torch.full(state[name].shape, 1e300, dtype=torch.float64)
    torch.save(state | {name: large}, path)
    assert "1 not finite" in refusal(model, path)


def test_colour_networks_refuse_a_resnet_of_one_channel(tmp_path):
    state, path = under("cnn.", network_of("trans_fuse", 1)), tmp_path / "a.pth"
    torch.save(state | {"conv1.weight": state["conv1.weight"][:, :1].clone()}, path)
    assert "1 mis-shaped (cnn.conv1.weight (1, 1, 7, 7)" in refusal("trans_fuse", path)
    written, _ = write_public("trans_unet", network_of("trans_unet", 1), tmp_path)
    state = read_weights(written)
    torch.save(state | {"conv_root/kernel": state["conv_root/kernel"][:, :, :1].clone()}, path)
    assert "1 mis-shaped (resnet.stem.conv.weight (" in refusal("trans_unet", path)


def test_two_files_for_one_branch_are_refused_in_one_line_that_names_both(two_files, tmp_path):
    paths = [Path(two_files[0][0]), tmp_path / "other.pth"]
    torch.save(torch.load(paths[0]), paths[1])
    with pytest.raises(
        PipelineError, match=f"{paths[1]}: fills cnn.* as {paths[0]} does"
    ) as raised:
        load_public_weights(network_of("trans_fuse", 1), "trans_fuse", paths, KEY)
    assert "\n" not in str(raised.value)


def test_variables_in_a_path_are_filled_in(tmp_path, monkeypatch):
    monkeypatch.setenv("WEIGHTS", str(tmp_path))
    (tmp_path / "a.pth").touch()
    assert pretrained_files("spin", ["$WEIGHTS/a.pth"], KEY) == [tmp_path / "a.pth"]
    with pytest.raises(PipelineError, match=rf"{KEY}: found '\$NOWHERE_SET/a.pth'"):
        pretrained_files("spin", ["$NOWHERE_SET/a.pth"], KEY)


def test_files_that_are_no_start_are_refused_in_one_line_that_names_those_that_are(tmp_path):
    path, sprung = tmp_path / "a.pth", tmp_path / "sprung"
    assert refusal("spin", path) == "not there"
    assert refusal("spin", tmp_path) == "found a folder, expected a file"
    arrays = tmp_path / "a.npz"
    np.savez(arrays, conv=np.ones(3))
    assert "a file of kind '.npz', expected .pth, .pt, .bin, .saf" in refusal("spin", arrays)
    torch.save({"conv1.weight": torch.ones(1), "trap": Trap(sprung)}, path)
    assert "holds more than weights" in refusal("deeplabv3", path)
    np.savez(arrays, conv=np.array([Trap(sprung)], dtype=object))
    assert "holds more than weights" in refusal("trans_unet", arrays)
    assert not sprung.exists()
    torch.save(under("network.backbone.", network_of("deeplabv3", 1)), path)
    assert re.match(r"weights do not fit SPiN: \d+ missing", refusal("spin", path))
    path.write_bytes(path.read_bytes()[:-5000])
    assert "damaged" in refusal("deeplabv3", path)
    torch.save({"epoch": 3}, path)
    assert "'epoch' is int, not a tensor" in refusal("deeplabv3", path)
