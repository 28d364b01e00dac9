"""SAM's public weights: the two formats that are read, and what is refused without being run."""

import json
import pickle

import pytest
import torch

from grcsf.models.peers.sam import prompt_boxes
from pipeline.errors import PipelineError
from pipeline.networks.public_checkpoints import load_public_sam
from pipeline.settings.paths import sam_files
from tests.grcsf.models.peers.public_sam import SMALL, public_state, random_sam

KEY = "experiments.sam.checkpoint"
IMAGE = torch.linspace(0, 1, 30 * 20).reshape(30, 20)
BOXES = prompt_boxes((IMAGE > 0.3).numpy() & (IMAGE < 0.6).numpy())


@pytest.fixture(scope="module")
def trained():
    return random_sam()


@pytest.fixture
def checkpoint(tmp_path, trained):
    path = tmp_path / "sam_vit_h_4b8939.pth"
    torch.save(public_state(trained), path)
    return path


@pytest.fixture
def folder(tmp_path, trained):
    """A folder as transformers saves it, with its own epsilon, unlike the published one."""
    trained.network.save_pretrained(tmp_path / "sam-vit-huge")
    path = tmp_path / "sam-vit-huge"
    configure(path, "mask_decoder_config", layer_norm_eps=1e-6)
    return path


def configure(folder, part, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8"))
    (config[part] if part else config).update(values)
    path.write_text(json.dumps(config), "utf-8")


def refusal(path):
    with pytest.raises(PipelineError) as raised:
        load_public_sam(path, KEY)
    text = str(raised.value)
    assert len(text.splitlines()) == 1
    return text


def assert_tells_what_to_fetch(text):
    assert text.startswith(f"{KEY}: ")
    assert "sam_vit_h_4b8939.pth of github.com/facebookresearch/segment-anything" in text
    assert "config.json and model.safetensors of huggingface.co/facebook/sam-vit-huge" in text


def test_both_formats_give_the_same_masks(checkpoint, folder, trained):
    expected = trained.segment(IMAGE, BOXES)
    assert expected.std() > 0.01
    for path in (checkpoint, folder):
        read = load_public_sam(path, KEY)
        assert read.sizes == SMALL
        assert torch.equal(read.segment(IMAGE, BOXES), expected)


def test_the_decoder_s_heads_are_those_of_the_folder_s_config(folder):
    configure(folder, "mask_decoder_config", num_attention_heads=2)
    assert load_public_sam(folder, KEY).sizes.decoder_heads == 2


def test_files_of_torch_before_1_6_are_read(tmp_path, trained):
    path = tmp_path / "old.pth"
    torch.save(public_state(trained), path, _use_new_zipfile_serialization=False)
    assert load_public_sam(path, KEY).sizes == SMALL


def test_files_of_each_format_are_inputs_of_their_jobs(checkpoint, folder):
    assert sam_files(checkpoint, KEY) == [checkpoint]
    assert sam_files(folder, KEY) == [folder / "model.safetensors", folder / "config.json"]


def test_without_a_checkpoint_one_line_tells_which_from_where_and_in_which_formats():
    text = refusal(None)
    assert_tells_what_to_fetch(text)
    assert "not given" in text


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("away.pth", "away.pth: not there"),
        ("weights.bin", "a file of kind '.bin'"),
        ("model.safetensors", "a file of kind '.safetensors'"),
        ("empty", "model.safetensors: not there; config.json: not there"),
    ],
)
def test_other_paths_are_refused(tmp_path, name, found):
    (tmp_path / "empty").mkdir()
    for file in ("weights.bin", "model.safetensors"):
        (tmp_path / file).touch()
    text = refusal(tmp_path / name)
    assert_tells_what_to_fetch(text)
    assert found in text


def test_a_folder_with_pickled_weights_alone_is_refused(folder, trained):
    (folder / "model.safetensors").unlink()
    torch.save(trained.network.state_dict(), folder / "pytorch_model.bin")
    text = refusal(folder)
    assert_tells_what_to_fetch(text)
    assert "model.safetensors: not there; pytorch_model.bin is not read" in text


class Trap:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("writer", [torch.save, pickle.dump])
def test_code_in_a_file_is_never_run(tmp_path, writer):
    path, sprung = tmp_path / "sam.pth", tmp_path / "sprung"
    with path.open("wb") as file:
        content = {"image_encoder.pos_embed": Trap(sprung)}
        writer(content, file)
    text = refusal(path)
    assert_tells_what_to_fetch(text)
    assert "damaged, or holds more than weights" in text
    assert not sprung.exists()


def test_a_file_that_was_cut_off_is_refused(checkpoint):
    checkpoint.write_bytes(checkpoint.read_bytes()[:-5000])
    text = refusal(checkpoint)
    assert_tells_what_to_fetch(text)
    assert "damaged" in text


def test_weights_of_another_network_are_refused(tmp_path, trained):
    path = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)
    assert_tells_what_to_fetch(refusal(path))
    state = public_state(trained)
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, path)
    text = refusal(path)
    assert_tells_what_to_fetch(text)
    assert "does not fit SAM: 1 missing (mask_decoder.iou_token.weight)" in text


@pytest.mark.parametrize(
    ("part", "values", "found"),
    [
        ("", {"model_type": "sam2"}, "model_type is 'sam2', SAM's is 'sam'"),
        ("vision_config", {"hidden_act": "relu"}, "vision_config.hidden_act is 'relu'"),
        ("mask_decoder_config", {"hidden_act": "gelu"}, "mask_decoder_config.hidden_act is 'gelu'"),
        ("mask_decoder_config", {"num_attention_heads": 0}, "num_attention_heads is 0"),
        ("mask_decoder_config", {"num_attention_heads": "8"}, "num_attention_heads is '8'"),
        ("", {"vision_config": [1]}, "its parts are no mappings"),
    ],
)
def test_a_config_of_another_model_is_refused(folder, part, values, found):
    configure(folder, part, **values)
    text = refusal(folder)
    assert_tells_what_to_fetch(text)
    assert found in text


def test_a_config_that_is_no_json_is_refused(folder):
    (folder / "config.json").write_text("{", "utf-8")
    assert "config.json: no readable JSON" in refusal(folder)
