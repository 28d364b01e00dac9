"""Where a training draws its curves: nothing leaves the machine unasked."""

import importlib.util

import pytest

from pipeline.errors import PipelineError
from pipeline.networks.trainer import training_logger
from pipeline.storage.layout import Layout


@pytest.fixture
def given(monkeypatch, tmp_path):
    """given(kind): what the logger of Lightning is made with, whether it is installed or not."""
    for variable in ("MLFLOW_TRACKING_URI", "WANDB_MODE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")  # which is then left as it is
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    for name in ("MLFlowLogger", "WandbLogger"):
        monkeypatch.setattr(f"pipeline.networks.trainer.{name}", lambda *a, **k: (a, k))
    layout = Layout(tmp_path, "heart")
    manifest = layout.model("unet", 1)
    return lambda kind: training_logger(kind, layout, manifest, "unet")


def test_weights_and_biases_stay_offline_unless_its_own_variable_says_otherwise(
    given, monkeypatch, tmp_path
):
    names, options = given("wandb")
    assert options["offline"] is True
    assert names == ("unet", tmp_path / "heart" / "train_segmentation" / "unet" / "subset-1")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert given("wandb")[1]["offline"] is False


def test_mlflow_writes_to_files_beside_the_results_unless_its_own_variable_says_otherwise(
    given, monkeypatch, tmp_path
):
    store = (tmp_path / "heart" / "mlflow").as_uri()
    assert given("mlflow") == (("unet",), {"tracking_uri": store})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ours")
    assert given("mlflow")[1] == {"tracking_uri": "https://ours"}


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_a_logger_that_is_not_installed_is_one_line_with_the_remedy(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PipelineError) as caught:
        training_logger(kind, Layout(tmp_path, "heart"), tmp_path / "m.json", "unet, subset 1")
    said = f"unet, subset 1: logger: found {kind}, which is not installed; install the extra "
    assert str(caught.value) == f"{said}(pip install 'grcsf[{kind}]') or set logger: tensorboard"
