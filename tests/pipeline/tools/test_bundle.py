"""What `grcsf export` writes, and what is refused as a bundle."""

import json
import shutil
import zipfile

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.networks.build import build_network
from pipeline.networks.weights import keep_model
from pipeline.prediction.bundle import open_bundle
from pipeline.settings import Dataset, Experiment, Source
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.tools.export.model_card import model_card
from tests.pipeline.tools.bundles import altered, exported, rezipped

WEIGHTS = "network.safetensors"
NAMES = ("grcsf", "grcsf/repeat-2")


def read_text(model, name):
    with zipfile.ZipFile(model) as archive:
        return archive.read(name).decode("utf-8")


def test_a_bundle_names_no_folder_and_holds_only_what_is_needed(run, tmp_path):
    layout, dataset = run
    clinic = Source(adapter="manifest", root="/home/somebody/clinic")
    tested = dataset.model_copy(update={"external": {"clinic": clinic}})
    model = exported((layout, tested), tmp_path / "run.zip")
    shutil.unpack_archive(model, tmp_path / "unpacked")
    names = ["MODEL_CARD.md", "bundle.json", "mae-shared.safetensors", "network.safetensors"]
    assert sorted(path.name for path in (tmp_path / "unpacked").iterdir()) == names
    description = read_text(model, "bundle.json")
    text = description + read_text(model, "MODEL_CARD.md")
    assert "somebody" not in text
    assert str(tmp_path) not in text
    record = json.loads(description)
    assert record["split_digest"] == "0123456789abcdef01"
    assert record["cases"] == {"train": 2, "validation": 1, "test": 1}
    assert set(record["settings"]["experiments"]) == {"grcsf"}
    assert "Not evaluated" in text
    assert "sees 2 residual maps" in text
    record["settings"]["residuals"]["mrm"]["difference"] = "signed"
    signed = model_card(record, Dataset.model_validate(record["settings"]))
    assert "sees 2 signed residual maps" in signed
    assert "neighbour" not in signed
    record["settings"]["experiments"]["grcsf"]["context"] = 1
    around = model_card(record, Dataset.model_validate(record["settings"]))
    assert "Of each slice it sees 1 neighbour on each side, too." in around


def test_a_network_of_table_1_comes_with_its_recipe_s_parts_and_no_folder(run, tmp_path):
    layout, dataset = run
    own = {"pretrained": "/home/somebody/deit.pth", "training": {"recipe": "own"}}
    fused = Experiment(model="trans_fuse", width=1, **own)
    keep_model(build_network(fused, 0, dataset.slices), layout.model("unet", 1), "x", {})
    changed = dataset.model_copy(update={"experiments": {**dataset.experiments, "unet": fused}})
    model = exported((layout, changed), tmp_path / "fused.zip", "unet")
    opened = open_bundle(model, tmp_path / "opened").dataset.experiments["unet"]
    assert opened.pretrained == ("deit.pth",)
    assert opened.training.normalise == "imagenet"
    assert "somebody" not in read_text(model, "bundle.json")


def test_the_card_shows_the_scores_of_masks_made_the_same_way(run, tmp_path):
    layout, dataset = run
    scores = {"dice": {"mean": 0.61, "low": 0.5, "high": 0.7, "undefined": 0}}
    summary = {"scores": scores, "patients": 7, "confidence": 0.9}
    current = {"postprocess": dataset.postprocess.model_dump(mode="json")}
    write_json(layout.summary("grcsf"), {**summary, "settings": current})
    card = read_text(exported(run, tmp_path / "a.zip"), "MODEL_CARD.md")
    assert "| Dice | 0.610 | 0.500 to 0.700 |" in card
    other = {"postprocess": {**current["postprocess"], "probability": 0.4}}
    write_json(layout.summary("grcsf"), {**summary, "settings": other})
    card = read_text(exported(run, tmp_path / "b.zip"), "MODEL_CARD.md")
    assert "Not evaluated" in card


def test_a_repeat_s_bundle_has_its_network_and_is_no_longer_repeated(run, tmp_path):
    layout, dataset = run
    grcsf = dataset.experiments["grcsf"].model_copy(update={"repeats": 2, "labelled_cases": 2})
    repeated = dataset.model_copy(update={"experiments": {**dataset.experiments, "grcsf": grcsf}})
    network = build_network(grcsf, 2, dataset.slices)
    keep_model(network, layout.model("grcsf/repeat-2", 1), "x", {})
    model = exported((layout, repeated), tmp_path / "second.zip", "grcsf/repeat-2")
    record = json.loads(read_text(model, "bundle.json"))
    assert (record["experiment"], record["repeat"]) == ("grcsf", 2)
    assert "repeats" not in record["settings"]["experiments"]["grcsf"]
    digests = [read_json(layout.model(name, 1))["weights_sha256"] for name in NAMES]
    assert record["files"][WEIGHTS] == digests[1] != digests[0]
    card = read_text(model, "MODEL_CARD.md")
    assert "repeat 2. Of the training and validation cases, 2 were used." in card
    bundle = open_bundle(model, tmp_path / "tree")
    unpacked = read_json(Layout(tmp_path / "tree", bundle.name).model("grcsf", 1))
    assert unpacked["weights_sha256"] == digests[1]
    first = json.loads(read_text(exported((layout, repeated), tmp_path / "a.zip"), "bundle.json"))
    assert first["files"][WEIGHTS] == digests[0]
    assert "repeat" not in first


def test_a_bundle_is_a_zip_and_replaces_nothing(run, tmp_path):
    exported(run, tmp_path / "run.zip")
    with pytest.raises(PipelineError, match="already there"):
        exported(run, tmp_path / "run.zip")
    with pytest.raises(PipelineError, match=r"--output: found .*run, expected .*\.zip"):
        exported(run, tmp_path / "run")
    (tmp_path / "run").mkdir()
    for name, said in (("run", "found a folder, expected a zip"), ("gone.zip", "not there")):
        with pytest.raises(PipelineError, match=said):
            open_bundle(tmp_path / name, tmp_path / "tree")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda model: (model / "bundle.json").write_text("{"), "no readable bundle.json"),
        (lambda model: altered(model, format=9), "format 9, expected 1"),
        (lambda model: altered(model, experiment="../x"), "bundle.json is not valid"),
        (lambda model: altered(model, dataset="/x"), "bundle.json is not valid"),
        (lambda model: (model / WEIGHTS).unlink(), f"{WEIGHTS} is not there"),
        (lambda model: (model / WEIGHTS).write_bytes(b"x" * 99), f"{WEIGHTS} is damaged"),
    ],
)
def test_a_bundle_that_is_not_whole_is_one_line(unpacked, tmp_path, damage, said):
    model = rezipped(unpacked, tmp_path / "run", damage)
    with pytest.raises(PipelineError, match=said) as raised:
        open_bundle(model, tmp_path / "tree")
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("folders", [("run",), ("run", "again")])
def test_a_zip_may_hold_one_bundle_in_a_folder(unpacked, tmp_path, folders):
    for folder in folders:
        shutil.copytree(unpacked, tmp_path / "whole" / folder)
    (tmp_path / "whole" / "__MACOSX").mkdir()
    (tmp_path / "whole" / "__MACOSX" / "._bundle.json").touch()
    packed = rezipped(tmp_path / "whole", tmp_path / "packed")
    if len(folders) == 1:
        assert open_bundle(packed, tmp_path / "tree").experiment == "grcsf"
    else:
        with pytest.raises(PipelineError, match=r"in the folders .*, expected one bundle a zip"):
            open_bundle(packed, tmp_path / "tree")


def test_a_byte_changed_in_a_zip_is_found(run, tmp_path):
    model = exported(run, tmp_path / "run.zip", "unet")
    whole = model.read_bytes()
    with zipfile.ZipFile(model) as archive:
        stored = archive.getinfo("network.safetensors")
    start = stored.header_offset + 30 + len(stored.filename)
    for at in np.linspace(start, start + stored.file_size - 1, 5).astype(int):
        model.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with pytest.raises(PipelineError, match=r"network.safetensors is damaged"):
            open_bundle(model, tmp_path / "tree")


def test_a_zip_writes_nothing_but_what_a_bundle_has(run, tmp_path):
    model = exported(run, tmp_path / "run.zip")
    with zipfile.ZipFile(model, "a") as archive:
        archive.writestr("trap.py", "x")
    open_bundle(model, tmp_path / "deep" / "tree")
    written = {path.name for path in (tmp_path / "deep").rglob("*") if path.is_file()}
    assert written == {"model.safetensors", "shared.json", "subset-1.json"}
