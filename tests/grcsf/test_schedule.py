"""Learning rates of section 4.3, per epoch, against values computed by hand."""

import math

import pytest

from grcsf.schedule import plateau_reductions, step_decay, warmup_cosine


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 1e-3), (49, 1e-3), (50, 9e-4), (99, 9e-4), (100, 8.1e-4), (199, 7.29e-4)],
)
def test_mae_rate_falls_by_a_tenth_every_fifty_epochs(epoch, rate):
    assert step_decay(epoch, 1e-3, 0.9, 50) == pytest.approx(rate)


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


def test_without_warmup_the_first_epoch_has_the_peak_rate():
    assert warmup_cosine(0, 1e-4, warmup_epochs=0, factor=1, epochs=10) == pytest.approx(1e-4)


def test_plateau_counts_runs_of_epochs_without_a_lower_loss():
    assert plateau_reductions([], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.95, 0.95], 5) == 0
    assert plateau_reductions([1.0, 0.9, 0.95, 0.95, 0.9, 0.95, 0.95], 5) == 1
    assert plateau_reductions([0.5] * 11, 5) == 2
    assert plateau_reductions([0.5] * 5 + [0.4] + [0.5] * 4, 5) == 0
