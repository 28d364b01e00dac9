"""Experiments without a training of their own: their keys, and what results depend on."""

import pytest

from pipeline.errors import PipelineError
from pipeline.settings import Dataset, Settings
from pipeline.settings.reading import validate

SAM = {"model": "sam", "prompts": "u"}
GIVEN = {"predictions": "masks"}
BOTH = {"ensemble": ["u", "g"]}


def refused(given):
    with pytest.raises(PipelineError) as raised:
        validate(given, "my.yaml")
    return str(raised.value)


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        (
            {**SAM, "promts": "u"},
            "experiments.x.promts: unknown key; did you mean 'prompts'?",
        ),
        ({"model": "sam"}, "experiments.x.prompts: missing; this key must be given"),
        ({**SAM, "prompts": "w"}, "x.prompts names 'w', but experiments has only: u, g, x, s"),
        ({**SAM, "prompts": "s"}, "x.prompts: found 's', which is SAM itself, expected a trained"),
        ({**SAM, "boxes": "lesion"}, "x.boxes: found 'lesion' (str), expected 'component' or 'sl"),
        ({**SAM, "repeats": 2}, "experiments.x.repeats: unknown key; "),
        ({**SAM, "labelled_cases": 2}, "experiments.x.labelled_cases: unknown key; "),
        ({**SAM, "predictions": "m"}, "experiments.x.predictions: unknown key; "),
        ({**SAM, "resources": {"nodes": 2}}, "x: resources.nodes: found 2, which its prediction"),
        ({**GIVEN, "resources": {"gpus": 1}}, "x: resources.gpus: found 1, which its prediction"),
        ({**SAM, "subsets": [2]}, "experiments.x.subsets: found 2, but split has 1"),
        ({"model": "samm"}, "x.model: found 'samm' (str), expected 'unet', 'unetpp', 'mae_unet'"),
        ({"model": "samm"}, "'ut_net' or 'sam'"),
        ({**GIVEN, "resampled": True}, "x.resampled: unknown key; did you mean 'resample'? known"),
        ({"prediction": "m"}, "x.prediction: unknown key; did you mean 'predictions'? known keys"),
        ({**GIVEN, "repeats": 2}, "experiments.x.repeats: unknown key; "),
        ({**GIVEN, "model": "unet"}, "experiments.x.predictions: unknown key; "),
        ({"predictions": ""}, "experiments.x.predictions: found ''"),
        ({"predictions": 3}, "experiments.x.predictions: found 3 (int), expected text"),
        ({"ensembel": ["u"]}, "x.ensembel: unknown key; did you mean 'ensemble'? known keys"),
        ({"ensemble": ["u"]}, "x.ensemble: found a single network, 'u', expected several; give it"),
        ({"ensemble": ["u", "u"]}, "experiments.x: ensemble: found 'u' twice; name each"),
        ({"ensemble": ["u", "w"]}, "x.ensemble names 'w', but experiments has only: u, g, x, s"),
        ({"ensemble": ["u", "s"]}, "x.ensemble: found 's', which is SAM, whose weights are given,"),
        ({"ensemble": ["u", "x"]}, "x.ensemble: found 'x', which is an ensemble of other experim"),
        ({**BOTH, "repeats": 2}, "experiments.x.repeats: unknown key; "),
        ({**BOTH, "resources": {"gpus": 1}}, "x: resources.gpus: found 1, which its prediction"),
    ],
)
def test_a_fault_names_its_key_and_what_is_allowed(changed, experiment, said):
    said_all = refused(changed({"experiments.x": experiment, "experiments.s": SAM}))
    assert said in said_all


def test_prompts_need_the_subsets_of_sam(changed):
    given = {"split": {"subsets": 2}, "experiments.u.subsets": [1]}
    said = refused(changed({**given, "experiments.x": SAM}))
    assert "experiments.x.prompts: 'u' has no subset 2, whose masks SAM needs; give both" in said
    validate(changed({**given, "experiments.x": {**SAM, "subsets": [1]}}), "my.yaml")


def test_an_ensemble_needs_the_subsets_of_its_members(changed):
    given = {"split": {"folds": 2}, "experiments.u.subsets": [1]}
    said = refused(changed({**given, "experiments.x": BOTH}))
    assert "experiments.x.ensemble: 'u' has no subset 2, which is averaged; give both" in said
    validate(changed({**given, "experiments.x": {**BOTH, "subsets": [1]}}), "my.yaml")


def test_an_ensemble_averages_every_repeat_in_any_order(changed, part):
    def of(name="x", **more):
        base = {"experiments.x": BOTH, "experiments.u.repeats": 2}
        return part(changed({**base, **more}), "predict", name)

    assert of() == {"experiment": {"uncertainty": False}, "members": ["g", "u", "u/repeat-2"]}
    assert of(**{"experiments.x": {"ensemble": ["g", "u"]}}) == of()
    assert of(**{"experiments.x": {**BOTH, "uncertainty": True}}) != of()
    assert of(**{"experiments.u.repeats": 3}) != of()


def test_grad_cam_needs_a_trained_network(changed):
    for experiment, what in ((SAM, "SAM, whose weights are given"), (GIVEN, "given predictions")):
        given = {"experiments.x": experiment, "residuals.cam": {"grad_cam": "x"}}
        assert f"grad_cam: 'x' is {what}, expected a network that" in refused(changed(given))


def test_neither_has_trainings_of_its_own(changed):
    given = changed({"experiments.sam": SAM, "experiments.nnunet": GIVEN})
    dataset = Settings.model_validate(given).datasets["brain"]
    assert list(dataset.networks) == ["u", "g"]
    for name in ("sam", "nnunet"):
        assert dataset.trainings_of(name) == [name]
        with pytest.raises(PipelineError, match=f"experiments.{name}: found .*, expected a net"):
            dataset.trained(name, "to export it")
    again = Dataset.model_validate(dataset.model_dump(mode="json"))
    assert again == dataset


def test_a_prediction_depends_on_what_is_given_and_not_on_where_it_lies(changed, part):
    def of(name, **more):
        sam = {**SAM, "checkpoint": "here/sam.pth"}
        base = {"experiments.x": sam, "experiments.m": {**GIVEN}}
        return part(changed({**base, **more}), "predict", name)

    assert of("x") == {
        "experiment": {"model": "sam", "prompts": "u", "boxes": "component"},
        "slices": {"window": None, "percentiles": [0.0, 99.9]},
    }
    assert of("m") == {"experiment": {"resample": False}}
    assert of("x", **{"experiments.x.checkpoint": "there/sam.pth"}) == of("x")
    assert of("m", **{"experiments.m.predictions": "elsewhere"}) == of("m")
    assert of("x", **{"slices.size": [32, 32]}) == of("x"), "SAM sees slices at their own size"
    assert of("x", **{"experiments.x.boxes": "slice"}) != of("x")
    assert of("x", **{"slices.percentiles": [0, 99]}) != of("x")
    assert of("m", **{"experiments.m.resample": True}) != of("m")
    folds = {"split": {"folds": 3}}
    assert of("m", **folds) == {**of("m"), "unlabelled_by": 1}
