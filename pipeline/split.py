"""Stage `split`: who trains, who validates, who tests, in every subset (section 4.3, design 6).

`pipeline/datasets/subsets.py` decides; whoever changes its result raises `VERSION` here.
"""

from __future__ import annotations

import logging
from typing import Any

from pipeline.datasets.subsets import split_cases
from pipeline.settings import Split
from pipeline.storage.files import fingerprint, read_json, write_json
from pipeline.storage.layout import Layout

VERSION = 2
log = logging.getLogger(__name__)


def split(layout: Layout, settings: Split, seed: int) -> None:
    """Write `split.json`: the cases of every subset by role, achieved fractions, and a digest.

    Raises:
        PipelineError: there are too few cases or groups for the settings.
    """
    cases = read_json(layout.cases)["cases"]
    labelled = {name: case for name, case in cases.items() if case["labelled"]}
    subsets = split_cases(labelled, settings, seed)
    content: dict[str, Any] = {
        "subsets": {str(number): subset for number, subset in enumerate(subsets, start=1)},
        "unlabelled": sorted(set(cases) - set(labelled)),
        "fractions": {
            str(number): {
                role: len(names) / sum(map(len, subset.values())) for role, names in subset.items()
            }
            for number, subset in enumerate(subsets, start=1)
        },
        "outputs": [],
    }
    content["digest"] = fingerprint({"subsets": content["subsets"]})
    for number, subset in content["subsets"].items():
        counts = ", ".join(f"{len(names)} {role}" for role, names in subset.items())
        log.info("subset %s: %s", number, counts)
    write_json(layout.split, content)
