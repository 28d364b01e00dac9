"""A tiny project that has really run, made once and copied."""

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from grcsf.mae.build import build_masked_model
from pipeline.cli.terminal import log_lines
from pipeline.networks.build import build_network
from pipeline.networks.weights import keep_model
from pipeline.settings import Dataset, Experiment, GradCam
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import write_residuals
from pipeline.storage.zarr_store import write_store
from pipeline.tools.view.view import open_view
from tests.pipeline.results import copy_results
from tests.pipeline.tools.bundles import exported
from tests.pipeline.tools.calls import STAGES, stage, write_phantoms
from tests.pipeline.tools.viewed import DATASET as VIEWED
from tests.pipeline.tools.viewed import write_results
from tests.workflow import tiny


def configuration():
    """The tiny heart, with the tiny head's MAE and networks, scored as calcium."""
    head, heart = tiny.configuration()["datasets"].values()
    networks = head["experiments"]
    del head["mae"]["shared"]["checkpoint"]
    heart |= {
        "source": {"adapter": "orcascore", "root": "images"},
        "split": {"test": 2, "validation": 1},
        "mae": {"shared": {**head["mae"]["shared"], "checkpoint": None}},
        "residuals": head["residuals"],
        "experiments": {"plain": networks["unet"], "grcsf": networks["grcsf"]},
        "postprocess": {"method": "calcium"},
        "evaluation": {"metrics": "calcium", "baseline": "plain", "bootstrap_samples": 100},
    }
    resources = {"threads": 1, "cases_per_job": 3}
    return {"results": "results", "resources": resources, "datasets": {"heart": heart}}


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The working directory of a project whose stages have all run."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "config.yaml").write_text(yaml.safe_dump(configuration(), sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        log_lines()
        write_phantoms("images")
        for arguments in STAGES:
            stage(*arguments)
        log = Path("results", "heart", "logs", "ingest.log")  # which the workflow writes
        log.parent.mkdir()
        log.touch()
    return folder


@pytest.fixture
def untouched(finished, monkeypatch):
    """The layout of the results themselves, in the working directory: nothing may change them."""
    monkeypatch.chdir(finished)
    return Layout(Path("results"), "heart")


@pytest.fixture
def results(finished, tmp_path, monkeypatch):
    """The layout of a copy, in the working directory."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return Layout(Path("results"), "heart")


MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]


@pytest.fixture
def config(ingested):
    """A configuration of the ingested cases, and their residual and prediction stores."""
    content = {
        "results": str(ingested.root),
        "datasets": {
            "discs": {
                "source": {"adapter": "manifest", "root": "unused"},
                "slices": {"size": [32, 32], "window": [0, 150]},
                "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8}},
                "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
                "experiments": {"unet": {"model": "unet"}},
            }
        },
    }
    cases = read_json(ingested.cases)["cases"]
    outputs = [f"{case}.zarr" for case in "ab"]
    write_json(ingested.cases, {"cases": cases, "outputs": [f"{case}.zarr" for case in cases]})
    keys = {case: f"key of {case}" for case in "ab"}
    for case in "ab":
        residual = np.random.default_rng(0).random((2, 6, 32, 32)).astype(np.float16)
        made_by = {"fingerprint": keys[case], "image": cases[case]["sha256_image"]}
        write_residuals(ingested, "mrm", case, residual, made_by)
    write_json(ingested.residual_batch("mrm", "1of1"), {"cases": keys, "outputs": outputs})
    probability = np.zeros((6, 30, 26), np.float16)
    path = ingested.prediction_store("unet", 1, "d")
    write_store(path, {"probability": probability}, {"fingerprint": "p"})
    file = ingested.root / "c.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    return file


@pytest.fixture(scope="session")
def run_once(ingested_once, tmp_path_factory, mae, residuals, experiment, slices):
    """What `run` copies."""
    layout = copy_results(ingested_once, tmp_path_factory.mktemp("untrained"))
    return untrained(layout, mae, residuals, experiment, slices)


@pytest.fixture
def run(run_once, tmp_path):
    """A tree with an MAE and three networks, none of them trained, and its settings."""
    layout, dataset = run_once
    return copy_results(layout, tmp_path), dataset


@pytest.fixture(scope="session")
def unpacked(run_once, tmp_path_factory):
    """The files of a bundle of GRCSF, made once."""
    folder = tmp_path_factory.mktemp("bundle")
    shutil.unpack_archive(exported(run_once, folder / "run.zip"), folder / "run")
    return folder / "run"


def untrained(ingested, mae, residuals, experiment, slices):
    """See `run_once`."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    shape = {"image_size": mae.image_size, "patch_size": mae.patch_size}
    masked = build_masked_model(mae.architecture, mae.preset, **shape)
    keep_model(masked, ingested.mae("shared"), "x", {})
    unet = Experiment(model="unet", width=2)
    looked = experiment.model_copy(update={"residuals": "cam"})
    experiments = {"grcsf": experiment, "unet": unet, "looked": looked}
    for name, maps in (("grcsf", 2), ("unet", 0), ("looked", 1)):
        torch.manual_seed(1)
        network = build_network(experiments[name], maps, slices)
        keep_model(network, ingested.model(name, 1), "x", {"where": "/home/somebody"})
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "/home/somebody", "modality": "MR"},
            "slices": slices,
            "mae": {"shared": mae, "other": mae},
            "residuals": {"mrm": residuals, "cam": GradCam(grad_cam="unet")},
            "experiments": experiments,
        }
    )
    split = read_json(ingested.split)
    write_json(ingested.split, {**split, "digest": "0123456789abcdef01"})
    return ingested, dataset


@pytest.fixture(scope="session")
def viewed(tmp_path_factory):
    """The layout of finished results that `grcsf view` shows."""
    return write_results(tmp_path_factory.mktemp("viewed") / "results")


@pytest.fixture(scope="session")
def page_server(viewed):
    """The server of their page, at work."""
    server = open_view(viewed, VIEWED, [])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
