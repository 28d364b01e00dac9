"""Stage `split`: who trains, who validates, who tests, in every subset (section 4.3, design 6).

`pipeline/datasets/subsets.py` decides; whoever changes its result raises `VERSION` here.
"""

from __future__ import annotations

import logging

from pipeline.datasets.subsets import divided_cases
from pipeline.settings import HEALTHY, Split, external_set
from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.layout import Layout

VERSION = 2
log = logging.getLogger(__name__)


def split(layout: Layout, settings: Split, seed: int, *, applied: bool = False) -> None:
    """Write `split.json`: the cases of every subset by role, achieved fractions, and a digest.

    Cases of external data sets are in no subset; all subsets test those that have a reference.
    Where a trained model is `applied`, nobody is in any.

    Raises:
        PipelineError: there are too few cases or groups for the settings.
    """
    cases = read_json(layout.cases)["cases"]
    with_reference = {name: case for name, case in cases.items() if case["labelled"]}
    others = cases.keys() - with_reference.keys()
    external: dict[str, list[str]] = {}
    for name, case in sorted(with_reference.items()):
        if of := external_set(case["role"]):
            external.setdefault(of, []).append(name)
    labelled = {
        name: case for name, case in with_reference.items() if not external_set(case["role"])
    }
    roles = divided_cases(labelled, settings, seed, applied=applied)
    divided = enumerate(roles, start=1)
    subsets = {str(number): subset for number, subset in divided}
    fractions = {}
    for number, subset in subsets.items():
        counts = {role: len(names) for role, names in subset.items()}
        fractions[number] = {role: n / max(1, sum(counts.values())) for role, n in counts.items()}
        part = "fold" if settings.folds else "subset"
        log.info("%s %s: %s", part, number, ", ".join(f"{n} {role}" for role, n in counts.items()))
    content = {
        "subsets": subsets,
        **({"folds": settings.folds} if settings.folds else {}),
        **({"external": external} if external else {}),
        "unlabelled": sorted(name for name in others if cases[name]["role"] != HEALTHY),
        "fractions": fractions,
        "digest": fingerprint({"subsets": subsets}),
        "outputs": [],
    }
    write_json(layout.split, content)
