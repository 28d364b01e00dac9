"""Ensembles: the mean of several networks, scored as any method, and how far they disagree."""

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.orchestration.changed_results import changed_results
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.prediction.ensemble import disagreement, mean_probability
from pipeline.settings import EnsembleExperiment, Evaluation, Postprocess
from pipeline.storage.files import read_json
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.masks import read_mask
from pipeline.storage.zarr_store import open_store, read_array, store_attributes
from tests.pipeline.results import RESOURCES, SLICES

SHAPE = (3, 8, 8)
MEMBERS = [("unet", 1), ("unet/repeat-2", 1), ("grcsf", 1)]
VALUES = (0.25, 0.5, 0.9375)


@pytest.fixture
def tree(results_tree, box):
    """A tested case, and two without reference, of which one network has predicted only one."""
    lesion = box(SHAPE, (1, 2), (2, 5), (2, 5))
    results_tree.add_case("a", np.zeros(SHAPE, np.int16), lesion.astype(np.uint8))
    for case in "uv":
        results_tree.add_case(case, np.zeros(SHAPE, np.int16))
    results_tree.write_split([["a"]])
    for (name, subset), value in zip(MEMBERS, VALUES, strict=True):
        cases = "au" if name == "grcsf" else "auv"
        results_tree.add_predictions(name, subset, dict.fromkeys(cases, lesion * value))
        results_tree.add_model(name, subset, 100)
    return results_tree


def averaged(tree, members=MEMBERS, *, uncertainty=True):
    settings = EnsembleExperiment(ensemble=("unet", "grcsf"), uncertainty=uncertainty)
    predict(tree.layout, "both", 1, settings, 0, SLICES, RESOURCES, members=members)
    postprocess(tree.layout, "both", 1, Postprocess())


def test_the_mean_is_thresholded_and_scored_as_any_method_s_probability(tree, box):
    averaged(tree)
    store = open_store(tree.layout.prediction_store("both", 1, "a"))
    inside = box(SHAPE, (1, 2), (2, 5), (2, 5))
    mean = read_array(store, "probability")
    assert mean[inside].tolist() == [np.float16(np.mean(VALUES))] * 9
    assert not mean[~inside].any()
    manifest = read_json(tree.layout.predictions("both", 1))
    assert sorted(manifest["cases"]) == ["a", "u"], "one network has not predicted v"
    assert manifest["parameters"] == 300
    case = open_store(tree.layout.case_store("a"))
    assert (read_mask(tree.layout, "both", 1, "a", case) == inside).all()
    evaluate(tree.layout, "both", (1,), Evaluation(bootstrap_samples=100), Postprocess(), 1, 1)
    assert read_json(tree.layout.summary("both"))["scores"]["dice"]["mean"] == 1


def test_uncertainty_is_the_deviation_of_the_members_beside_the_mask(tree):
    averaged(tree)
    path = tree.layout.uncertainty("both", 1, "a", ".nii.gz")
    volume = read_volume(path)
    np.testing.assert_allclose(volume.array[1, 3, 3], np.std(VALUES), atol=1e-3)
    assert volume.array[0].max() == 0
    mask = read_volume(tree.layout.mask("both", 1, "a", ".nii.gz"))
    assert volume.geometry == mask.geometry
    halves = np.array([[[0.0]], [[0.0]], [[1.0]], [[1.0]]])
    assert disagreement(halves).item() == 0.5, "no more is possible"
    assert mean_probability(halves).item() == 0.5


def test_without_being_asked_for_there_is_none(tree):
    averaged(tree, uncertainty=False)
    store = open_store(tree.layout.prediction_store("both", 1, "a"))
    assert list(store.array_keys()) == ["probability"]
    assert not tree.layout.uncertainty("both", 1, "a", ".nii.gz").parent.exists()


def test_what_is_there_is_not_made_again_and_what_is_gone_is(tree):
    averaged(tree)
    layout = tree.layout
    mask = layout.mask("both", 1, "a", ".nii.gz")
    volume = layout.uncertainty("both", 1, "a", ".nii.gz")
    store = layout.prediction_store("both", 1, "a")
    before = [path.stat().st_mtime_ns for path in (mask, volume, store)]
    averaged(tree, MEMBERS[::-1])  # their order changes nothing
    assert [path.stat().st_mtime_ns for path in (mask, volume, store)] == before
    volume.unlink()
    lost = {result.manifest: result.lost for result in changed_results(layout)}
    assert str(volume) in lost[layout.masks("both", 1)]
    averaged(tree)
    assert volume.exists()
    assert mask.stat().st_mtime_ns == before[0]
    fingerprint = store_attributes(store)["fingerprint"]
    averaged(tree, MEMBERS[:2])
    assert store_attributes(store)["fingerprint"] != fingerprint


def test_a_case_that_a_member_has_not_predicted_is_one_line(tree):
    tree.add_predictions("grcsf", 1, {"u": np.zeros(SHAPE)})
    with pytest.raises(PipelineError) as raised:
        averaged(tree)
    path = tree.layout.predictions("grcsf", 1)
    assert str(raised.value) == (
        f"case a: no prediction in {path}, which both averages; run predict of that experiment "
        "again"
    )
