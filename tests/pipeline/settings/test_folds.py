"""Folds: which MAE and which residual set each has, what is refused, and what is recorded."""

import pytest

from pipeline.errors import PipelineError
from pipeline.planning.folds import fold_note
from pipeline.settings import Split
from pipeline.settings.instances import (
    all_maes,
    all_residuals,
    configured,
    fold_of,
    instances_of,
    mae_instances,
    maes_behind,
    residual_instances,
    subsets_served,
)
from pipeline.settings.reading import validate

FOLDS = {"split.folds": 3}
HEALTHY = {**FOLDS, "mae.shared.slices_of": "healthy"}
GIVEN = {**FOLDS, "mae.shared.checkpoint": "weights.pth", "mae.shared.epochs": 0}
CAM = {
    "residuals.cam": {"grad_cam": "u"},
    "experiments.c": {"model": "grcsf", "residuals": "cam", "subsets": [2]},
}
ENCODER = {"experiments.m": {"model": "mae_unet", "mae_encoder": {"mae": "shared"}}}
WHY = "because its slices come from cases that are tested"


@pytest.fixture
def dataset(changed):
    return lambda values: validate(changed(values), "x").datasets["brain"]


def test_what_learns_from_a_fold_s_cases_exists_once_a_fold(dataset):
    brain = dataset({**FOLDS, **CAM, **ENCODER})
    assert brain.all_subsets == (1, 2, 3)
    assert instances_of(brain, "g", 2) == ("mrm/fold-2", None)
    assert instances_of(brain, "m", 3) == (None, "shared/fold-3")
    assert instances_of(brain, "c", 2) == ("cam/fold-2", None)
    assert instances_of(brain, "g/repeat-3", 2) == ("mrm/fold-2", None), "repeats share the maps"
    maps = [f"mrm/fold-{fold}" for fold in (1, 2, 3)]
    assert residual_instances(brain, brain.experiments) == ["cam/fold-2", *maps]
    assert mae_instances(brain, ["g"]) == [f"shared/fold-{fold}" for fold in (1, 2, 3)]
    assert mae_instances(brain, ["c"]) == []
    assert maes_behind("mrm/fold-3", brain.mae) == {"shared": "shared/fold-3"}
    assert subsets_served(brain, "mrm/fold-3") == (3,)
    assert [configured("mrm/fold-3"), fold_of("mrm/fold-3"), fold_of("mrm")] == ["mrm", 3, None]


@pytest.mark.parametrize("values", [HEALTHY, GIVEN])
def test_one_mae_serves_all_folds_where_it_learns_from_no_case(dataset, values):
    brain = dataset({**values, **ENCODER})
    assert instances_of(brain, "g", 2) == ("mrm", None)
    assert instances_of(brain, "m", 2) == (None, "shared")
    assert (all_maes(brain), all_residuals(brain)) == (["shared"], ["mrm"])
    assert subsets_served(brain, "mrm") == (1, 2, 3)


def test_a_set_with_one_map_of_a_fold_s_mae_is_the_fold_s(dataset):
    given = {"preset": "tiny", "checkpoint": "weights.pth", "epochs": 0}
    maps = [{"mae": "given", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
    mixed = {"preset": "fast", "maps": maps}
    brain = dataset({**FOLDS, "mae.given": given, "residuals.mrm": mixed})
    assert residual_instances(brain, ["g"])[0] == "mrm/fold-1"
    assert mae_instances(brain, ["g"])[:2] == ["given", "shared/fold-1"]
    assert maes_behind("mrm/fold-2", brain.mae) == {"given": "given", "shared": "shared/fold-2"}


def test_without_folds_every_subset_has_the_same(dataset):
    brain = dataset({"split.subsets": 3})
    assert instances_of(brain, "g", 2) == ("mrm", None)
    assert (mae_instances(brain, ["g"]), residual_instances(brain, ["g"])) == (["shared"], ["mrm"])
    assert fold_note("brain", brain) is None


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (FOLDS, f"MAE shared is trained for each of them, {WHY}; residual set mrm likewise"),
        (HEALTHY, "MAE shared and residual set mrm serve all 3 folds"),
        (
            {**HEALTHY, **CAM},
            "residual set cam is made for each of them; MAE shared and residual set mrm serve "
            "all 3 folds",
        ),
    ],
)
def test_a_plan_says_what_each_fold_has_of_its_own(dataset, values, said):
    assert fold_note("brain", dataset(values)) == f"brain: 3 folds; {said}"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({**FOLDS, "split.subsets": 2}, "split: folds: found 3 with subsets 2, expected one of"),
        ({**FOLDS, "split.test": 0.2}, "split: test: found 0.2 with folds 3, which test every"),
        ({"split.folds": 1}, "split.folds: found 1 (int), expected at least 2"),
        ({**FOLDS, "experiments.g.subsets": [4]}, "subsets: found 4, but split has 3"),
        ({"mae.shared.slices_of": "none"}, "slices_of: found 'none' (str), expected 'all'"),
        ({**GIVEN, "mae.shared.slices_of": "healthy"}, "slices_of is for a training; epochs 0"),
    ],
)
def test_what_folds_cannot_have_is_refused_in_one_line(changed, values, said):
    with pytest.raises(PipelineError) as refused:
        validate(changed(values), "x")
    (line,) = str(refused.value).splitlines()
    assert said in line


def test_new_keys_are_recorded_only_where_they_are_set_and_can_be_read_again(changed, part):
    assert set(part(changed(), "split")["split"]) == {"by", "subsets", "test", "validation"}
    assert "slices_of" not in part(changed(), "train_mae", "shared")["mae"]
    folds = part(changed(FOLDS), "split")["split"]
    assert folds["folds"] == 3
    assert Split.model_validate(folds) == Split(folds=3)
    healthy = part(changed(HEALTHY), "train_mae", "shared")["mae"]
    assert healthy["slices_of"] == "healthy"


def test_each_fold_s_maps_depend_on_that_fold(changed, part):
    own = part(changed(FOLDS), "residual_maps", "mrm/fold-2")
    assert own == {**part(changed(), "residual_maps", "mrm"), "subsets": [2]}
    assert part(changed(FOLDS), "train_mae", "shared/fold-2") == part(
        changed(), "train_mae", "shared"
    )
    assert "unlabelled_by" not in part(changed(), "predict", "g")
    first = {**FOLDS, "experiments.u.subsets": [2, 3]}
    assert part(changed(first), "predict", "g")["unlabelled_by"] == 2
