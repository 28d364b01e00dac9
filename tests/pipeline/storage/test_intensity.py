"""Whatever a network sees is made again when the quantiles that scale it have changed."""

import pytest

from pipeline import train_mae as mae_stage
from pipeline import train_segmentation as segmentation_stage
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.predict import predict
from pipeline.residual_maps import residual_maps
from pipeline.settings import GradCam, Slices
from pipeline.storage.files import read_json, write_json
from pipeline.train_mae import train_mae
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES, UNET, rewrite_attributes

SEED = 5
CAM = GradCam(grad_cam="unet")
OWN_RANGE = Slices(size=(32, 32), percentiles=(0, 99.9))


def mae_key(layout, slices):
    train_mae(layout, "shared", MAE, slices, SEED, RESOURCES)
    return read_json(layout.mae("shared"))["fingerprint"]


def residual_key(layout, slices):
    maes = {"shared": MAE}
    residual_maps(layout, "mrm", "1of1", RESIDUALS, maes, (1,), slices, SEED, RESOURCES)
    return read_json(layout.residual_batch("mrm", "1of1"))["cases"]["a"]


def grad_cam_key(layout, slices):
    grad_cam_maps(layout, "cam", "1of1", CAM, UNET, (1,), slices, RESOURCES)
    return read_json(layout.residual_batch("cam", "1of1"))["cases"]["a"]


def segmentation_key(layout, slices):
    train_segmentation(layout, "unet", 1, UNET, 0, slices, SEED, RESOURCES)
    return read_json(layout.model("unet", 1))["fingerprint"]


def prediction_key(layout, slices):
    predict(layout, "unet", 1, UNET, 0, slices, RESOURCES)
    return read_json(layout.predictions("unet", 1))["cases"]["d"]


@pytest.fixture(autouse=True)
def _learn_nothing(monkeypatch):
    """Trainings keep the random weights that they start from, which are the same every time."""
    for stage in (mae_stage, segmentation_stage):
        monkeypatch.setattr(stage, "fit", lambda *_, **__: None)
    monkeypatch.setattr(segmentation_stage, "load_best", lambda *_: None)


def scale_otherwise(layout):
    """What a new ingest writes whose quantiles are others: the same voxels."""
    content = read_json(layout.cases)
    for case, entry in content["cases"].items():
        entry["quantiles"] = [value + 1 for value in entry["quantiles"]]
        rewrite_attributes(layout.case_store(case), quantiles=entry["quantiles"])
    write_json(layout.cases, content)


# whatever uses a network before the network itself
KEYS = [prediction_key, grad_cam_key, segmentation_key, residual_key, mae_key]


@pytest.mark.parametrize(("slices", "again"), [(OWN_RANGE, True), (SLICES, False)])
def test_other_quantiles_are_other_slices_unless_a_window_scales_them(ingested, slices, again):
    def keys():
        return [key(ingested, slices) for key in KEYS]

    mae_key(ingested, slices)
    segmentation_key(ingested, slices)
    before = keys()
    assert keys() == before
    scale_otherwise(ingested)
    changed = [new != old for new, old in zip(keys(), before, strict=True)]
    assert changed == [again] * len(KEYS)
