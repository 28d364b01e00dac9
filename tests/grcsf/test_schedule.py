"""Learning rates, per epoch and per step, against values computed by hand."""

import pytest

from grcsf.schedule import (
    constant,
    cosine_to_zero,
    linear_warmup,
    plateau_reductions,
    polynomial,
    step_decay,
    warmup_cosine,
)


def test_rates_of_the_paper_s_mae_epoch_by_epoch():
    actual = [step_decay(epoch, 1e-3, 0.9, 50) for epoch in range(200)]
    assert actual == pytest.approx(50 * [1e-3] + 50 * [9e-4] + 50 * [8.1e-4] + 50 * [7.29e-4])


def test_rates_of_the_paper_s_schedule_epoch_by_epoch():
    # Up: 1e-4 · (1 + 9 · (1 − cos(36° · epoch)) / 2); cos 36° = 0.809017, cos 72° = 0.309017.
    up = [1.00000e-4, 1.85942e-4, 4.10942e-4, 6.89058e-4, 9.14058e-4]
    # Down, ten epochs: 1e-3 · (1 + cos(18° · k)) / 2; cos 18° = 0.951057, cos 54° = 0.587785.
    down = [1.00000e-3, 9.75528e-4, 9.04508e-4, 7.93893e-4, 6.54508e-4]
    down += [5.00000e-4, 3.45492e-4, 2.06107e-4, 9.54915e-5, 2.44717e-5]
    options = {"warmup_epochs": 5, "factor": 10, "epochs": 15}
    actual = [warmup_cosine(epoch, 1e-4, **options) for epoch in range(16)]
    assert actual == pytest.approx([*up, *down, 0], rel=1e-5)
    # without warmup the first epoch has the peak rate
    assert warmup_cosine(0, 1e-4, warmup_epochs=0, factor=1, epochs=10) == pytest.approx(1e-4)


def test_a_polynomial_falls_to_0_and_may_rise_exponentially_before():
    # 0.9 · ln 0.5 = −0.623832, so 0.5^0.9 = 0.535887; 0.25^0.9 = 0.287175
    actual = [polynomial(epoch, 2.0, warmup_epochs=0, epochs=4) for epoch in (0, 2, 3)]
    assert actual == pytest.approx([2.0, 1.071773, 0.574349], rel=1e-5)
    # e^−10 and e^−5 of the rate, then the polynomial as if it had been there all along
    actual = [polynomial(epoch, 1.0, warmup_epochs=2, epochs=4) for epoch in (0, 1, 2)]
    assert actual == pytest.approx([4.539993e-5, 6.737947e-3, 0.535887], rel=1e-5)


def test_a_constant_rate_is_replaced_by_later_ones_from_their_epochs_on():
    later = ((2, 1e-4), (4, 5e-5))
    assert [constant(epoch, 3e-4, later) for epoch in range(5)] == [3e-4, 3e-4, 1e-4, 1e-4, 5e-5]
    assert constant(99, 3e-4) == 3e-4


def test_plateau_counts_runs_of_epochs_without_a_lower_loss():
    assert plateau_reductions([], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.95, 0.95], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.9, 0.95, 0.95], 5) == 1
    assert plateau_reductions([0.5] * 11, 5) == 2
    assert plateau_reductions([0.5] * 5 + [0.4] + [0.5] * 4, 5) == 0


def test_a_warm_up_rises_by_equal_parts_and_a_cosine_falls_from_its_end_to_0():
    assert [linear_warmup(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert linear_warmup(0, 0) == 1, "without a warm-up the first step has the whole rate"
    # 0.1 · (1 + cos(45° · k)) / 2 over four steps after two; cos 45° = 0.707107
    rates = [cosine_to_zero(step, 0.1, warmup_steps=2, steps=6) for step in range(7)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.0853553, 0.05, 0.0146447, 0], abs=1e-7)
