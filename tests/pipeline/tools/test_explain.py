"""A look inside: the passes shown are the stage's own, and every fault is one line."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from grcsf.mae.build import build_masked_model
from grcsf.residuals import residual_map
from pipeline.errors import PipelineError
from pipeline.evaluation.colours import DARKER
from pipeline.networks.build import build_network, masked_models
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.networks.weights import keep_model
from pipeline.residual_maps import residual_maps
from pipeline.settings import Dataset, Experiment, GradCam, Slices
from pipeline.storage.files import write_json
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.explain import view
from pipeline.tools.explain.explain import explain
from pipeline.tools.explain.picture import over_slice
from pipeline.tools.explain.view import slice_passes
from tests.pipeline.results import copy_results

SEED = 5


@pytest.fixture(scope="module")
def prepared(residuals_once, tmp_path_factory, mae, residuals, experiment, slices):
    """Residual maps, untrained networks, and the settings of both."""
    layout = copy_results(residuals_once, tmp_path_factory.mktemp("explain"))
    experiments = {
        "grcsf": experiment,
        "unet": Experiment(model="unet", width=2),
        "mae": Experiment(model="mae_unet", mae_encoder={"mae": "shared"}, width=2),
    }
    for name, chosen in experiments.items():
        torch.manual_seed(1)
        network = build_network(chosen, 2 if chosen.residuals else 0, slices, mae)
        keep_model(network, layout.model(name, 1), "x", {})
    settings = {
        "source": {"adapter": "manifest", "root": "x"},
        "slices": slices,
        "mae": {"shared": mae},
        "residuals": {"mrm": residuals},
        "experiments": experiments,
    }
    return layout, settings


@pytest.fixture
def ready(prepared, tmp_path):
    """A copy of the results, and their data set's settings."""
    layout, settings = prepared
    return copy_results(layout, tmp_path), Dataset.model_validate(settings)


def drawn(ready, tmp_path, experiment="grcsf", case="d", numbers=()):
    layout, dataset = ready
    return explain(layout, dataset, experiment, case, numbers, 1, tmp_path / "look", SEED)


def test_it_tells_where_another_fold_tests_the_case(ready, tmp_path, caplog):
    layout, _ = ready
    divided = {"1": {"test": ["a"]}, "2": {"test": ["d"]}}
    write_json(layout.split, {"subsets": divided, "folds": 2})
    drawn(ready, tmp_path, "unet", "d")
    told = "case d: the network of fold 1 may have learnt from it; --subset 2 is the fold"
    assert told in caplog.text
    caplog.clear()
    drawn(ready, tmp_path, "unet", "a")
    write_json(layout.split, {"subsets": divided})
    drawn(ready, tmp_path, "unet", "d")
    assert "learnt" not in caplog.text


def test_the_passes_are_those_behind_the_stored_maps(ready, mae, residuals, slices):
    layout, _ = ready
    store = open_store(layout.case_store("d"))
    z = 3
    image = network_slices(read_array(store, "image", slice(z, z + 1)), (0, 150), slices.size)
    models = masked_models(layout, {"shared": mae})
    passes = slice_passes([models["shared"]] * 2, residuals, image, "d", z, SEED)
    stored = read_array(open_store(layout.residual_store("mrm", "d")), "residual", (slice(None), z))
    assert [len(of_map.masked) for of_map in passes] == [2, 4]
    for of_map, expected, ratio in zip(passes, stored, (0.5, 0.75), strict=True):
        mean = torch.from_numpy(of_map.mean)[None, None]
        residual = residual_map(image, mean, "abs")[0, 0].numpy()
        np.testing.assert_allclose(residual, expected.astype(np.float32), atol=1e-3)
        np.testing.assert_allclose(np.isnan(of_map.masked).mean(axis=(1, 2)), ratio)
        seen = ~np.isnan(of_map.masked)
        np.testing.assert_allclose(of_map.reconstructed[seen], of_map.masked[seen])


def test_one_picture_a_slice_and_none_is_blank(ready, tmp_path):
    written = drawn(ready, tmp_path, numbers=(2, 4))
    assert [path.name for path in written] == ["d-slice-002.png", "d-slice-004.png"]
    pictures = [imread(path)[..., :3] for path in written]
    assert all(picture.std() > 0.1 for picture in pictures)
    assert np.abs(pictures[0] - pictures[1]).max() > 0.5


def test_maps_of_a_padded_slice_stand_where_their_pixels_are():
    padded = torch.arange(48 * 32).reshape(48, 32)
    for level in range(4):
        scale = 2**level
        shown = over_slice(padded[: 48 // scale, : 32 // scale], level, (41, 27))
        assert shown.shape == (41, 27)
        for row, column in ((0, 0), (17, 9), (40, 26)):
            assert shown[row, column] == padded[row // scale, column // scale]


def test_signed_maps_have_the_colours_of_their_sign(
    ready, residuals, mae, slices, resources, tmp_path
):
    layout, dataset = ready
    signed = residuals.model_copy(update={"difference": "signed"})
    residual_maps(layout, "mrm", "1of1", signed, {"shared": mae}, (1,), slices, SEED, resources)
    dataset.residuals["mrm"] = signed
    picture = imread(drawn(ready, tmp_path, numbers=(3,))[0])[..., :3]
    # the background is darker than so short a training foresees; no other panel has this blue
    assert (np.abs(picture - to_rgb(DARKER)).max(axis=-1) < 0.1).sum() > 20


def test_grad_cam_has_a_map_and_an_empty_slice_no_passes_either(
    ready, experiment, slices, resources, tmp_path, monkeypatch
):
    layout, dataset = ready
    cam, unet = GradCam(grad_cam="unet"), dataset.experiments["unet"]
    grad_cam_maps(layout, "cam", "1of1", cam, unet, (1,), slices, resources)
    chosen = experiment.model_copy(update={"residuals": "cam"})
    keep_model(build_network(chosen, 1, slices), layout.model("seen", 1), "x", {})
    dataset.residuals["cam"] = cam
    dataset.experiments["seen"] = chosen
    monkeypatch.setattr(view, "slice_passes", lambda *_: pytest.fail("passes computed"))
    assert drawn(ready, tmp_path, "seen")[0].exists()
    assert drawn(ready, tmp_path, numbers=(1,))[0].exists()


@pytest.mark.parametrize(
    "change", [{"masks": "random"}, {"visible": "paste"}, {"seed": 6}, {"window": (0, 200)}]
)
def test_maps_of_other_settings_are_refused(ready, tmp_path, change):
    layout, dataset = ready
    seed = change.get("seed", SEED)
    if "window" in change:
        dataset = dataset.model_copy(update={"slices": Slices(size=(32, 32), **change)})
    elif "seed" not in change:
        dataset.residuals["mrm"] = dataset.residuals["mrm"].model_copy(update=change)
    with pytest.raises(PipelineError, match=r"with other settings .* run residual_maps first"):
        explain(layout, dataset, "grcsf", "d", (), 1, tmp_path / "look", seed)


def test_maps_of_other_weights_are_refused(ready, mae, tmp_path):
    shape = {"image_size": mae.image_size, "patch_size": mae.patch_size}
    other = build_masked_model(mae.architecture, mae.preset, **shape)
    keep_model(other, ready[0].mae("shared"), "y", {})
    with pytest.raises(PipelineError, match="made by another MAE"):
        drawn(ready, tmp_path)


def test_without_a_number_the_largest_lesion_or_the_middle_is_shown(ready, tmp_path):
    assert drawn(ready, tmp_path, "unet")[0].name == "d-slice-003.png"
    assert drawn(ready, tmp_path, "mae", case="e")[0].name == "e-slice-004.png"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"case": "dd"}, "case dd: not among the 5 ingested cases; did you mean 'd'"),
        ({"numbers": (7,)}, "--slice: found 7, but case d has slices 1 to 6"),
        ({"numbers": (0,)}, "--slice: found 0"),
        ({"experiment": "unet"}, "run the stage that writes it first"),
    ],
)
def test_faults_are_one_line(ready, tmp_path, change, reason):
    ready[0].model("unet", 1).unlink()
    with pytest.raises(PipelineError, match=reason):
        drawn(ready, tmp_path, **change)
