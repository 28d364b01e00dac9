"""Who trains, validates and tests, by the manifests of ingest and split."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pipeline.errors import PipelineError
from pipeline.storage.files import json_entries, read_json
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import Store, open_store


def labelled_test_cases(layout: Layout, subsets: Sequence[int]) -> list[tuple[int, str]]:
    """(subset, case) of each test case with a reference, in the order of the split."""
    split = read_json(layout.split)["subsets"]
    tested = [(number, case) for number in subsets for case in split[str(number)]["test"]]
    wanted = {case for _, case in tested}
    labelled = {
        case: entry["labelled"]
        for case, entry in json_entries(layout.cases, "cases")
        if case in wanted
    }
    return [(number, case) for number, case in tested if labelled[case]]


def external_cases(layout: Layout) -> dict[str, list[str]]:
    """The cases with reference of every external data set; all subsets test them."""
    external: dict[str, list[str]] = read_json(layout.split).get("external", {})
    return external


def external_test_cases(layout: Layout, subsets: Sequence[int]) -> list[tuple[int, str]]:
    """(subset, case) of each external case with a reference, subset by subset."""
    cases = [case for own in external_cases(layout).values() for case in own]
    return [(number, case) for number in subsets for case in cases]


def cases_of_other_subsets(layout: Layout, subsets: Sequence[int]) -> set[str]:
    """The cases that train, validate or test in other subsets of the split alone."""
    split = read_json(layout.split)["subsets"]

    def cases_of(chosen: bool) -> set[str]:
        parts = (roles for number, roles in split.items() if (int(number) in subsets) is chosen)
        return {case for roles in parts for cases in roles.values() for case in cases}

    return cases_of(False) - cases_of(True)  # folds have their cases in common


def subset_of_cases(layout: Layout, subsets: Sequence[int]) -> dict[str, int]:
    """Every case of these subsets with its subset; the first has unlabelled and external ones."""
    split = read_json(layout.split)
    external = [case for _, case in external_test_cases(layout, subsets[:1])]
    chosen = dict.fromkeys([*split["unlabelled"], *external], subsets[0])
    for number in subsets:
        for cases in split["subsets"][str(number)].values():
            chosen |= dict.fromkeys(cases, number)
    return dict(sorted(chosen.items()))


def has_folds(layout: Layout) -> bool:
    """Whether the subsets of the split are folds, of which each tests other cases."""
    return "folds" in read_json(layout.split)


def subset_that_tests(layout: Layout, case: str) -> int | None:
    """The subset that tests a case; None where none does."""
    divided = read_json(layout.split)["subsets"] if layout.split.exists() else {}
    return next((int(number) for number, roles in divided.items() if case in roles["test"]), None)


def check_nobody_trains(layout: Layout) -> None:
    """Refuse the results of a study, whose networks and cases those of an applied model replace.

    Raises:
        PipelineError: its split has cases that train.
    """
    divided = read_json(layout.split).get("subsets", {}) if layout.split.exists() else {}
    if any(roles.get("train") for roles in divided.values()):
        found = f"found the results of a study in {layout.root / layout.dataset}"
        expected = "expected a folder without it for those of an applied model"
        raise PipelineError(f"results: {found}, {expected}; give another `results`")


def ingested_store(layout: Layout, case: str) -> Store:
    """The case store of a case that a person named.

    Raises:
        PipelineError: there is no such case, or its store cannot be used.
    """
    check_ingested(layout, case)
    return open_store(layout.case_store(case))


def check_ingested(layout: Layout, case: str) -> None:
    """Refuse a case that a person named and that is not there; the error has the nearest name."""
    known = list(read_json(layout.cases)["cases"])
    if case not in known:
        near = difflib.get_close_matches(case, known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise PipelineError(
            f"case {case}: not among the {len(known)} ingested cases; {hint}see {layout.cases}"
        )
