"""Public checkpoints: the formats that are read, and what is refused without being run."""

import argparse
import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from grcsf.mae.checkpoint import to_hugging_face
from grcsf.mae.model import build_mae
from pipeline.errors import PipelineError
from pipeline.networks.public_checkpoints import checkpoint_digest, load_public_mae

SHAPE = {"image_size": 32, "patch_size": 8}


@pytest.fixture
def trained():
    torch.manual_seed(3)
    return build_mae("tiny", **SHAPE)


def assert_loads(path, trained):
    model = build_mae("tiny", **SHAPE)
    load_public_mae(model, path)
    for name, value in trained.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def hugging_face(folder, trained, weights="model.safetensors", **config):
    folder.mkdir()
    state = {
        name: value.contiguous() for name, value in to_hugging_face(trained.state_dict()).items()
    }
    if weights.endswith(".bin"):
        torch.save(state, folder / weights)
    else:
        save_file(state, folder / weights)
    (folder / "config.json").write_text(json.dumps({"model_type": "vit_mae", **config}), "utf-8")
    return folder


def refusal(path):
    with pytest.raises(PipelineError) as raised:
        load_public_mae(build_mae("tiny", **SHAPE), path)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


@pytest.mark.parametrize("name", ["mae.pth", "mae.bin", "mae.safetensors"])
def test_files_of_each_kind_are_read_and_their_names_no_part_of_the_digest(tmp_path, trained, name):
    path = tmp_path / name
    if name.endswith("safetensors"):
        save_file(trained.state_dict(), path)
    else:  # arguments beside the weights do not stand in the way
        arguments = argparse.Namespace(norm_pix_loss=False, lr=1e-3)
        torch.save({"model": trained.state_dict(), "args": arguments, "epoch": 3}, path)
    assert_loads(path, trained)
    digest = checkpoint_digest(path)
    assert digest == checkpoint_digest(path.rename(tmp_path / f"of-another-{name}"))


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face_folders_are_read_and_every_file_is_part_of_the_digest(
    tmp_path, trained, weights
):
    folder = hugging_face(tmp_path / "vitmae", trained, weights)
    assert_loads(folder, trained)
    before = checkpoint_digest(folder)
    (folder / "config.json").write_text('{"model_type": "vit_mae", "x": 1}', "utf-8")
    assert checkpoint_digest(folder) != before


def test_what_transformers_saves_itself_is_read(tmp_path, trained):
    transformers = pytest.importorskip("transformers")
    shape = trained.shape
    config = transformers.ViTMAEConfig(
        image_size=trained.image_size,
        patch_size=trained.patch_size,
        num_channels=1,
        hidden_size=shape.width,
        num_hidden_layers=shape.depth,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        decoder_hidden_size=shape.decoder_width,
        decoder_num_hidden_layers=shape.decoder_depth,
        decoder_num_attention_heads=shape.decoder_heads,
        decoder_intermediate_size=4 * shape.decoder_width,
    )
    theirs = transformers.ViTMAEForPreTraining(config)
    theirs.load_state_dict(to_hugging_face(trained.state_dict()))
    theirs.save_pretrained(tmp_path / "saved")
    assert_loads(tmp_path / "saved", trained)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_attention_heads", 6),
        ("decoder_num_attention_heads", 8),
        ("hidden_act", "relu"),
        ("qkv_bias", False),
    ],
)
def test_what_fits_and_computes_otherwise_is_refused(tmp_path, trained, key, value):
    folder = hugging_face(tmp_path / "vitmae", trained, **{key: value})
    assert f"{key} is {value!r}, the MAE's is" in refusal(folder)


def test_models_of_normalised_targets_are_refused_with_the_reason(tmp_path, trained):
    folder = hugging_face(tmp_path / "vitmae", trained, norm_pix_loss=True)
    path = tmp_path / "mae.pth"
    arguments = argparse.Namespace(norm_pix_loss=True)
    torch.save({"model": trained.state_dict(), "args": arguments}, path)
    for checkpoint in (folder, folder / "model.safetensors", path):
        assert "trained with norm_pix_loss" in refusal(checkpoint)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_checkpoint_is_run(tmp_path, trained):
    sprung = tmp_path / "sprung"
    content = {"model": trained.state_dict(), "trap": Trap(sprung)}
    torch.save(content, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(content))
    for name in ("zip.pth", "plain.pth"):
        assert "holds more than weights" in refusal(tmp_path / name)
    assert not sprung.exists()


def test_what_is_missing_or_damaged_is_told(tmp_path, trained):
    assert "not there" in refusal(tmp_path / "none.pth")
    (tmp_path / "empty").mkdir()
    assert "a folder without model.safetensors or pytorch_model.bin" in refusal(tmp_path / "empty")
    folder = hugging_face(tmp_path / "vitmae", trained)
    (folder / "config.json").write_text("{", "utf-8")
    assert "no readable JSON" in refusal(folder)
