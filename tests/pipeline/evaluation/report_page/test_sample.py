"""Of very many cases, the report shows those that tell most."""

import pandas as pd
import pytest

from pipeline.evaluation.report_page import sample
from pipeline.evaluation.report_page.sample import chosen, sampled

NAN = float("nan")


@pytest.fixture
def scores(monkeypatch):
    """Two experiments over ten cases; two cases of each kind are chosen."""
    monkeypatch.setattr(sample, "CHOSEN", 2 * 2 * sample.WAYS)
    monkeypatch.setattr(sample, "SHOWN_AT_MOST", 9)
    cases = [f"c{number}" for number in range(10)]
    first = pd.DataFrame({"dice": [0, 0, 0, 0.1, 0.4, 0.5, 0.6, 0.8, 0.9, NAN]}, index=cases)
    first["recall"] = [0, 0, 0, 0.1, 0.4, 0.5, 0.6, 0.8, 0.9, NAN]
    first["reference_voxels"] = [5, 9, 7, 9, 9, 9, 9, 9, 9, 0]
    second = first.assign(dice=[0, 0, 0, 0.1, 0.4, 0.5, 0.6, 0.1, 0.9, NAN])
    return {"a": first, "b": second}


def test_lowest_middle_highest_missed_and_differing_cases_are_chosen(scores, monkeypatch):
    monkeypatch.setattr(sample, "CHOSEN", 2 * sample.WAYS)
    one = {"a": scores["a"]}
    # two lowest in the order of rows, two in the middle, two highest, two largest missed lesions
    assert chosen(one) == {"c0", "c1", "c3", "c4", "c7", "c8", "c2"}
    assert "c7" in chosen(scores)  # where the two differ most, though it is no end of the second
    assert chosen(scores) == chosen(dict(scores))


def test_all_are_shown_up_to_the_limit_and_above_it_some_in_their_order(scores):
    cases = list(scores["a"].index)
    assert sampled(cases[:9], scores, scores) == cases[:9]
    few = sampled([*reversed(cases), "x", "y"], scores, scores)
    assert few[-2:] == ["x", "y"]  # without reference
    assert few[:-2] == [case for case in reversed(cases) if case in chosen(scores)]
    assert "c9" not in few  # whose Dice is undefined
