"""Over folds, each test case is shown and measured with the maps of its own fold."""

import numpy as np
import pytest

from pipeline.evaluation.case_view import view_case
from pipeline.evaluation.contrast import contrast_table
from pipeline.evaluation.report_parts import data_summary, group_table, split_table
from pipeline.networks.history import training_histories, validation_losses
from pipeline.settings import Dataset
from pipeline.storage.files import read_json, write, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.residual_store import write_residuals
from pipeline.tabulate import build_table
from tests.pipeline.results import MAE, RESIDUALS

SHAPE = (3, 32, 32)
TESTED = {"a": 1, "b": 2}
TABLE = {
    "title": "t",
    "headings": ["Method"],
    "columns": ["residual_seconds"],
    "rows": [{"labels": ["ours"], "experiment": "grcsf"}],
}


@pytest.fixture
def dataset():
    return Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "images"},
            "slices": {"size": [32, 32], "window": [0, 150]},
            "split": {"folds": 2},
            "mae": {"shared": MAE},
            "residuals": {"mrm": RESIDUALS},
            "experiments": {"grcsf": {"model": "grcsf", "residuals": "mrm"}},
            "tables": {"one": TABLE},
        }
    )


@pytest.fixture
def folds(results_tree, box):
    """A case of each fold; a fold's maps show the lesion of its own case, and hide the other's."""
    lesion = box(SHAPE, (1, 2), (8, 16), (8, 16))
    image = np.random.default_rng(0).normal(100, 3, SHAPE).astype(np.float32)
    for case in TESTED:
        results_tree.add_case(case, image, lesion.astype(np.uint8), modality="MR", group=case * 2)
    results_tree.write_split([["a"], ["b"]])
    layout = results_tree.layout
    write_json(layout.split, {**read_json(layout.split), "folds": 2})
    for fold in (1, 2):
        for case, own in TESTED.items():
            seen = lesion if own == fold else ~lesion
            maps = np.stack([seen, seen]).astype(np.float16) * 0.5
            seconds = {"seconds": 1.0 if own == fold else 100.0}
            write_residuals(
                layout, f"mrm/fold-{fold}", case, maps, {"fingerprint": case, **seconds}
            )
    return results_tree


def test_the_contrast_is_that_of_the_fold_that_tests_the_case(folds, dataset):
    table = contrast_table(folds.layout, dataset)
    assert [row[2] for row in table.rows] == ["2", "2", "2"]
    assert [numbers["auc"] for numbers in table.numbers[:2]] == [1, 1]


def test_a_picture_has_the_maps_of_its_fold(folds, dataset, monkeypatch):
    nothing = np.zeros(SHAPE, bool)
    monkeypatch.setattr("pipeline.evaluation.case_view.read_mask", lambda *_: nothing)
    for fold, brightness in ((1, 0.5), (2, 0)):
        view = view_case(folds.layout, dataset, "a", fold, z=1)
        (first, _) = view.residuals.values()
        assert set(first[view.reference]) == {brightness}


def test_seconds_a_patient_are_those_of_the_maps_that_were_used(folds, dataset):
    scores = {"mean": 0.5, "low": None, "high": None, "undefined": 0}
    summary = {"patients": 2, "subsets": [1, 2], "scores": {"dice": scores}}
    write_json(folds.layout.summary("grcsf"), summary)
    folds.add_model("grcsf", 1, 7)
    table = build_table(folds.layout, dataset, dataset.tables["one"], 0, {})
    assert table.numbers[0]["residual_seconds"] == 1
    note = "Means over 2 test patients, each tested once, in the folds 1, 2 of 2; in brackets"
    assert table.notes[0].startswith(note)


def test_the_report_tells_folds_and_the_training_of_each(folds, dataset):
    layout, cases = folds.layout, folds.cases
    for fold in (1, 2):
        manifest = layout.mae(f"shared/fold-{fold}")
        kept = {"validation": dict.fromkeys(("masked_loss", "average_slice", "patch_mean"), fold)}
        write_json(manifest, kept)
        rows = f"epoch,train_loss,validation_loss\n0,1.0,{fold}\n"
        write(folder_of(manifest) / "history.csv", rows)
    histories, _ = training_histories(layout, dataset)
    assert list(histories["MAE shared"]) == ["fold 1", "fold 2"]
    assert list(validation_losses(layout, dataset)) == ["shared, fold 1", "shared, fold 2"]
    split = read_json(layout.split)
    assert split_table(split, cases).headings[0] == "Fold"
    assert group_table(split, cases).rows == [
        ["aa", "0", "0", "1", "0"],
        ["bb", "0", "0", "1", "0"],
    ]
    assert data_summary(dataset, cases, 0).endswith("Split by case into 2 folds.")
