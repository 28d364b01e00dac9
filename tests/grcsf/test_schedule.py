"""Learning rates of section 4.3, per epoch, against values computed by hand."""

import math

import pytest

from grcsf.schedule import plateau_reductions, step_decay, warmup_cosine


def test_rates_of_the_paper_s_mae_epoch_by_epoch():
    actual = [step_decay(epoch, 1e-3, 0.9, 50) for epoch in range(200)]
    assert actual == pytest.approx(50 * [1e-3] + 50 * [9e-4] + 50 * [8.1e-4] + 50 * [7.29e-4])


def test_warmup_rises_tenfold_in_five_epochs_and_falls_to_nothing():
    def rate(epoch):
        return warmup_cosine(epoch, 1e-4, warmup_epochs=5, factor=10, epochs=105)

    assert rate(0) == pytest.approx(1e-4)
    assert rate(1) == pytest.approx(1e-4 * (1 + 9 * (1 - math.cos(math.pi / 5)) / 2))
    assert rate(5) == pytest.approx(1e-3)
    assert rate(55) == pytest.approx(5e-4)
    assert rate(105) == pytest.approx(0)
    rates = [rate(epoch) for epoch in range(106)]
    assert rates[:6] == sorted(rates[:6])
    assert rates[5:] == sorted(rates[5:], reverse=True)


def test_rates_of_the_paper_s_schedule_epoch_by_epoch():
    # Up: 1e-4 · (1 + 9 · (1 − cos(36° · epoch)) / 2); cos 36° = 0.809017, cos 72° = 0.309017.
    up = [1.00000e-4, 1.85942e-4, 4.10942e-4, 6.89058e-4, 9.14058e-4]
    # Down, ten epochs: 1e-3 · (1 + cos(18° · k)) / 2; cos 18° = 0.951057, cos 54° = 0.587785.
    down = [1.00000e-3, 9.75528e-4, 9.04508e-4, 7.93893e-4, 6.54508e-4]
    down += [5.00000e-4, 3.45492e-4, 2.06107e-4, 9.54915e-5, 2.44717e-5]
    actual = [
        warmup_cosine(epoch, 1e-4, warmup_epochs=5, factor=10, epochs=15) for epoch in range(15)
    ]
    assert actual == pytest.approx([*up, *down], rel=1e-5)


def test_without_warmup_the_first_epoch_has_the_peak_rate():
    assert warmup_cosine(0, 1e-4, warmup_epochs=0, factor=1, epochs=10) == pytest.approx(1e-4)


def test_plateau_counts_runs_of_epochs_without_a_lower_loss():
    assert plateau_reductions([], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.95, 0.95], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.9, 0.95, 0.95], 5) == 1
    assert plateau_reductions([0.5] * 11, 5) == 2
    assert plateau_reductions([0.5] * 5 + [0.4] + [0.5] * 4, 5) == 0
