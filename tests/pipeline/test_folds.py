"""Stages with folds: no tested case has taught the MAE that makes its maps."""

import pytest

from pipeline import train_mae as stage
from pipeline.networks.weights import weights_digest
from pipeline.predict import predict
from pipeline.residual_maps import residual_maps
from pipeline.settings import Split
from pipeline.settings.instances import Instances
from pipeline.split import split
from pipeline.storage.files import file_digest, read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.roles import cases_of_other_subsets, subset_that_tests
from pipeline.storage.zarr_store import open_store
from pipeline.train_segmentation import train_segmentation
from tests.pipeline.conftest import write_disc
from tests.pipeline.results import GRCSF, MAE, RESIDUALS, RESOURCES, SLICES, TRAINING

SEED = 5
ONE_EPOCH = MAE.model_copy(update={"epochs": 1})


@pytest.fixture
def folds(ingested):
    """Four labelled discs in two folds, of which each tests two."""
    content = read_json(ingested.cases)
    for case in content["cases"].values():
        case["role"] = "" if case["labelled"] else "unlabelled"
    write_json(ingested.cases, content)
    split(ingested, Split(folds=2, validation=1), SEED)
    return ingested


@pytest.fixture
def fingerprinted(monkeypatch):
    """What fingerprints of MAEs are made of, in the order of the trainings."""
    seen, original = [], stage.fingerprint

    def noted(parts):
        seen.append(parts)
        return original(parts)

    monkeypatch.setattr(stage, "fingerprint", noted)
    return seen


def test_each_fold_s_maps_are_its_own_mae_s_which_has_seen_no_tested_case(folds, fingerprinted):
    tested = read_json(folds.split)["subsets"]
    for fold in (1, 2):
        stage.train_mae(folds, f"shared/fold-{fold}", ONE_EPOCH, SLICES, SEED, RESOURCES)
        assert folds.mae(f"shared/fold-{fold}").is_file()
        seen = set(fingerprinted[-1]["cases"])
        assert seen == set("abcd") - set(tested[str(fold)]["test"])
    weights = [weights_digest(folds.mae(f"shared/fold-{fold}")) for fold in (1, 2)]
    assert weights[0] != weights[1]
    for fold in (1, 2):
        name = f"mrm/fold-{fold}"
        given = (RESIDUALS, {"shared": ONE_EPOCH}, (fold,), SLICES, SEED, RESOURCES)
        residual_maps(folds, name, "1of1", *given)
        assert sorted(read_json(folds.residual_batch(name, "1of1"))["cases"]) == [*"abcde"]
        made_by = open_store(folds.residual_store(name, "a")).attrs["weights"]
        assert made_by == {"shared": weights[fold - 1]}
    used = Instances("mrm/fold-2", None)
    once = GRCSF.model_copy(update={"training": TRAINING.model_copy(update={"epochs": 1})})
    train_segmentation(folds, "grcsf", 2, once, 2, SLICES, SEED, RESOURCES, None, used)
    predict(folds, "grcsf", 2, once, 2, SLICES, RESOURCES, None, "mrm/fold-2", unlabelled=False)
    keys = read_json(folds.predictions("grcsf", 2))["cases"]
    assert sorted(keys) == tested["2"]["test"], "another fold predicts the unlabelled case"
    made_by = open_store(folds.prediction_store("grcsf", 2, sorted(keys)[0])).attrs["made_by"]
    own = open_store(folds.residual_store("mrm/fold-2", sorted(keys)[0])).attrs["fingerprint"]
    assert made_by["residuals"] == own


def test_an_mae_of_healthy_scans_sees_no_other_case(ingested, fingerprinted):
    content = read_json(ingested.cases)
    for number, name in enumerate(("s1", "s2", "s3")):
        disc = write_disc(ingested, name, seed=10 + number, labelled=False)
        content["cases"][name] = {**disc, "role": "healthy"}
    write_json(ingested.cases, content)
    healthy = ONE_EPOCH.model_copy(update={"slices_of": "healthy"})
    stage.train_mae(ingested, "shared", healthy, SLICES, SEED, RESOURCES)
    assert set(fingerprinted[-1]["cases"]) == {"s1", "s2", "s3"}
    assert len({case for case, _ in fingerprinted[-1]["validation"]}) == 1
    assert {z for _, z in fingerprinted[-1]["train"]} == {1, 2, 3, 4, 5}, "0 is empty"


def test_an_mae_in_place_of_the_folds_leaves_those_of_the_folds_where_they_are(folds):
    stage.train_mae(folds, "shared/fold-1", ONE_EPOCH, SLICES, SEED, RESOURCES)
    split(folds, Split(test=1, validation=1), SEED)
    for rate in (1e-3, 1e-2):
        changed = ONE_EPOCH.model_copy(update={"learning_rate": rate})
        stage.train_mae(folds, "shared", changed, SLICES, SEED, RESOURCES)
    fold = folds.mae("shared/fold-1")
    assert fold.is_file()
    assert weights_digest(fold) == file_digest(folder_of(fold) / "model.safetensors")


def test_all_cases_are_due_for_maps_of_one_fold(folds):
    assert cases_of_other_subsets(folds, (1,)) == set()
    apart = {"1": {"train": ["a"], "test": ["b"]}, "2": {"train": ["c"], "test": ["d"]}}
    write_json(folds.split, {**read_json(folds.split), "subsets": apart})
    assert cases_of_other_subsets(folds, (1,)) == {"c", "d"}
    assert [subset_that_tests(folds, case) for case in "bde"] == [1, 2, None]
