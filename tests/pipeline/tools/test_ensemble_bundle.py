"""Bundles of several networks: each is named, what they share is made once, the mean is written."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from grcsf.mae.build import build_masked_model
from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.networks.build import build_network
from pipeline.networks.weights import keep_model
from pipeline.prediction.bundle import open_bundle
from pipeline.settings import EnsembleExperiment, Split, repeat_seed
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export import predict_images as images_module
from pipeline.tools.export.predict_images import predict_images
from tests.pipeline.tools.bundles import SEED, altered, exported, raw, rezipped

REPEATS = [(1, 1), (1, 2), (1, 3)]
FOLDS = [(1, 1), (2, 1)]


def keep(run, name, subset, seed):
    layout, dataset = run
    torch.manual_seed(seed)
    network = build_network(dataset.experiments["grcsf"], 2, dataset.slices)
    keep_model(network, layout.model(name, subset), "x", {})


@pytest.fixture
def repeated(run):
    """The tree with three networks of an experiment, which see the same maps."""
    for number in (2, 3):
        keep(run, f"grcsf/repeat-{number}", 1, number)
    return run


@pytest.fixture
def folded(run):
    """The tree with two folds, each with an MAE and a network of its own."""
    layout, dataset = run
    for fold in (1, 2):
        keep(run, "grcsf", fold, 5 + fold)
        torch.manual_seed(fold)
        masked = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
        keep_model(masked, layout.mae(f"shared/fold-{fold}"), "x", {})
    split = read_json(layout.split)
    roles = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    write_json(layout.split, {**split, "subsets": {"1": roles, "2": {**roles, "test": []}}})
    return layout, dataset.model_copy(update={"split": Split(folds=2)})


@pytest.fixture
def made(monkeypatch):
    """The residual sets that are made, in order; pages are left out."""
    names, make = [], images_module.residual_maps

    def noted(layout, name, *others):
        before = set(layout.stage("residual_maps").glob(f"{name}/*.zarr"))
        make(layout, name, *others)
        names.extend([name] * (set(layout.stage("residual_maps").glob(f"{name}/*.zarr")) != before))

    monkeypatch.setattr(images_module, "residual_maps", noted)
    monkeypatch.setattr(images_module, "prediction_page", lambda *_: b"")
    return names


def test_every_network_is_named_and_what_they_share_is_there_once(repeated, tmp_path):
    model = exported(repeated, tmp_path / "three.zip", members=REPEATS)
    with zipfile.ZipFile(model) as archive:
        names, card = sorted(archive.namelist()), archive.read("MODEL_CARD.md").decode()
        record = json.loads(archive.read("bundle.json"))
    files = [f"network.subset-1.repeat-{number}.safetensors" for number in (1, 2, 3)]
    assert names == ["MODEL_CARD.md", "bundle.json", "mae-shared.safetensors", *files]
    seeds = [SEED, *(repeat_seed(SEED, f"grcsf/repeat-{number}") for number in (2, 3))]
    cases = {"train": 2, "validation": 1, "test": 1}
    assert record["members"] == [
        {"subset": 1, "repeat": number, "file": files[number - 1], "seed": seed, "cases": cases}
        for number, seed in enumerate(seeds, start=1)
    ]
    assert record["format"] == 2, "which what reads one network refuses"
    assert "An ensemble of 3 such networks: a voxel's probability is the mean of theirs." in card
    for file, seed in zip(files, seeds, strict=True):
        row = next(line for line in card.splitlines() if file in line)
        assert [cell.strip() for cell in row.split("|")][4:8] == [str(seed), "2", "1", "1"]


def test_the_card_shows_the_ensemble_s_own_scores_where_there_are_some(repeated, tmp_path):
    layout, dataset = repeated
    grcsf = dataset.experiments["grcsf"].model_copy(update={"repeats": 3})
    experiments = {**dataset.experiments, "grcsf": grcsf}
    experiments["seeds"] = EnsembleExperiment(ensemble=("grcsf",))
    whole = dataset.model_copy(update={"experiments": experiments})
    current = {"postprocess": dataset.postprocess.model_dump(mode="json")}
    for name, mean in (("grcsf", 0.5), ("seeds", 0.75)):
        scores = {"dice": {"mean": mean, "low": None, "high": None}}
        content = {"scores": scores, "patients": 2, "confidence": 0.95, "settings": current}
        write_json(layout.summary(name), content)
    for members, said in (
        (REPEATS, ("0.750", "those of the experiment `seeds`, in which the repeats of each of")),
        (REPEATS[:2], ("0.500", "of single networks; the ensemble was not scored")),
    ):
        model = exported((layout, whole), tmp_path / f"{len(members)}.zip", members=members)
        with zipfile.ZipFile(model) as archive:
            card = archive.read("MODEL_CARD.md").decode()
        assert all(text in card for text in said)


def test_a_bundle_of_one_network_is_what_it_was(run, tmp_path):
    with zipfile.ZipFile(exported(run, tmp_path / "one.zip")) as archive:
        record = json.loads(archive.read("bundle.json"))
    assert record["format"] == 1
    assert {"subset", "cases"} < record.keys()
    assert "members" not in record


def test_repeats_share_maps_and_give_their_mean_and_disagreement(
    repeated, tmp_path, resources, made, monkeypatch
):
    single, predict = [], images_module.predict

    def kept(layout, name, subset, *others, **chosen):
        predict(layout, name, subset, *others, **chosen)
        if not chosen:  # of a network, and not of several
            store = open_store(layout.prediction_store(name, subset, "d"))
            single.append(read_array(store, "probability").astype(np.float64))

    monkeypatch.setattr(images_module, "predict", kept)
    model = exported(repeated, tmp_path / "three.zip", members=REPEATS)
    options = {"probabilities": True, "uncertainty": True}
    image = raw(repeated, tmp_path / "d.nii.gz")
    predict_images([image], model, tmp_path / "out", resources, **options)
    assert made == ["mrm"], "made once for three networks"
    assert len(single) == 3
    assert np.abs(single[0] - single[1]).max() > 0.01, "they differ"
    mean = read_volume(tmp_path / "out" / "d-probability.nii.gz").array
    np.testing.assert_allclose(mean, np.mean(single, axis=0), atol=1e-3)
    deviation = read_volume(tmp_path / "out" / "d-uncertainty.nii.gz")
    np.testing.assert_allclose(deviation.array, np.std(single, axis=0), atol=1e-3)
    assert 0 < deviation.array.max() <= 0.5
    mask = read_volume(tmp_path / "out" / "d.nii.gz")
    assert deviation.geometry == mask.geometry
    assert ((mean >= 0.5) == mask.array).all()


def test_folds_bring_their_own_maes(folded, tmp_path, resources, made):
    model = exported(folded, tmp_path / "folds.zip", members=FOLDS)
    with zipfile.ZipFile(model) as archive:
        maes = [name for name in archive.namelist() if name.startswith("mae-")]
        card = archive.read("MODEL_CARD.md").decode()
    assert maes == [f"mae-shared.fold-{fold}.safetensors" for fold in (1, 2)]
    assert "Folds of the data set's 2 folds" in card
    predict_images([raw(folded, tmp_path / "d.nii.gz")], model, tmp_path / "out", resources)
    assert made == ["mrm/fold-1", "mrm/fold-2"]
    assert (tmp_path / "out" / "d.nii.gz").exists()


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([{"subset": 1, "repeat": 1}], r"members: found 1, expected several"),
        ([{"subset": 1, "repeat": 1}] * 2, r"members: found one of them twice"),
        ([{"subset": 1, "repeat": 1}, {"subset": 2, "repeat": 1}], r"members: found \(2, 1\)"),
        ([{"subset": 1, "repeat": 1}, {"subset": 1, "repeat": 99}], r"members: found \(1, 99\)"),
        ([{"subset": 1, "repeat": 1}, {"subset": 1, "repeat": 4}], r"repeat-4.safetensors is not"),
    ],
)
def test_members_that_a_bundle_cannot_have_are_refused(repeated, tmp_path, members, said):
    model = exported(repeated, tmp_path / "three.zip", members=REPEATS)
    shutil.unpack_archive(model, tmp_path / "unpacked")
    changed = rezipped(
        tmp_path / "unpacked", tmp_path / "changed", lambda at: altered(at, members=members)
    )
    with pytest.raises(PipelineError, match=said):
        open_bundle(changed, tmp_path / "tree")


def test_one_network_has_nobody_to_disagree_with(run, tmp_path, resources):
    model = exported(run, tmp_path / "one.zip", "unet")
    with pytest.raises(PipelineError, match=r"--uncertainty: found one network in .*--repeat all"):
        predict_images(
            [raw(run, tmp_path / "d.nii")], model, tmp_path / "out", resources, uncertainty=True
        )


@pytest.mark.usefixtures("untouched")
def test_the_command_takes_a_number_or_all(tmp_path):
    def called(*options):
        given = ["--config", "config.yaml", "--dataset", "heart", "--experiment", "grcsf"]
        return CliRunner().invoke(
            app, ["export", *given, "--output", str(tmp_path / "a.zip"), *options]
        )

    assert "--repeat: found 'two', expected a number from 1, or all" in str(
        called("--repeat", "two").exception
    )
    assert "has no 'grcsf/repeat-2'" in str(called("--repeat", "2").exception)
    assert called("--repeat", "all", "--subset", "all").exit_code == 0
    assert open_bundle(tmp_path / "a.zip", tmp_path / "tree").members == (("grcsf", 1),)
