"""A tiny project that has really run, made once and copied."""

import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.cli.job import log_lines
from pipeline.storage.layout import Layout
from tests.pipeline.tools.calls import STAGES, stage, write_phantoms
from tests.workflow import tiny


def configuration():
    """The tiny heart, with the tiny head's MAE and networks, scored as calcium."""
    head, heart = tiny.configuration()["datasets"].values()
    networks = head["experiments"]
    heart |= {
        "source": {"adapter": "orcascore", "root": "images"},
        "split": {"test": 2, "validation": 1},
        "mae": head["mae"],
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
    return folder


@pytest.fixture
def results(finished, tmp_path, monkeypatch):
    """The layout of a copy, in the working directory."""
    shutil.copytree(finished, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy")
    return Layout(Path("results"), "heart")
