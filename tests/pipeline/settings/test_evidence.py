"""What the configurations of `make evidence` promise: fair comparisons, and nothing that leaks."""

from pathlib import Path

import pytest

from pipeline.datasets.subsets import labelled_part, split_cases
from pipeline.settings.reading import load_settings

CONFIG = Path(__file__).resolve().parents[3] / "config"
METHODS = ("unetpp", "mrm_input", "paper", "recommended")
COHORTS, CASES = 24, 264  # as the Makefile has them made


@pytest.fixture(scope="module")
def settings():
    return load_settings(CONFIG / "evidence-strokes.yaml")


@pytest.fixture(scope="module")
def strokes(settings):
    return settings.datasets["strokes"]


@pytest.fixture(scope="module")
def subset(settings, strokes):
    """The split, which depends on names alone: case n is of cohort 1 + n modulo 24."""
    cases = {
        f"sub-r{1 + number % COHORTS:03}s{1 + number // COHORTS:03}": {
            "group": f"R{1 + number % COHORTS:03}",
            "role": "",
        }
        for number in range(CASES)
    }
    (subset,) = split_cases(cases, strokes.split, settings.seed)
    return subset


def cohorts(cases):
    return {f"R{case[5:8]}" for case in cases}


def test_no_healthy_head_is_of_a_tested_cohort_and_none_of_another_is_missing(strokes, subset):
    tested = cohorts(subset["test"])
    healthy = {Path(folder).name for folder in strokes.source.healthy}
    assert len(tested) == 10
    assert healthy == {f"R{number:03}" for number in range(1, COHORTS + 1)} - tested
    assert not tested & cohorts(subset["train"] + subset["validation"])


def test_fewer_labelled_cases_are_among_more_and_each_method_has_the_same(
    settings, strokes, subset
):
    before = {"train": [], "validation": []}
    for number, name in ((20, "20"), (60, "60"), (None, "all")):
        parts = [
            labelled_part(subset, method, strokes.experiments[f"{method}_{name}"], settings.seed)
            for method in METHODS
        ]
        assert all(part == parts[0] for part in parts)
        used = len(parts[0]["train"]) + len(parts[0]["validation"])
        assert used == (number or CASES - len(subset["test"]))
        assert all(set(before[role]) < set(parts[0][role]) for role in before)
        before = {role: parts[0][role] for role in before}
    assert {name.rpartition("_")[2] for name in strokes.experiments} == {"20", "60", "all"}


@pytest.mark.parametrize("name", ["strokes", "nodules"])
def test_methods_differ_in_their_maps_and_units_alone(name):
    dataset = load_settings(CONFIG / f"evidence-{name}.yaml").datasets[name]
    groups = {}
    for key, experiment in dataset.experiments.items():
        method = next(method for method in METHODS if key.startswith(method))
        groups.setdefault(key.removeprefix(method), {})[method] = experiment
    for same in groups.values():
        assert set(same) == set(METHODS)
        shared = [
            (one.training, one.width, one.repeats, one.labelled_cases) for one in same.values()
        ]
        assert all(one == shared[0] for one in shared)
        assert [same[method].residuals for method in METHODS] == [
            None,
            "recommended",
            "paper",
            "recommended",
        ]
        assert (same["paper"].gcu.start, same["paper"].rcu.start) == (1, 1)
        assert (same["recommended"].gcu.start, same["recommended"].rcu.start) == (0, 0)
        assert same["mrm_input"].residual_input
    assert [dataset.residuals[key].signed for key in ("paper", "recommended")] == [False, True]
    paper, recommended = dataset.mae["paper"], dataset.mae["recommended"]
    assert (paper.steps, paper.batch_size) == (recommended.steps, recommended.batch_size)


def test_nodules_are_each_tested_once():
    split = load_settings(CONFIG / "evidence-nodules.yaml").datasets["nodules"].split
    assert (split.by, split.folds) == ("case", 5)
