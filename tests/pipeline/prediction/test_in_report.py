"""The report beside trained networks: no curves, and no picture of what was not given."""

import numpy as np
import pytest

from pipeline.evaluate import evaluate
from pipeline.evaluation.case_view import view_case
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.report import report
from pipeline.settings import Dataset
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from tests.pipeline.results import OBLIQUE, ORIGIN, RESOURCES, SPACING

SHAPE = (6, 24, 20)


@pytest.fixture
def described(results_tree, box, tmp_path):
    """A trained network and given predictions, which lack the unlabelled case."""
    image = np.random.default_rng(0).integers(0, 60, SHAPE, dtype=np.int16)
    lesion = box(SHAPE, (1, 3), (4, 8), (4, 8))
    results_tree.add_case("a", image, lesion.astype(np.uint8))
    results_tree.add_case("unseen", image)
    results_tree.write_split([["a"]])
    (tmp_path / "given").mkdir()
    grid = Geometry(SHAPE, SPACING, ORIGIN, OBLIQUE)
    write_volume(tmp_path / "given" / "a.nii.gz", lesion, grid)
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "nnunet", "root": "somewhere"},
            "slices": {"size": (32, 32), "window": (0, 100)},
            "experiments": {
                "unet": {"model": "unet"},
                "reader": {"predictions": str(tmp_path / "given")},
            },
            "evaluation": {"baseline": "unet", "bootstrap_samples": 100},
        }
    )
    layout = results_tree.layout
    results_tree.add_predictions("unet", 1, {"a": lesion * 0.4, "unseen": lesion * 0.9})
    results_tree.add_model("unet", 1, 1_000_000)
    reader = dataset.experiments["reader"]
    predict(layout, "reader", 1, reader, 0, dataset.slices, RESOURCES)
    for name in ("unet", "reader"):
        postprocess(layout, name, 1, dataset.postprocess)
        evaluate(layout, name, (1,), dataset.evaluation, dataset.postprocess, seed=0, threads=1)
    return layout, dataset


def test_it_is_drawn_and_compared_and_has_no_curves(described):
    layout, dataset = described
    report(layout, dataset, seed=0)
    page = layout.report.read_text("utf-8")
    assert "reader: given predictions, nothing is trained." in page
    assert "reader − unet, Dice: +1.000" in page
    assert page.count("data:image/webp;base64,") == 4  # both slices of each case
    shown = view_case(layout, dataset, "a", 1)
    assert list(shown.predictions) == ["unet", "reader"]


def test_an_unlabelled_case_is_shown_without_the_mask_that_was_not_given(described):
    layout, dataset = described
    assert list(view_case(layout, dataset, "unseen", 1).predictions) == ["unet"]
    reader = {"reader": dataset.experiments["reader"]}
    alone = dataset.model_copy(update={"experiments": reader})
    shown = view_case(layout, alone, "unseen", 1)
    assert (shown.predictions, shown.target.any()) == ({}, False)
