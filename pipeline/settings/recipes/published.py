"""Published trainings, as the keys that a `recipe` fills in where they are not given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grcsf.models.peer_sizes import PEERS
from pipeline.settings.section import require
from pipeline.settings.training import ONLY_WITH, Training

MASKED: dict[str, dict[str, Any]] = {
    "paper": {},
    "mae": {
        "optimizer": "adamw",
        "betas": (0.9, 0.95),
        "schedule": "cosine",
        "warmup": 0.05,
        "clip": 1.0,
    },
}
WEIGHT_DECAY = 0.05
STOCHASTIC = {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 1e-4, "schedule": "polynomial"}
OWN: dict[str, dict[str, Any]] = {
    "swin_unet": {
        **STOCHASTIC,
        "loss": "dice_cross_entropy",
        "dice_weight": 0.6,
        "learning_rate": 0.05,
        "warmup_epochs": 0,
        "batch_size": 24,
        "epochs": 150,
    },
    "trans_unet": {
        **STOCHASTIC,
        "loss": "dice_cross_entropy",
        "dice_weight": 0.5,
        "learning_rate": 0.01,
        "warmup_epochs": 0,
        "batch_size": 24,
        "epochs": 150,
    },
    "spin": {
        "loss": "cross_entropy",
        "positive_weight": 1.5,
        "normalise": "dataset",
        "slice_per_case": 0.95,
        "learning_rate": 3e-4,
        "schedule": "constant",
        "later_rates": ((400, 1e-4), (1400, 5e-5)),
        "restart_moments": True,
        "batch_size": 8,
        "epochs": 1600,
    },
    "trans_fuse": {
        "loss": "structure",
        "normalise": "imagenet",
        "betas": (0.5, 0.999),
        "clip": 2.0,
        "learning_rate": 7e-5,
        "schedule": "constant",
        "batch_size": 16,
        "epochs": 25,
    },
    "ut_net": {
        **STOCHASTIC,
        "loss": "tversky_cross_entropy",
        "auxiliary": True,
        "learning_rate": 0.05,
        "warmup_epochs": 5,
        "batch_size": 32,
        "epochs": 150,
    },
}
"""What `recipe: own` fills in: the training that a method's authors published it with."""


def own_training(model: object, training: Any) -> Any:
    """The keys of a training with those of the method's own recipe where none are given.

    What is given wins. As the recipe's epochs are all trained, and its warm-up and later rates are
    for them, these follow `epochs`.

    Raises:
        ValueError: the model has no recipe of its own.
    """
    if isinstance(training, Training):
        training = {key: getattr(training, key) for key in training.model_fields_set}
    if not isinstance(training, Mapping) or training.get("recipe") != "own":
        return training
    found = f"training.recipe: found 'own' with model {model!r}"
    require(
        isinstance(model, str) and model in OWN,
        f"{found}, expected paper; a recipe of their own have {', '.join(OWN)}",
    )
    filled = {**OWN[str(model)], **training}
    epochs = filled["epochs"]
    if isinstance(epochs, int) and epochs >= 1:
        filled.setdefault("patience", epochs)
        if "warmup_epochs" in filled and "warmup_epochs" not in training:
            filled["warmup_epochs"] = min(filled["warmup_epochs"], epochs - 1)
        if "later_rates" in filled and "later_rates" not in training:
            rates = tuple(step for step in filled["later_rates"] if step[0] < epochs)
            filled["later_rates"] = rates or None
    # a key that was replaced takes those along that are for it alone
    return {
        key: value
        for key, value in filled.items()
        if key in training or key not in ONLY_WITH or _fits(key, filled)
    }


def _fits(key: str, training: Mapping[str, Any]) -> bool:
    """Whether a key is for the value of the one that decides."""
    decides, values, _ = ONLY_WITH[key]
    return training.get(decides, Training.model_fields[decides].default) in values


def training_fault(model: str, training: Training) -> str:
    """What is wrong with these keys of a training for this model; "" if nothing is."""
    if training.auxiliary and model != "ut_net":
        return f"auxiliary: found true with model {model!r}, expected false; ut_net has such heads"
    found = f"normalise: found {training.normalise!r} with model {model!r}"
    if training.normalise and model == "mae_unet":
        return f"{found}, expected nothing: its encoder sees slices as its MAE saw them"
    coloured = [name for name, sizes in PEERS.items() if sizes.colours]
    if training.normalise == "imagenet" and model not in coloured:
        shown = f"slices are shown in three colours to {', '.join(coloured)} alone"
        return f"{found}, expected 'dataset' or nothing: {shown}"
    return ""
