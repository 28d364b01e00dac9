"""A check in words: its findings counted, the data set, and the disk that a run needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from grcsf.lesions import SIZE_GROUPS, size_group
from pipeline.planning.sizes import size_text
from pipeline.settings import HEALTHY
from pipeline.tools.check.record import CaseFacts, Check, Quantiles

LISTED = 8  # names in one cell
Lines = list[tuple[str, str]]

ROLE_NAMES = {"train": "training", "validation": "validation", "test": "test"}
ROLE_NAMES |= {"unlabelled": "unlabelled", HEALTHY: HEALTHY, "": "left to the split"}
SHOWN_GROUPS = 12
SIZE_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def listed(names: list[str], most: int = LISTED) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def counted(check: Check) -> str:
    """`2 errors, 1 warning, 0 notes`."""
    return ", ".join(
        f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in check.counts.items()
    )


def summary(check: Check) -> Lines:
    """The data set of the usable cases; ranges are smallest, median, largest."""
    usable = check.usable
    labelled = [case for case in usable if case.labelled]
    lesioned = [case for case in labelled if case.lesions]
    quantiles = [case.quantiles for case in usable if case.quantiles]
    intensities = {
        name: [each[place] for each in quantiles] for place, name in enumerate(Quantiles._fields)
    }
    return [
        ("cases", f"{len(check.cases)}, of which {len(usable)} can be used"),
        (
            "roles",
            _counts(ROLE_NAMES.get(case.role, case.role.replace("/", " ")) for case in usable)
            or "–",
        ),
        ("with reference", f"{len(labelled)}, {len(labelled) - len(lesioned)} without lesion"),
        *_groups(usable),
        *_grids(usable),
        *((f"intensity, {name}", _range(values)) for name, values in intensities.items()),
        ("empty slices a case", _range(case.empty_slices for case in usable)),
        ("slices with lesion a case", _range(case.lesion_slices for case in lesioned)),
        ("lesions a case", _range(case.lesions for case in lesioned)),
        ("lesion voxels a case", _range(case.lesion_voxels for case in lesioned)),
        ("lesion ml a case", _range(case.lesion_ml for case in lesioned)),
        *_lesion_sizes(lesioned),
    ]


def needs(check: Check) -> Lines:
    """The disk that a run needs, by kind of result."""
    if not check.disk:
        return []
    disk = [(f"disk, {kind}", size_text(size)) for kind, size in check.disk.items()]
    total = f"{size_text(sum(check.disk.values()))}; {size_text(check.free)} are free"
    return [*disk, ("disk, together", total)]


def _groups(cases: Sequence[CaseFacts]) -> Lines:
    groups = Counter(case.group for case in cases if case.group)
    if not groups:
        return []
    sizes = [f"{name} {count}" for name, count in groups.most_common()]
    return [("groups", f"{len(groups)}: {listed(sizes, SHOWN_GROUPS)}")]


def _grids(cases: Sequence[CaseFacts]) -> Lines:
    lines = []
    for axis, name in enumerate("zyx"):
        voxels = _range(case.shape[axis] for case in cases if case.shape)
        steps = _range(case.spacing[axis] for case in cases if case.spacing)
        lines += [(f"voxels in {name}", voxels), (f"spacing in {name}, mm", steps)]
    return lines


def _lesion_sizes(cases: Sequence[CaseFacts]) -> Lines:
    """Sizes of all single lesions together, and how many lesions and cases each class holds."""
    voxels = [size for case in cases for size in case.each_lesion_voxels]
    if not voxels:
        return []
    volumes = [size for case in cases for size in case.each_lesion_mm3]
    levels = ", ".join(f"{100 * level:g}" for level in SIZE_QUANTILES)
    whole = [case.lesion_voxels for case in cases if case.lesion_voxels]
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
    others = sorted(held.keys() - set(ROLE_NAMES.values()))  # external data sets
    return ", ".join(
        f"{held[name]} {name}" for name in (*ROLE_NAMES.values(), *others) if held[name]
    )


def _range(values: Iterable[float | int | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    low, middle, high = map(_number, (min(known), float(np.median(known)), max(known)))
    return low if low == high else f"{low} – {middle} – {high}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
