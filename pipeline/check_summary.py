"""What `grcsf check` found, in lines of two columns: (what, how much)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from grcsf.lesions import SIZE_GROUPS, size_group
from pipeline.check_record import CaseFacts, Check

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
