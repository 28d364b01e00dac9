"""What an experiment's keys make of its network."""

import pytest

from grcsf.contributions import unit_factors
from pipeline.networks.build import build_network
from pipeline.settings import Experiment
from tests.pipeline.results import GRCSF, SLICES


@pytest.mark.parametrize(("gcu", "rcu"), [(0, 1), (1, 0)])
def test_each_kind_of_units_starts_where_its_key_says(gcu, rcu):
    patches = GRCSF.rcu.model_dump() | {"start": rcu}
    starts = {"gcu": {"levels": [1], "start": gcu}, "rcu": patches}
    chosen = Experiment.model_validate({**GRCSF.model_dump(), **starts})
    factors = unit_factors(build_network(chosen, 2, SLICES))
    # R has a factor only where it starts at nothing
    assert {name: float(factors[name]) for name in factors if name.startswith("gcu")} == (
        {} if gcu else {"gcu_1_a": 0}
    )
    weights = {float(factors[name]) for name in factors if name.startswith("rcu")}
    assert weights == {rcu}
