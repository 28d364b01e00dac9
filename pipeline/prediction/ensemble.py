"""Ensembles: the mean of what several networks have predicted, and how far they disagree.

Nothing is predicted anew: the networks' own probability stores are read, a slice at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pipeline.errors import PipelineError
from pipeline.prediction.predictor import Predictor, Probability
from pipeline.storage.batches import read_parts
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import Store, open_store, read_part, stored_array

Member: TypeAlias = tuple[str, int]
"""A training by its name, such as `grcsf/repeat-2`, and the subset whose cases it learned from."""
Probabilities = npt.NDArray[np.float64]  # (members, y, x), of one slice


def ensemble_predictor(
    layout: Layout,
    name: str,
    members: Sequence[Member],
    tested: Sequence[str],
    further: Sequence[str],
    *,
    uncertainty: bool,
) -> Predictor:
    """The members' mean for all `tested` cases, and those of the `further` ones that all have.

    Raises:
        PipelineError: a member has not predicted a tested case.
    """
    predicted = {member: read_parts(layout.predictions(*member)) for member in members}
    remedy = f"which {name} averages; run predict of that experiment again"
    if lacking := [
        f"case {case}: no prediction in {layout.predictions(*member)}, {remedy}"
        for member, cases in predicted.items()
        for case in tested
        if case not in cases
    ]:
        raise PipelineError(*lacking)
    shared = [case for case in further if all(case in cases for cases in predicted.values())]

    def key(case: str, _: Store) -> dict[str, Any]:
        # in any order: it changes no mean
        fingerprints = sorted(cases[case] for cases in predicted.values())
        return {"ensemble": fingerprints, **({"uncertainty": "deviation"} if uncertainty else {})}

    def mean(case: str, _: Store) -> Probability:
        return _slice_by_slice(layout, members, case, mean_probability)

    def deviation(case: str, _: Store) -> Probability:
        return _slice_by_slice(layout, members, case, disagreement)

    def attributes() -> dict[str, Any]:
        # given predictions have no model
        models = [path for path in (layout.model(*member) for member in members) if path.exists()]
        counts = [count for path in models if (count := read_json(path).get("parameters"))]
        return {"parameters": sum(counts)} if counts else {}

    asked = deviation if uncertainty else None
    return Predictor([*tested, *shared], key, mean, attributes, uncertainty=asked)


def mean_probability(probabilities: Probabilities) -> Probabilities:
    """The mean over the members: (members, y, x) in [0, 1] → (y, x) in [0, 1].

    Stored probabilities are float16, whose sum is exact in float64: their order changes no bit.
    """
    mean: Probabilities = probabilities.mean(axis=0)
    return mean


def disagreement(probabilities: Probabilities) -> Probabilities:
    """The members' standard deviation: (members, y, x) in [0, 1] → (y, x) in [0, 0.5].

    It is that of the members themselves (divided by their number), so 0.5 where one half of them
    is sure of a lesion, and the other half of none.
    """
    deviation: Probabilities = probabilities.std(axis=0)
    return deviation


def _slice_by_slice(
    layout: Layout,
    members: Sequence[Member],
    case: str,
    combine: Callable[[Probabilities], Probabilities],
) -> Probability:
    stores = [open_store(layout.prediction_store(*member, case)) for member in members]
    arrays = [stored_array(store, "probability") for store in stores]
    combined = np.zeros(arrays[0].shape, np.float16)
    for z in range(len(combined)):
        combined[z] = combine(
            np.stack([read_part(array, z) for array in arrays]).astype(np.float64)
        )
    return combined
