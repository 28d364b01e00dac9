"""Whatever a network sees is made again when the quantiles that scale it have changed."""

import pytest

from pipeline import train_mae as mae_stage
from pipeline import train_segmentation as segmentation_stage
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.predict import predict
from pipeline.residual_maps import residual_maps
from pipeline.settings import Experiment, GradCam, Slices
from pipeline.storage.files import read_json, write_json
from pipeline.train_mae import train_mae
from pipeline.train_segmentation import train_segmentation

SEED = 5
UNET = Experiment(model="unet", width=2)
CAM = GradCam(grad_cam="unet")
SIZE = (32, 32)
OWN_RANGE, WINDOW = Slices(size=SIZE, percentiles=(0, 99.9)), Slices(size=SIZE, window=(0, 150))


def mae_key(layout, slices, mae, _, resources):
    train_mae(layout, "shared", mae, slices, SEED, resources)
    return read_json(layout.mae("shared"))["fingerprint"]


def residual_key(layout, slices, mae, residuals, resources):
    maes = {"shared": mae}
    residual_maps(layout, "mrm", "1of1", residuals, maes, (1,), slices, SEED, resources)
    return read_json(layout.residual_batch("mrm", "1of1"))["cases"]["a"]


def grad_cam_key(layout, slices, _mae, _residuals, resources):
    grad_cam_maps(layout, "cam", "1of1", CAM, UNET, (1,), slices, resources)
    return read_json(layout.residual_batch("cam", "1of1"))["cases"]["a"]


def segmentation_key(layout, slices, _mae, _residuals, resources):
    train_segmentation(layout, "unet", 1, UNET, 0, slices, SEED, resources)
    return read_json(layout.model("unet", 1))["fingerprint"]


def prediction_key(layout, slices, _mae, _residuals, resources):
    predict(layout, "unet", 1, UNET, 0, slices, resources)
    return read_json(layout.predictions("unet", 1))["cases"]["d"]


@pytest.fixture(autouse=True)
def _learn_nothing(monkeypatch):
    """Trainings keep the random weights that they start from, which are the same every time."""
    for stage in (mae_stage, segmentation_stage):
        monkeypatch.setattr(stage, "fit", lambda *_, **__: None)
    monkeypatch.setattr(segmentation_stage, "load_best", lambda *_: None)


def scale_otherwise(layout, rewrite_attributes):
    """What a new ingest writes whose quantiles are others: the same voxels."""
    content = read_json(layout.cases)
    for case, entry in content["cases"].items():
        entry["quantiles"] = [value + 1 for value in entry["quantiles"]]
        rewrite_attributes(layout.case_store(case), quantiles=entry["quantiles"])
    write_json(layout.cases, content)


# whatever uses a network before the network itself
KEYS = [prediction_key, grad_cam_key, segmentation_key, residual_key, mae_key]


@pytest.mark.parametrize(("slices", "again"), [(OWN_RANGE, True), (WINDOW, False)])
def test_other_quantiles_are_other_slices_unless_a_window_scales_them(
    ingested, rewrite_attributes, mae, residuals, resources, slices, again
):
    settings = slices, mae, residuals, resources

    def keys():
        return [key(ingested, *settings) for key in KEYS]

    mae_key(ingested, *settings)
    segmentation_key(ingested, *settings)
    before = keys()
    assert keys() == before
    scale_otherwise(ingested, rewrite_attributes)
    changed = [new != old for new, old in zip(keys(), before, strict=True)]
    assert changed == [again] * len(KEYS)
