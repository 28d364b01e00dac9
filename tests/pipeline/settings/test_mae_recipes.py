"""Recipes fill in a masked training's keys; no key is read and ignored."""

import pytest

from pipeline.errors import PipelineError
from pipeline.settings import Mae
from pipeline.settings.reading import validate

# records of models made before there were recipes
BEFORE = {
    **{"architecture": "mae", "preset": "large", "image_size": 224, "patch_size": 16},
    **{"train_mask_ratios": [0.5, 0.75], "checkpoint": None, "epochs": 200, "batch_size": 32},
    **{"learning_rate": 1e-3, "decay": 0.9, "decay_epochs": 50, "precision": "fp32"},
    **{"adversarial": None, "picture_epochs": 10},
}
FILLED = {"optimizer": "adamw", "betas": [0.9, 0.95], "weight_decay": 0.05}
FILLED |= {"warmup": 0.05, "clip": 1.0, "schedule": "cosine"}


def written(**given):
    return Mae.model_validate(given).model_dump(mode="json")


def test_the_paper_s_recipe_leaves_records_as_they_were():
    assert written() == written(recipe="paper") == BEFORE


def test_the_mae_recipe_is_recorded_by_its_parts_and_yields_to_what_is_given():
    without_steps = {key: value for key, value in BEFORE.items() if not key.startswith("decay")}
    assert written(recipe="mae") == {**without_steps, **FILLED}
    assert written(**FILLED) == written(recipe="mae"), "the same training by another name"
    assert "clip" not in written(recipe="mae", clip=None)
    own = written(recipe="mae", optimizer="adam", schedule="step", decay_epochs=5, warmup=0.1)
    kept = {"betas": [0.9, 0.95], "warmup": 0.1, "clip": 1.0, "decay_epochs": 5}
    assert own == {**BEFORE, **kept}
    assert written(optimizer="adamw")["weight_decay"] == 0.05
    assert written(optimizer="adamw", weight_decay=0)["weight_decay"] == 0


@pytest.mark.parametrize(
    "given",
    [{}, {"recipe": "mae"}, {"recipe": "mae", "optimizer": "adam"}, {"steps": 7}, {"epochs": 3}],
)
def test_what_is_written_is_read_again_as_the_same(given):
    assert written(**written(**given)) == written(**given)


def test_steps_stand_in_place_of_epochs():
    assert "epochs" not in written(steps=7)
    assert written(steps=7)["steps"] == 7
    epochs = [Mae(steps=steps, batch_size=4).epochs_over(10) for steps in (1, 3, 4, 6, 7)]
    assert epochs == [1, 1, 2, 2, 3]
    assert Mae(epochs=5).epochs_over(10) == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"recipe": "mea"}, "shared.recipe: found 'mea' (str), expected 'paper' or 'mae'"),
        ({"recipe": "mae", "decay_epochs": 5}, "decay_epochs is for schedule step"),
        ({"schedule": "cosine", "decay": 0.5}, "decay is for schedule step"),
        ({"weight_decay": 0.1}, "weight_decay is for optimizer adamw"),
        ({"steps": 5, "epochs": 5}, "give either epochs or steps, not both"),
        ({"steps": None, "epochs": None}, "give epochs or steps"),
        ({"steps": 0}, "shared.steps: found 0 (int), expected at least 1"),
        ({"warmup": 1}, "shared.warmup: found 1 (int), expected less than 1"),
        ({"clip": 0}, "shared.clip: found 0 (int), expected more than 0"),
        ({"betas": [0.9]}, "shared.betas: found [0.9] (list)"),
        ({"betas": [0.9, 1]}, "shared.betas.1: found 1 (int), expected less than 1"),
    ],
)
def test_a_key_that_would_change_nothing_is_refused(changed, given, said):
    with pytest.raises(PipelineError) as raised:
        validate(changed({"mae.shared": {"preset": "tiny", **given}}), "my.yaml")
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)
