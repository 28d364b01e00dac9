"""The recommended configurations are the paper's but for what evidence supports."""

from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).parents[3] / "config"
DEVIATIONS = {
    "experiments.training.channels_last",
    "mae.recipe",
    "mae.augment",
    "mae.decay",
    "mae.decay_epochs",
    "residuals.preset",
    "residuals.difference",
    "experiments.gcu",
    "experiments.rcu.start",
    "experiments.training.augment",
}


def differing(left, right, above=()):
    """Keys of two nested mappings that differ, each as the names above it and its own."""
    if not (isinstance(left, dict) and isinstance(right, dict)):
        return set() if left == right else {above}
    names = left.keys() | right.keys()
    parts = (differing(left.get(name), right.get(name), (*above, name)) for name in names)
    return set().union(*parts)


@pytest.mark.parametrize("name", ["atlas", "lung", "orcascore"])
def test_a_recommended_configuration_differs_from_the_paper_s_in_these_keys_alone(name):
    """Of the methods of Table 1 it has UNet++ and GRCSF."""
    paper, recommended = (
        yaml.safe_load((CONFIG / f"{stem}.yaml").read_text("utf-8"))
        for stem in (name, f"recommended-{name}")
    )
    methods = paper["datasets"][name]["experiments"]
    paper["datasets"][name]["experiments"] = {key: methods[key] for key in ("unetpp", "grcsf")}
    del paper["datasets"][name]["tables"]
    keys = differing(paper, recommended)
    assert {path[:2] for path in keys} == {("datasets", name)}
    assert {".".join((path[2], *path[4:])) for path in keys} == DEVIATIONS
