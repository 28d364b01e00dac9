"""A small valid configuration, and copies of it with one key changed."""

import copy

import pytest

from pipeline.settings import Settings, stage_settings

MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
GIVEN = {
    "datasets": {
        "brain": {
            "source": {"adapter": "atlas", "root": "somewhere"},
            "slices": {"size": [64, 64], "percentiles": [0, 99.9]},
            "mae": {"shared": {"preset": "tiny"}},
            "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
            "experiments": {"u": {"model": "unetpp"}, "g": {"model": "grcsf", "residuals": "mrm"}},
        }
    }
}


@pytest.fixture
def changed():
    """changed({path: value, …}): the configuration with these values below `datasets.brain`."""

    def build(values=()):
        given = copy.deepcopy(GIVEN)
        for path, value in dict(values).items():
            *way, last = path.split(".")
            place = given["datasets"]["brain"]
            for key in way:
                place = place.setdefault(key, {})
            place[last] = value
        return given

    return build


@pytest.fixture
def part():
    """part(configuration, stage, name): what the stage's result depends on."""

    def settings_of(given, stage, name=""):
        return stage_settings(Settings.model_validate(given), stage, "brain", name)

    return settings_of
