"""What stage `predict` has to know of a way of predicting: a network's, SAM's, and others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import Finding
from pipeline.storage.zarr_store import Store

Probability = npt.NDArray[np.float16]  # (z, y, x) in [0, 1], on the grid of the case's store


def nothing() -> dict[str, Any]:
    """No further attributes."""
    return {}


@dataclass(frozen=True)
class Predictor:
    """One way of predicting the cases of one subset."""

    cases: Sequence[str]
    # what a case's prediction depends on, beside the stage's version and the case's geometry
    key: Callable[[str, Store], Mapping[str, Any]]
    probability: Callable[[str, Store], Probability]
    # of each store that is written; what predicts is loaded at the first call
    attributes: Callable[[], Mapping[str, Any]] = nothing
    # of a case's store: what was noted about its maps, which may be deleted later
    of_case: Callable[[str], Mapping[str, Any]] = lambda _: {}
    # those found before any case; None where a case's fault concerns all others, and ends the stage
    faults: Sequence[Finding] | None = None
    # (z, y, x) in [0, 0.5], how far the networks of an ensemble disagree; None where unasked
    uncertainty: Callable[[str, Store], Probability] | None = None
