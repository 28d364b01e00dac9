"""Hypothesis for every test of the method."""

from hypothesis import settings

# A shared machine may stall any example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
