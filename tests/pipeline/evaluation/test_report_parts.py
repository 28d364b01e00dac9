"""Smaller tables of the report: that of units, with its line for a unit that stayed at nothing."""

from math import nan

from pipeline.evaluation.report_parts import data_summary, group_table, unit_table
from pipeline.settings import Dataset

PLAIN = {"epoch": 0.0, "train_loss": 1.0, "validation_loss": 1.0}
HISTORY = [
    {**PLAIN, "gcu_0": nan, "gcu_0_a": nan, "rcu_2": nan, "rcu_2_w1": nan, "rcu_2_w2": nan},
    {**PLAIN, "gcu_0": 0.25, "gcu_0_a": 0.5, "rcu_2": 0.001, "rcu_2_w1": 0.1, "rcu_2_w2": 0},
    {**PLAIN, "gcu_0": 0.75, "gcu_0_a": 1.5, "rcu_2": 0.009, "rcu_2_w1": 0.2, "rcu_2_w2": 0},
    {**PLAIN, "gcu_0": 0.5, "gcu_0_a": 1.0, "rcu_2": 0.002, "rcu_2_w1": 0.3, "rcu_2_w2": -0.01},
]


def test_each_unit_has_a_row_and_one_below_a_hundredth_in_all_epochs_a_note():
    table = unit_table({"unet": {"subset 1": [PLAIN]}, "g": {"subset 1": HISTORY}})
    assert table.rows == [
        ["g, subset 1", "GCU at full scale", "25.0%", "75.0%", "50.0%", "a 1"],
        ["g, subset 1", "RCU at 1/4", "0.1%", "0.9%", "0.2%", "W1 0.3, W2 -0.01"],
    ]
    (note,) = table.notes
    assert note == (
        "g, subset 1: the RCU at 1/4 stayed at nothing: in 3 epochs it changed its features by "
        "0.90% of their norm at most, under 1%."
    )


def test_trainings_without_units_make_no_table():
    assert unit_table({"unet": {"": [PLAIN]}, "old": {"": HISTORY[:1]}}) is None


def test_healthy_scans_are_counted_apart():
    source = {"adapter": "manifest", "root": "unused"}
    unet = {"unet": {"model": "unet"}}
    slices = {"window": [0, 1]}
    dataset = Dataset.model_validate({"source": source, "slices": slices, "experiments": unet})
    cases = {
        name: {"group": "G", "role": role, "labelled": name == "a"}
        for name, role in {"a": "", "b": "unlabelled", "c": "healthy", "d": "healthy"}.items()
    }
    told = data_summary(dataset, cases, 0)
    assert told.startswith("4 cases: 1 with a reference, 1 without, 2 healthy that only auto")
    split = {"subsets": {"1": {"train": ["a"], "validation": [], "test": []}}}
    assert group_table(split, cases).rows == [["G", "1", "0", "0", "1"]]
