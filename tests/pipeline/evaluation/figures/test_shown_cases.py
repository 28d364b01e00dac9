"""Which cases figures show where nobody chooses."""

import pandas as pd
import pytest

from pipeline.evaluation.figures.shown_cases import (
    DIVIDED,
    TYPICAL,
    cases_by_rule,
    dividing_case,
    typical_case,
)


def scores(**dice):
    index = pd.Index(["a", "b", "c", "d"], name="case")
    return {name: pd.DataFrame({"dice": values}, index=index) for name, values in dice.items()}


def test_the_typical_case_and_of_the_others_the_one_that_divides_the_methods():
    both = scores(unet=[0.1, 0.9, 0.5, 0.0], grcsf=[0.2, 0.8, 0.9, 0.4])
    # means are 0.15, 0.85, 0.7 and 0.2; the differences 0.1, 0.1, 0.4 and 0.4
    assert typical_case(both) == "c"
    assert cases_by_rule(both) == [("c", None, TYPICAL), ("d", None, DIVIDED)]


@pytest.mark.parametrize("other", ["one method", "one case"])
def test_nothing_divides_a_single_method_or_case(other):
    if other == "one method":
        alone = scores(unet=[0.1, 0.9, 0.5, 0.0])
    else:
        alone = {name: rows.loc[["b"]] for name, rows in scores(u=[0] * 4, g=[1] * 4).items()}
    assert dividing_case(alone) is None
    assert len(cases_by_rule(alone)) == 1
