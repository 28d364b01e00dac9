"""A method's own recipe fills in a training's keys, each of which can be given by itself."""

import pytest
from pydantic import ValidationError

from pipeline.settings import Experiment, Training
from pipeline.settings.recipes.published import OWN

# records of trainings made before there were recipes
BEFORE = {
    **{"loss": "mixed", "batch_size": 21, "epochs": 200, "learning_rate": 1e-4},
    **{"warmup_epochs": 5, "warmup_factor": 10.0, "plateau": None, "patience": 10},
    **{"lesion_free_fraction": 1.0, "precision": "fp32"},
}
KEPT = {"plateau": None, "lesion_free_fraction": 1.0, "precision": "fp32"}
SGD = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "schedule": "polynomial"}
LONG = {"epochs": 150, "patience": 150}
FILLED = {
    "swin_unet": {
        **{**SGD, **LONG, "loss": "dice_cross_entropy", "dice_weight": 0.6},
        **{"learning_rate": 0.05, "warmup_epochs": 0, "batch_size": 24},
    },
    "trans_unet": {
        **{**SGD, **LONG, "loss": "dice_cross_entropy", "dice_weight": 0.5},
        **{"learning_rate": 0.01, "warmup_epochs": 0, "batch_size": 24},
    },
    "spin": {
        **{"loss": "cross_entropy", "positive_weight": 1.5, "normalise": "dataset"},
        **{"learning_rate": 3e-4, "schedule": "constant", "restart_moments": True},
        **{"later_rates": [[400, 1e-4], [1400, 5e-5]], "slice_per_case": 0.95},
        **{"batch_size": 8, "epochs": 1600, "patience": 1600},
    },
    "trans_fuse": {
        **{"loss": "structure", "normalise": "imagenet", "betas": [0.5, 0.999], "clip": 2.0},
        **{"learning_rate": 7e-5, "schedule": "constant"},
        **{"batch_size": 16, "epochs": 25, "patience": 25},
    },
    "ut_net": {
        **{**SGD, **LONG, "loss": "tversky_cross_entropy", "auxiliary": True},
        **{"learning_rate": 0.05, "warmup_epochs": 5, "batch_size": 32},
    },
}


def written(model, **training):
    chosen = Experiment.model_validate({"model": model, "training": training})
    return chosen.model_dump(mode="json")["training"]


@pytest.mark.parametrize("model", ["unet", "deeplabv3", *OWN])
def test_the_paper_s_recipe_leaves_records_as_they_were(model):
    assert written(model) == written(model, recipe="paper") == BEFORE
    assert "pretrained" not in Experiment(model=model).model_dump()


@pytest.mark.parametrize("model", OWN)
def test_a_method_s_own_is_recorded_by_its_parts_which_can_be_written_by_hand(model):
    assert written(model, recipe="own") == {**FILLED[model], **KEPT}
    assert written(model, **FILLED[model]) == written(model, recipe="own")
    assert written(model, **written(model, recipe="own")) == written(model, recipe="own")
    given = Training.model_validate({"recipe": "own", "batch_size": 4})
    chosen = Experiment(model=model, training=given).model_dump(mode="json")["training"]
    assert chosen == written(model, recipe="own", batch_size=4)


def test_what_is_given_wins_and_takes_along_what_was_for_the_replaced_alone():
    assert written("spin", recipe="own", loss="mixed", schedule="cosine", epochs=500) == {
        **{"loss": "mixed", "normalise": "dataset", "slice_per_case": 0.95, "batch_size": 8},
        **{"restart_moments": True, "learning_rate": 3e-4, "epochs": 500, "patience": 500},
        **{"warmup_epochs": 5, "warmup_factor": 10.0, **KEPT},
    }
    assert written("spin", recipe="own", epochs=500)["later_rates"] == [[400, 1e-4]]
    assert "later_rates" not in written("spin", recipe="own", epochs=400)
    assert "normalise" not in written("spin", recipe="own", normalise=None)
    assert "auxiliary" not in written("ut_net", recipe="own", auxiliary=False)
    assert written("ut_net", recipe="own", patience=7)["patience"] == 7


def test_keys_that_need_another_s_value_get_a_default_with_it():
    assert written("unet", loss="cross_entropy")["positive_weight"] == 1.0
    assert written("unet", loss="dice_cross_entropy")["dice_weight"] == 0.5
    assert written("unet", optimizer="sgd")["momentum"] == 0.9
    assert "warmup_factor" not in written("unet", schedule="polynomial")
    assert {"warmup_epochs", "warmup_factor"}.isdisjoint(written("unet", schedule="constant"))


@pytest.mark.parametrize(
    ("model", "training", "said"),
    [
        ("unet", {"recipe": "own"}, r"model 'unet', expected paper; .* own have swin_unet, trans_"),
        ("deeplabv3", {"recipe": "own"}, "training.recipe: found 'own' with model 'deeplabv3'"),
        ("spin", {"recipe": "ours"}, "Input should be 'paper' or 'own'"),
        ("unet", {"positive_weight": 2}, "positive_weight is for loss cross_entropy, found mixed"),
        ("unet", {"dice_weight": 0.6, "loss": "focal"}, "dice_weight is for loss dice_cross_entr"),
        ("unet", {"momentum": 0.9}, "momentum is for optimizer sgd, found adam"),
        ("unet", {"weight_decay": 1e-4}, "weight_decay is for optimizer sgd, found adam"),
        ("unet", {"optimizer": "sgd", "betas": [0.5, 0.9]}, "betas is for optimizer adam, found"),
        ("unet", {"later_rates": [[4, 1e-5]]}, "later_rates is for schedule constant, found cos"),
        ("unet", {"schedule": "constant", "warmup_epochs": 5}, "for schedule cosine or polynomial"),
        ("unet", {"schedule": "polynomial", "warmup_factor": 2}, "warmup_factor is for schedule c"),
        ("unet", {"schedule": "constant", "later_rates": [[200, 1]]}, "are below epochs 200"),
        ("unet", {"schedule": "constant", "later_rates": [[9, 1], [5, 1]]}, r"found .* \[9, 5\]"),
        ("spin", {"auxiliary": True}, "training.auxiliary: found true with model 'spin'"),
        ("spin", {"normalise": "imagenet"}, "three colours to deeplabv3, swin_unet, trans_unet, t"),
    ],
)
def test_no_key_is_read_and_ignored(model, training, said):
    with pytest.raises(ValidationError, match=said):
        written(model, **training)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("unet", "a.pth", "pretrained: found a.pth for model 'unet', expected one of .* deeplabv3"),
        ("spin", ["a.pth", "b.pth"], "pretrained: found 2 files, expected one$"),
        ("trans_fuse", ["a", "b", "c"], "found 3 files, expected one for each of its branches"),
        ("spin", [], "at least 1 item"),
    ],
)
def test_weights_that_a_network_cannot_start_from_are_refused(model, given, said):
    with pytest.raises(ValidationError, match=said.removesuffix("$")):
        Experiment(model=model, pretrained=given)
    assert Experiment(model="trans_fuse", pretrained=["a", "b"]).pretrained == ("a", "b")


def test_the_start_concerns_the_training_and_no_prediction(changed, part):
    given = changed({"experiments.u": {"model": "deeplabv3", "pretrained": "a.pth"}})
    train = part(given, "train_segmentation", "u")["experiment"]
    assert train["pretrained"] == ["a.pth"]
    assert "pretrained" not in part(given, "predict", "u")["experiment"]


def test_a_short_training_still_reaches_the_recipe_s_rate():
    assert written("ut_net", recipe="own", epochs=3)["warmup_epochs"] == 2
    assert written("ut_net", recipe="own", epochs=1)["warmup_epochs"] == 0
    with pytest.raises(ValidationError, match="warmup_epochs: found 5, expected less than epochs"):
        written("unet", schedule="polynomial", epochs=5)


@pytest.mark.parametrize("model", [["spin"], {}, None])
def test_a_model_that_is_no_name_is_told_with_its_recipe(model):
    with pytest.raises(ValidationError, match="expected paper; a recipe of their own have"):
        written(model, recipe="own")
