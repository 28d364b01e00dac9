"""A stage depends on its own part of the configuration, and on nothing else."""

import pytest

from pipeline.errors import PipelineError
from pipeline.settings import repeat_seed, residual_count
from pipeline.settings.instances import used_maes, used_residuals
from pipeline.settings.reading import validate

ENCODER = {"experiments.m": {"model": "mae_unet", "mae_encoder": {"mae": "shared"}}}
TRAIN, MAPS = ("train_mae", "shared"), ("residual_maps", "mrm")
SEGMENT, PREDICT, SCORE = ("train_segmentation", "g"), ("predict", "g"), ("evaluate", "g")
REPEAT = ("train_segmentation", "g/repeat-2")
OTHER_NETWORK = ("train_segmentation", "u")
INGEST, SPLIT = ("ingest", ""), ("split", "")
SECOND_AND_THIRD = ("/repeat-2", "/repeat-3")
REST = [INGEST, SPLIT, ("postprocess", "")]
# keys of a masked training, beside `optimizer: adamw`, and of a network's
OF_MAE = {
    **{"recipe": "mae", "optimizer": "adam", "betas": [0.5, 0.9], "weight_decay": 0.1},
    **{"warmup": 0.1, "clip": 2, "schedule": "cosine", "decay": 0.5, "decay_epochs": 5},
    **{"epochs": 7, "steps": 7, "batch_size": 4, "learning_rate": 0.5, "slices_of": "healthy"},
    **{"train_mask_ratios": [0.6], "precision": "bf16", "adversarial": {}},
}
OF_NETWORK = {
    **{"warmup_epochs": 2, "warmup_factor": 3, "epochs": 7, "patience": 3, "plateau": {}},
    **{"lesion_free_fraction": 0.5, "batch_size": 4, "learning_rate": 0.5, "loss": "focal"},
    "precision": "bf16",
}
STRENGTHS = {"flip": 0.5, "rotate": 9, "scale": 0.1, "shift": 0.1}
STRENGTHS |= {"elastic": 0.01, "gamma": 0.1, "noise": 0.1}


@pytest.mark.parametrize(
    ("path", "value", "dependent", "independent"),
    [
        ("evaluation.bootstrap_samples", 500, [SCORE], [TRAIN, MAPS, SEGMENT, PREDICT, *REST]),
        ("mae.shared.picture_epochs", 3, [], [TRAIN]),
        ("mae.shared.architecture", "simmim", [TRAIN, MAPS], []),
        ("experiments.g.training.channels_last", True, [SEGMENT], [OTHER_NETWORK]),
        ("experiments.g.training.normalise", "dataset", [SEGMENT], [OTHER_NETWORK]),
        ("experiments.g.context", 1, [SEGMENT, PREDICT], [OTHER_NETWORK, MAPS, SCORE]),
        ("experiments.g.subsets", [1], [], [SEGMENT, SCORE]),
        ("residuals.mrm.difference", "signed", [MAPS], [TRAIN, SEGMENT, PREDICT]),
        ("source.healthy", ["sound"], [INGEST], [SPLIT, TRAIN, MAPS, SEGMENT, PREDICT]),
        ("split.by", "group", [SPLIT], [INGEST, TRAIN, MAPS, SEGMENT, PREDICT]),
        ("split.folds", 3, [SPLIT, MAPS, PREDICT, SCORE], [INGEST, TRAIN, SEGMENT]),
        ("split.validation", 2, [SPLIT], [INGEST, TRAIN, MAPS, SEGMENT, PREDICT]),
        ("slices.plane", "axial", [INGEST], [TRAIN, MAPS, SEGMENT, PREDICT]),
        ("source.tilted", "resample", [INGEST], [TRAIN, MAPS, SEGMENT, PREDICT]),
        ("slices.size", [96, 96], [TRAIN, MAPS, SEGMENT, PREDICT], [INGEST]),
        ("slices.plane", "as_stored", [], [INGEST, ("report", "")]),
        ("experiments.g.rcu.start", 0, [SEGMENT, PREDICT], [OTHER_NETWORK, MAPS, SCORE]),
        ("experiments.g.gcu.start", 0, [SEGMENT, PREDICT], [OTHER_NETWORK, MAPS, SCORE]),
        ("experiments.g.residual_input", True, [SEGMENT, PREDICT], [OTHER_NETWORK, MAPS, SCORE]),
        (
            "experiments.g.labelled_cases",
            9,
            [SEGMENT],
            [OTHER_NETWORK, PREDICT, TRAIN, MAPS, SCORE],
        ),
        ("experiments.g.repeats", 3, [SCORE], [SEGMENT, PREDICT, REPEAT, *REST, ("compare", "")]),
        ("experiments.g.repeats", 1, [], [SEGMENT, PREDICT, SCORE, ("report", "")]),
        ("experiments.g.labelled_cases", None, [], [SEGMENT, PREDICT, SCORE, ("report", "")]),
        ("experiments.g.rcu.start", 1, [], [SEGMENT, PREDICT, ("report", "")]),
        ("experiments.g.gcu.start", 1, [], [SEGMENT, PREDICT, ("report", "")]),
        ("experiments.g.residual_input", False, [], [SEGMENT, PREDICT, ("report", "")]),
        ("source.tilted", "refuse", [], [INGEST, ("report", "")]),
    ],
)
def test_a_stage_depends_on_its_own_section_only(
    changed, part, path, value, dependent, independent
):
    before, after = changed(), changed({path: value})
    stages = [*dependent, *independent]
    differ = [stage for stage in stages if part(before, *stage) != part(after, *stage)]
    assert differ == dependent


@pytest.mark.parametrize(("key", "value"), OF_MAE.items())
def test_a_masked_training_depends_on_each_of_its_keys_and_maps_on_its_weights(
    changed, part, key, value
):
    plain = {"preset": "tiny", "optimizer": "adamw"} | ({"steps": 5} if key == "steps" else {})
    before, after = (changed({"mae.shared": {**plain, **more}}) for more in ({}, {key: value}))
    assert part(before, *TRAIN) != part(after, *TRAIN)
    assert part(before, *MAPS) == part(after, *MAPS)


@pytest.mark.parametrize(("key", "value"), OF_NETWORK.items())
def test_a_network_s_training_depends_on_each_of_its_keys_and_predictions_on_its_weights(
    changed, part, key, value
):
    before, after = changed(), changed({f"experiments.g.training.{key}": value})
    assert part(before, *SEGMENT) != part(after, *SEGMENT)
    assert part(before, *PREDICT) == part(after, *PREDICT)


@pytest.mark.parametrize("key", STRENGTHS)
@pytest.mark.parametrize(
    ("path", "training"), [("mae.shared", TRAIN), ("experiments.g.training", SEGMENT)]
)
def test_a_training_depends_on_how_far_it_varies_its_slices(changed, part, path, training, key):
    weak, strong = (
        changed({f"{path}.augment": {"flip": 0.1, "rotate": 1, key: share * STRENGTHS[key]}})
        for share in (0.5, 1)
    )
    assert part(weak, *training) != part(strong, *training)


def test_repeats_differ_in_their_seed_alone_and_the_first_has_the_configuration_s(changed, part):
    given = changed({"experiments.g.repeats": 3})
    trainings = [part(given, "train_segmentation", f"g{end}") for end in ("", *SECOND_AND_THIRD)]
    seeds = [training.pop("seed") for training in trainings]
    assert seeds[0] == part(given, "split")["seed"]
    assert len({*seeds, *(repeat_seed(7, f"g{end}") for end in SECOND_AND_THIRD)}) == 5
    assert trainings[0] == trainings[1] == trainings[2]
    # a fixed number: another derivation would train every repeat anew
    assert repeat_seed(2026, "g/repeat-2") == 2537827538


@pytest.mark.parametrize(
    ("key", "value"),
    [("repeats", value) for value in (0, 21, True, 2.0)]
    + [("labelled_cases", value) for value in (1, True, 2.5)],
)
def test_numbers_of_repeats_and_labelled_cases_are_checked(changed, key, value):
    with pytest.raises(PipelineError, match=rf"experiments\.g\.{key}"):
        validate(changed({f"experiments.g.{key}": value}), "test")


def test_a_series_that_is_not_chosen_leaves_finished_results_as_they_are(changed, part):
    assert "series" not in part(changed(), "ingest")["source"]
    chosen = changed({"source.series": "thin"})
    assert part(chosen, "ingest")["source"]["series"] == "thin"


def test_keys_of_the_grid_are_recorded_only_where_they_are_set(changed, part):
    assert "tilted" not in part(changed(), *INGEST)["source"]
    assert set(part(changed(), *INGEST)) == {"source"}
    assert "plane" not in part(changed(), "report")["dataset"]["slices"]


def test_starts_and_residual_input_are_recorded_only_where_they_are_set(changed, part):
    experiment = part(changed(), *SEGMENT)["experiment"]
    assert "residual_input" not in experiment
    assert set(experiment["gcu"]) == {"kind", "levels"}
    assert set(experiment["rcu"]) == {"levels", "patch_sizes", "importance"}


def test_residual_maps_are_made_for_networks_that_have_them_as_input(changed):
    values = {"experiments.g.subsets": [1], "split.subsets": 2}
    into = {"model": "unetpp", "residuals": "mrm", "residual_input": True}
    dataset = validate(changed({**values, "experiments.i": into}), "x").datasets["brain"]
    assert dataset.subsets_with("mrm") == (1, 2)
    assert residual_count(dataset, "i") == len(dataset.residuals["mrm"].titles)
    assert used_residuals(dataset, ["i"]) == ["mrm"]
    assert used_maes(dataset, ["i"]) == ["shared"]


def test_residual_maps_are_made_for_the_subsets_that_use_them(changed, part):
    assert part(changed({"experiments.g.subsets": [1]}), *MAPS)["subsets"] == [1]
    halves = {"split.subsets": 3, "experiments.g.subsets": [2]}
    assert part(changed(halves), *MAPS)["subsets"] == [2]
    other = {"model": "grcsf", "residuals": "mrm", "subsets": [2, 3]}
    assert part(changed({**halves, "experiments.h": other}), *MAPS)["subsets"] == [2, 3]


def test_grad_cam_needs_its_network_on_every_subset_that_uses_the_maps(changed, part):
    values = {
        "split.subsets": 2,
        "residuals.cam": {"grad_cam": "u"},
        "experiments.u.subsets": [1],
        "experiments.c": {"model": "grcsf", "residuals": "cam", "subsets": [1]},
    }
    halves = changed(values)
    assert residual_count(validate(halves, "x").datasets["brain"], "c") == 1
    faster = changed({**values, "experiments.u.training": {"learning_rate": 0.5}})
    assert part(halves, "residual_maps", "cam") == part(faster, "residual_maps", "cam")
    wider = changed({**values, "experiments.u.width": 8})
    assert part(halves, "residual_maps", "cam") != part(wider, "residual_maps", "cam")
    with pytest.raises(PipelineError, match="'u' is not trained on subset 2"):
        validate(changed({**values, "experiments.c.subsets": [1, 2]}), "x")


@pytest.mark.parametrize("stage", ["train_segmentation", "predict"])
def test_a_network_depends_on_its_mae_s_shape_and_not_on_its_training(changed, part, stage):
    given = changed(ENCODER)
    longer = changed({**ENCODER, "mae.shared.epochs": 7})
    small = changed({**ENCODER, "mae.shared.preset": "small"})
    assert part(given, stage, "m") == part(longer, stage, "m")
    assert part(given, stage, "m") != part(small, stage, "m")
    assert part(given, stage, "g") == part(small, stage, "g")
