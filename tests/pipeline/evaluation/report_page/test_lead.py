"""The sentences at the top say what the comparison found, and no more."""

from math import nan

import pandas as pd
import pytest

from pipeline.evaluation.report_page.lead import lead
from pipeline.settings import Dataset

PLACES = {"a": "#case-1", "b": "#case-2", "<c>": "#case-3"}
DICE = {"grcsf": [0.9, 0.4, 0.8], "unet": [0.85, 0.5, 0.2], "spin": [0.6, 0.4, 0.35]}
TESTED = {
    "dice_difference": 0.183,
    "dice_difference_low": -0.02,
    "dice_difference_high": 0.41,
    "dice_p": 0.31,
    "dice_smallest_p": 0.01,
    "dice_differing": 3,
}


def sentences(dice, baseline="unet", repeats=1, **tested):
    """The lead of these Dice by method; all have been tested against the baseline."""
    unet, source = {"model": "unet", "repeats": repeats}, {"adapter": "manifest", "root": "r"}
    dataset = Dataset.model_validate(
        {
            "source": source,
            "slices": {"window": [0, 1]},
            "experiments": dict.fromkeys(dice, unet),
            "evaluation": {"baseline": baseline if baseline in dice else None},
        }
    )
    scores = {name: pd.DataFrame({"dice": values}, PLACES) for name, values in dice.items()}
    rows = []
    for name, frame in scores.items():
        mean = frame["dice"].mean()
        row = {"experiment": name, "patients": 3, "dice": None if mean != mean else mean}
        rows.append(row | {"dice_low": 0.1, "dice_high": 0.95})
        rows[-1] |= {} if name == baseline else TESTED | tested
    rows.append({"experiment": "HU threshold alone", "patients": 3, "dice": 0.99})
    return [str(line) for line in lead("heads", dataset, rows, scores, PLACES, 2)]


def test_three_sentences_say_what_was_compared_who_is_ahead_and_where_to_look():
    assert sentences(DICE) == [
        "grcsf, unet and spin were compared on 3 test patients of heads; 2 more without reference "
        "are shown.",
        "grcsf has the highest mean Dice, 0.700 against 0.517 of unet: +0.183 [-0.020, +0.410], "
        "p = 0.31, not told apart from chance among patients.",
        'Look first at <a href="#case-3">&lt;c&gt;</a>, where the Dice of these two differ most '
        '(grcsf 0.800, unet 0.200), and at <a href="#case-2">b</a>, with the lowest Dice of grcsf, '
        "0.400.",
    ]


def test_of_repeats_it_is_told_that_the_dice_of_a_case_is_the_first_s():
    assert sentences(DICE, repeats=2)[2] == (
        f"{sentences(DICE)[2].removesuffix('.')} (Dice of the first repeat, which is shown)."
    )


def test_where_the_baseline_leads_the_difference_is_turned_round():
    turned = {"unet": DICE["grcsf"], "grcsf": DICE["unet"]}
    tested = {"dice_difference": -0.183, "dice_difference_low": -0.41}
    ahead = sentences(turned, **tested, dice_difference_high=0.02)[1]
    assert ": +0.183 [-0.020, +0.410], p = 0.31" in ahead


@pytest.mark.parametrize(
    ("tested", "said"),
    [
        ({"dice_p": 0.004}, "p = 0.004, more than chance among patients easily makes."),
        (
            {"dice_smallest_p": 0.25, "dice_p": 0.25},
            "with 3 test patients that differ, no differen",
        ),
        (
            {"dice_smallest_p": 1.0, "dice_p": 1.0, "dice_differing": 1},
            "with 1 test patient that differs, no differen",
        ),
        ({"dice_p": nan}, "no patient has a Dice of both, so the difference cannot be tested."),
        ({"dice_difference_low": nan, "dice_difference_high": nan}, ": +0.183, p = 0.31"),
    ],
)
def test_certainty_is_that_of_the_test(tested, said):
    assert said in sentences(DICE, **tested)[1]


def test_a_second_that_was_not_tested_against_the_first_is_told():
    dice = {"grcsf": DICE["grcsf"], "spin": [0.9, 0.4, 0.7], "unet": DICE["unet"]}
    assert "of unet (spin, second with 0.667, is not tested against it): +0" in sentences(dice)[1]


@pytest.mark.parametrize(
    ("dice", "baseline", "said"),
    [
        (
            {"unet": [0.9, nan, 0.2]},
            "unet",
            "The mean Dice of unet is 0.550 [0.10, 0.95]; there is",
        ),
        ({"unet": [nan] * 3, "grcsf": [nan] * 3}, "unet", "No mean Dice is defined"),
        ({"unet": [0.5] * 3, "grcsf": [0.5] * 3}, "unet", "Nobody is ahead: unet and grcsf have"),
        ({"unet": [0.5] * 3, "grcsf": [0.6] * 3}, None, "so no difference is tested."),
    ],
)
def test_where_nothing_can_be_said_the_sentence_says_so(dice, baseline, said):
    assert said in sentences(dice, baseline)[1]


def test_the_worst_case_alone_is_named_where_no_other_method_differs():
    assert sentences({"unet": [0.9, nan, 0.2]})[2] == (
        'Look first at <a href="#case-3">&lt;c&gt;</a>, with the lowest Dice of unet, 0.200.'
    )
    assert 'Look first at <a href="#cases">' in sentences({"unet": [nan] * 3})[2]


def test_many_methods_are_counted():
    many = {f"m{number}": [0.1 * number] * 3 for number in range(8)}
    assert sentences(many, "m0")[0].startswith("8 methods were compared on 3 test patients")
