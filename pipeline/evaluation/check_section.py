"""What `grcsf check` found as HTML: a page of its own, and a section of the report."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from grcsf.lesions import SIZE_GROUPS, size_group
from pipeline.errors import Group, grouped
from pipeline.evaluation.check_record import CaseFacts, Check, read_check
from pipeline.storage.files import replacing
from pipeline.storage.layout import Layout
from pipeline.storage.volumes import Geometry

LISTED = 8  # names in one cell


def write_page(layout: Layout, found: Check) -> None:
    """Write `check.html`, in which everything is embedded."""
    page = templates().get_template("check.html.j2").render(check=check_content(found))
    with replacing(layout.check(".html")) as temporary:
        temporary.write_text(page, "utf-8")


def templates() -> jinja2.Environment:
    """The pages' templates; text is escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )


def check_content(found: Check) -> dict[str, Any]:
    """All that `check_section.html.j2` shows, pictures as base64."""
    return {
        "dataset": found.dataset,
        "counted": counted(found),
        "findings": [_row(one) for one in grouped(found.findings)],
        "summary": summary(found),
        "needs": needs(found),
        "pictures": [
            (one.case, base64.b64encode(grid_picture(*one.grids)).decode("ascii"))
            for one in found.cases
            if one.grids is not None
        ],
    }


def current_check(layout: Layout, cases: Mapping[str, Any]) -> Check | None:
    """The check of the very files that were ingested; None if it did not run on them.

    Args:
        layout: where its results lie.
        cases: of ingest's manifest.

    Raises:
        PipelineError: `check.json` is damaged.
    """
    found = read_check(layout)
    if found is None:
        return None
    seen = {one.case: one.fingerprint for one in found.cases}
    same = all(seen.get(name) == case["fingerprint"] for name, case in cases.items())
    return found if same else None


def _row(group: Group) -> dict[str, str]:
    one = group.finding
    return {
        "severity": one.severity,
        "cases": listed(group.cases),
        "found": one.found,
        "expected": one.expected,
        "remedy": one.remedy,
        "files": listed(group.files),
    }


def listed(names: list[str], most: int = LISTED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Lines = list[tuple[str, str]]

ROLE_NAMES = {
    "train": "training",
    "validation": "validation",
    "test": "test",
    "unlabelled": "unlabelled",
    "": "left to the split",
}
SHOWN_GROUPS = 12
SIZE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def counted(found: Check) -> str:
    """`2 errors, 1 warning, 0 notes`."""
    return ", ".join(
        f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in found.counts.items()
    )


def summary(found: Check) -> Lines:
    """The data set of the usable cases; ranges are smallest, median, largest."""
    usable = found.usable
    labelled = [one for one in usable if one.labelled]
    lesioned = [one for one in labelled if one.lesions]
    return [
        ("cases", f"{len(found.cases)}, of which {len(usable)} can be used"),
        ("roles", _counts(ROLE_NAMES[one.role] for one in usable) or "–"),
        ("with reference", f"{len(labelled)}, {len(labelled) - len(lesioned)} without lesion"),
        *_groups(usable),
        *_grids(usable),
        *(
            (f"intensity, {name}", _range(one.quantiles[name] for one in usable if one.quantiles))
            for name in ("low", "median", "high")
        ),
        ("empty slices a case", _range(one.empty_slices for one in usable)),
        ("slices with lesion a case", _range(one.lesion_slices for one in lesioned)),
        ("lesions a case", _range(one.lesions for one in lesioned)),
        ("lesion voxels a case", _range(one.lesion_voxels for one in lesioned)),
        ("lesion ml a case", _range(one.lesion_ml for one in lesioned)),
        *_lesion_sizes(lesioned),
    ]


def needs(found: Check) -> Lines:
    """What the run will need."""
    disk = [(f"disk, {name}", _size(size)) for name, size in found.disk.items()]
    total = f"{_size(sum(found.disk.values()))}; {_size(found.free)} are free"
    memory = [(f"memory, {name}", _size(size)) for name, size in found.memory.items()]
    return [*disk, ("disk, together", total), *memory] if found.disk else []


def _groups(cases: Sequence[CaseFacts]) -> Lines:
    groups = Counter(one.group for one in cases if one.group)
    if not groups:
        return []
    listed = ", ".join(f"{name} {count}" for name, count in groups.most_common(SHOWN_GROUPS))
    more = f" and {len(groups) - SHOWN_GROUPS} more" if len(groups) > SHOWN_GROUPS else ""
    return [("groups", f"{len(groups)}: {listed}{more}")]


def _grids(cases: Sequence[CaseFacts]) -> Lines:
    lines = []
    for axis, name in enumerate("zyx"):
        lines.append((f"voxels in {name}", _range(one.shape[axis] for one in cases if one.shape)))
        steps = [one.spacing[axis] for one in cases if one.spacing]
        lines.append((f"spacing in {name}, mm", _range(steps)))
    return lines


def _lesion_sizes(cases: Sequence[CaseFacts]) -> Lines:
    """Sizes of all single lesions together, and how many lesions and cases each class holds."""
    voxels = [size for one in cases for size in one.each_lesion_voxels]
    if not voxels:
        return []
    volumes = [size for one in cases for size in one.each_lesion_mm3]
    levels = ", ".join(f"{100 * level:g}" for level in SIZE_QUANTILES)
    whole = [one.lesion_voxels for one in cases if one.lesion_voxels]
    return [
        (f"a lesion's voxels, {levels} %", _quantiles(voxels)),
        (f"a lesion's mm³, {levels} %", _quantiles(volumes)),
        ("lesions by voxels", _classes(voxels)),
        ("cases by lesion voxels (Fig. 9)", _classes(whole)),
    ]


def _classes(sizes: Iterable[int]) -> str:
    held = Counter(map(size_group, sizes))
    return "; ".join(f"{name.replace('-', '–')}: {held[name]}" for name in SIZE_GROUPS)


def _quantiles(values: Sequence[float]) -> str:
    return " – ".join(map(_number, np.quantile(values, SIZE_QUANTILES).tolist()))


def _counts(names: Iterable[str]) -> str:
    held = Counter(names)
    return ", ".join(f"{held[name]} {name}" for name in ROLE_NAMES.values() if held[name])


def _range(values: Iterable[float | int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, middle, high = map(_number, (min(known), float(np.median(known)), max(known)))
    return low if low == high else f"{low} – {middle} – {high}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.3g} GB" if count >= 1e9 else f"{count / 1e6:,.3g} MB"


COLOURS = {"image": "#0b5c8a", "label": "#d1495b"}
# what a plane shows of z, y, x: across and upwards
PLANES = {"from the front": (2, 0), "from the side": (1, 0), "from above": (2, 1)}


def grid_picture(image: Geometry, label: Geometry) -> bytes:
    """PNG of both grids' boxes in mm, seen along the patient's three axes.

    The first voxel of each is marked, so that flips show as well.
    """
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    for panel, (title, (across, up)) in zip(figure.subplots(1, 3), PLANES.items(), strict=True):
        for (name, colour), grid in zip(COLOURS.items(), (image, label), strict=True):
            corners = box_corners(grid)
            for start, end in box_edges():
                line = corners[[start, end]]
                panel.plot(line[:, across], line[:, up], color=colour, linewidth=1.4, alpha=0.8)
            panel.plot(*corners[0][[across, up]], "o", color=colour, markersize=5, label=name)
        panel.set_title(title, fontsize=9)
        panel.set_xlabel(f"{'zyx'[across]}, mm", fontsize=8)
        panel.set_ylabel(f"{'zyx'[up]}, mm", fontsize=8)
        panel.tick_params(labelsize=7)
        panel.set_aspect("equal", adjustable="datalim")
    figure.legend(*panel.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def box_corners(grid: Geometry) -> npt.NDArray[np.float64]:
    """Positions (8, 3) in mm (z, y, x) of a grid's corner voxels; the first is its first voxel."""
    last = np.array(grid.shape) - 1
    indices = np.array(list(product((0, 1), repeat=3))) * last
    direction = np.array(grid.direction).reshape(3, 3)
    corners: npt.NDArray[np.float64] = (
        np.array(grid.origin) + (indices * np.array(grid.spacing)) @ direction.T
    )
    return corners


def box_edges() -> list[tuple[int, int]]:
    """The twelve pairs of corners that an edge joins."""
    return [
        (first, second)
        for first, second in product(range(8), repeat=2)
        if first < second and (first ^ second).bit_count() == 1
    ]
