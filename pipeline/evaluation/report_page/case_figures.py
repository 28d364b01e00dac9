"""The figures of the cases: in the main page, or where that grows too large, on a page for each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from markupsafe import Markup

from pipeline.evaluation.colours import BRIGHTER, DARKER, REFERENCE
from pipeline.evaluation.pages import rendered
from pipeline.evaluation.report_page.slices import ShownCase
from pipeline.storage.files import remove, replacing, write

LARGEST_MB = 14.0  # of all figures in one page, which shall stay below 15 with all else in it


@dataclass(frozen=True)
class CaseFigure:
    """A case as it is drawn: its slices, the words beside them, and the place of its own page."""

    shown: ShownCase
    number: int  # from 1, in the order of the page
    caption: str
    colours: Mapping[str, str]  # experiment → that of its outline
    page: str = ""  # its own page as the main page links it; "" if it has none
    command: str = ""  # that shows it in three planes; "" where nothing says how


def case_figures(cases: Iterable[CaseFigure], folder: Path, title: str) -> list[Markup]:
    """The figures for the main page: with all slices, or with one and a link to a page with all.

    Where even one slice of each case is too large, it is the link alone. Pages are written into
    `folder`, which lies beside the main page and is replaced whole, so that none of a case that is
    gone stays; there is no folder where all slices are in the main page.
    """
    whole: list[Markup] = []
    single: list[Markup] = []
    bare: list[Markup] = []
    waiting: list[tuple[CaseFigure, Markup]] = []
    size = 0
    with replacing(folder) as fresh:
        fresh.mkdir()
        for case in cases:
            drawn = _figure(case)
            size += len(drawn)
            waiting.append((case, drawn))
            linked = replace(case, page=f"{folder.name}/{quote(page_name(case))}")
            single.append(_figure(_with_one_slice(linked)))
            bare.append(_figure(_without_slices(linked)))
            if size > LARGEST_MB * 1e6:
                _write_pages(fresh, waiting, title)
                waiting.clear()
        whole = [drawn for _, drawn in waiting]
    if size > LARGEST_MB * 1e6:
        return single if sum(map(len, single)) <= LARGEST_MB * 1e6 else bare
    remove(folder)
    return whole


def page_name(case: CaseFigure) -> str:
    """The file name of a case's own page."""
    return f"{case.shown.case}.html"


def _write_pages(folder: Path, cases: Iterable[tuple[CaseFigure, Markup]], title: str) -> None:
    for case, figure in cases:
        content = {"title": title, "figure": figure, "case": case}
        write(folder / page_name(case), rendered("case.html.j2", content))


def _with_one_slice(case: CaseFigure) -> CaseFigure:
    first = case.shown.slices[case.shown.first]
    return replace(case, shown=replace(case.shown, slices=[first], first=0))


def _without_slices(case: CaseFigure) -> CaseFigure:
    return replace(case, shown=replace(case.shown, slices=[], first=0))


def _figure(case: CaseFigure) -> Markup:
    mapped = case.shown.signed and case.shown.titles
    directions = {"darker than foreseen": DARKER, "brighter than foreseen": BRIGHTER}
    content = {"case": case, "reference": REFERENCE, "directions": directions if mapped else {}}
    return Markup(rendered("figure.html.j2", content))
