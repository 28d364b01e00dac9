"""The value of each key that follows from a survey, and what was seen that led to it."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.datasets.subsets import split_cases
from pipeline.errors import PipelineError
from pipeline.settings import HEALTHY, Split
from pipeline.settings.section import SMALLEST_SIDE
from pipeline.tools.init.survey import Survey

USUAL, LARGEST = 224, 512  # pixels a side, as in the paper
STEP = 32  # of a side: its quarter can then be divided into patches of 8
SEEN_PIXELS = 16  # of the middle one of all slices with lesion, below which more pixels help
FEW_SLICES = 2000  # without lesion: one MAE for both ratios sees each of them more often
HU_STEP = 25  # of a window's ends
AIR = -1024  # HU, below which there is only padding
CALCIUM_WINDOW = (-200, 800)
LONGEST_NAME = 80  # of a data set, whose results have folders of that name
LARGE_SIDE = 448  # from here on batches are small, as the paper's are
# with a graphics card, and without
SIZED = {"preset": ("large", "tiny"), "length": ("200", "3000"), "width": ("64", "8")}
SIZED |= {"epochs": ("200", "40")}
WITH_MAPS = ("grcsf", "mrm_input")
EXPERIMENTS = ("unet", "unetpp", *WITH_MAPS)


@dataclass(frozen=True)
class Proposed:
    """A key's value as YAML, and what was seen that led to it."""

    key: str
    value: str
    why: str


Proposals = dict[str, Proposed]


def proposals(found: Survey) -> Proposals:
    """Every value by its name in the template."""
    gpus = int(torch.cuda.is_available())
    size, side = _size(found)
    told = [
        *_resources(gpus),
        *_source(found),
        ("plane", "plane", found.plane, _seen_planes(found)),
        ("size", "size", f"[{side}, {side}]", size),
        _scaling(found),
        _split(found),
        *_mae(found, gpus, side),
        *_networks(found, gpus, side),
        *_scores(found),
    ]
    return {name: Proposed(key, value, why) for name, key, value, why in told}


Told = tuple[str, str, str, str]  # name in the template, key, value, why


def calcium(found: Survey) -> bool:
    """Whether calcium is to be scored: in orCaScore alone."""
    return found.adapter == "orcascore"


def free_slices(found: Survey) -> int:
    """About how many slices without lesion there are in cases that train an MAE."""
    free = [each.slices - len(each.lesion_pixels) for each in found.sample if each.labelled]
    scans = sum(case.role == HEALTHY for case in found.cases)
    own = np.mean(free) * 0.64 * len(found.labelled)  # of 0.8 that do not test, 0.8 train
    return round(own + scans * np.mean([each.slices for each in found.sample]))


def dataset_name(found: Survey) -> str:
    """The folder's name, as far as a configuration takes it."""
    name = found.root.resolve().stem if found.root.is_file() else found.root.resolve().name
    return re.sub(r"[^A-Za-z0-9_+-]+", "-", name).strip("-_+")[:LONGEST_NAME] or "own"


def _resources(gpus: int) -> list[Told]:
    cores = os.cpu_count() or 2
    card = "a graphics card is there" if gpus else "no graphics card was found here"
    return [
        ("threads", "threads", str(min(8, cores)), f"this machine has {cores} cores"),
        ("gpus", "gpus", str(gpus), f"{card}; 1 where the jobs have one"),
    ]


def _source(found: Survey) -> list[Told]:
    cases, labelled = len(found.cases), len(found.labelled)
    scans = sum(case.role == HEALTHY for case in found.cases)
    counts = f"{labelled} cases with a label, {cases - labelled - scans} without"
    values = sorted({value for each in found.sample for value in each.values})
    why = f"{counts}, {scans} healthy scans; label values {', '.join(map(str, values))}"
    if len(values) > 1 and not (calcium(found) or found.foreground):
        why += " are all taken as lesion: give foreground where some are not"
    told = [("adapter", "adapter", found.adapter, why)]
    if not found.cases[0].modality and (modality := _modality(found)) in ("CT", "MR"):
        seen = _counted([f"{each.modality} by {each.told_by}" for each in found.sample])
        told.append(("modality", "modality", modality, seen))
    asked = {key: value for each in found.sample for key, value in each.asked.items()}
    for key, value in asked.items():
        in_need = sum(key in each.asked for each in found.sample)
        why = {
            "binarise": "labels that are no whole numbers",
            "channel": "an image of several volumes, of which this is the first",
            "tilted": "slices of a tilted gantry",
        }[key]
        told.append((key, key, json.dumps(value).strip('"'), f"{why}, in {in_need} of those read"))
    if found.adapter == "atlas" and "binarise" not in asked:
        told.append(("binarise", "binarise", "true", "some masks of ATLAS are not 0 and 1"))
    if found.foreground and "binarise" not in asked:
        named = "dataset.json names other values as no lesion"
        told.append(("foreground", "foreground", str(list(found.foreground)), named))
    if found.faults:
        faulty = len({fault.case for fault in found.faults})
        why = f"{faulty} of those read cannot be used, such as: {found.faults[0]}"
        told.append(("on_error", "on_error", "skip", why))
    return told


def _modality(found: Survey) -> str:
    return Counter(each.modality for each in found.sample).most_common(1)[0][0]


def _counted(seen: Sequence[str]) -> str:
    """The commonest, and in how many images."""
    what, count = Counter(seen).most_common(1)[0]
    return f"{what} in {count} of {len(seen)} images"


def _sides(seen: Sequence[tuple[float, ...]], unit: str) -> str:
    """Sides as most images have them, or the range where they differ."""
    texts = [" × ".join(f"{side:.3g}" for side in sides) for sides in seen]
    if max(Counter(texts).values()) * 2 > len(texts):
        return f"{_counted([f'{text} {unit}' for text in texts])}"
    every = sorted(side for sides in seen for side in sides)
    return f"{every[0]:.3g} to {every[-1]:.3g} {unit} in {len(seen)} images"


def _seen_planes(found: Survey) -> str:
    grids = [each.grid for each in found.sample]
    stored = _counted([f"{each.stored_as} slices" for each in found.sample])
    steps = _sides([grid.spacing[:1] for grid in grids], "mm")
    return f"stored as {stored}; apart by {steps}"


def _size(found: Survey) -> tuple[str, int]:
    """What was seen, and the side of the networks' square input."""
    grids = [each.grid for each in found.sample]
    steps = _sides([grid.spacing[1:] for grid in grids], "mm")
    shapes = _sides([grid.shape[1:] for grid in grids], "pixels")
    median = float(np.median([max(grid.shape[1:]) for grid in grids]))
    areas = [
        pixels / np.prod(each.grid.shape[1:])
        for each in found.sample
        for pixels in each.lesion_pixels
    ]
    area = float(np.median(areas))  # the share of a slice with lesion that is lesion
    fine = calcium(found) or area * min(USUAL, median) ** 2 < SEEN_PIXELS
    wanted = min(LARGEST if fine else USUAL, median)
    side = max(SMALLEST_SIDE, STEP * int(np.ceil(wanted / STEP)))
    seen = f"in-plane {steps}, {shapes}; the middle slice with lesion has then "
    return f"{seen}{area * side**2:.0f} pixels of it", side


def _scaling(found: Survey) -> Told:
    if _modality(found) != "CT":
        times = [
            high / level for level, high in (each.bright for each in found.sample) if level > 0
        ]
        seen = f"the brightest voxel has up to {max(times, default=1):.2g} times the 99.9 % value"
        return "scaling", "percentiles", "[0, 99.9]", f"no HU, so each image's own values; {seen}"
    if calcium(found):
        why = "HU from soft tissue to dense calcium, recommended for orCaScore"
        return "scaling", "window", str(list(CALCIUM_WINDOW)), why
    ends = np.array([each.around for each in found.sample if each.around])
    low = int(np.floor(np.quantile(ends[:, 0], 0.1) / HU_STEP)) * HU_STEP
    low = max(low, AIR)
    high = int(np.ceil(np.quantile(ends[:, 1], 0.9) / HU_STEP)) * HU_STEP
    why = "HU; in and around lesions 99 % of the voxels lie within, in nine of ten of the "
    why += f"{len(ends)} cases with lesion read"
    return "scaling", "window", f"[{low}, {max(high, low + HU_STEP)}]", why


def _split(found: Survey) -> Told:
    cases = {case.case: {"group": case.group, "role": case.role} for case in found.labelled}
    groups, named = found.groups, sum(found.groups.values())
    if any(case["role"] for case in cases.values()):
        return "by", "by", "case", "the data set's own roles say who trains, validates and tests"
    if len(groups) >= 2 and named == len(cases):
        try:
            said = _roles(cases, "group")
        except PipelineError:
            pass  # such as two groups, of which one holds nearly all cases
        else:
            sizes = f"{min(groups.values())} to {max(groups.values())} cases each"
            return "by", "by", "group", f"{len(groups)} groups, {sizes}, each on one side: {said}"
    seen = (
        f"{len(groups)} groups in {named} of {len(cases)} labelled cases" if groups else "no groups"
    )
    patients = "where a patient has several cases, group them by a CSV"
    return "by", "by", "case", f"{seen}; {patients}: {_roles(cases, 'case')}"


def _roles(cases: dict[str, dict[str, str]], by: str) -> str:
    parts = split_cases(cases, Split(by=by), 2026)[0]
    return ", ".join(f"{len(names)} {role}" for role, names in parts.items())


def _mae(found: Survey, gpus: int, side: int) -> list[Told]:
    image = min(side, USUAL)
    patch = 16 if image >= 160 else 8
    free = free_slices(found)
    ratios = "[0.5, 0.75]" if free < FEW_SLICES else "[0.5]"
    length = "epochs" if gpus else "steps"
    return [
        _sized("preset", "preset", gpus),
        ("image_size", "image_size", str(image), f"slices of {side}, {USUAL} at most as the paper"),
        ("patch_size", "patch_size", str(patch), f"{(image // patch) ** 2} patches a slice"),
        ("ratios", "train_mask_ratios", ratios, f"about {free} slices without lesion train it"),
        _sized("length", length, gpus),
    ]


def _networks(found: Survey, gpus: int, side: int) -> list[Told]:
    large = side >= LARGE_SIDE
    patches = (16, 16, 32) if large and _divide((16, 16, 32), side) else (8, 8, 16)
    scales = f"{side // 4}, {side // 2} and {side} pixels a side divide into them"
    loss = ("focal", "for orCaScore") if calcium(found) else ("mixed", "Dice and focal")
    varied = "flip: 0.5, rotate: 15, scale: 0.1, shift: 0.05"
    gamma, kept = ("", "; HU stay") if calcium(found) else (", gamma: 0.2", "")
    batch = ("2", "the paper's for 512 pixels") if large else ("21", "the paper's for 224 pixels")
    return [
        ("rcu", "rcu", f"{{patch_sizes: {list(patches)}, start: 0}}", scales),
        _sized("width", "width", gpus),
        ("loss", "loss", *loss),
        ("batch_size", "batch_size", *batch),
        _sized("epochs", "epochs", gpus),
        ("augment", "augment", f"{{{varied}{gamma}}}", f"recommended: varied slices{kept}"),
    ]


def _sized(name: str, key: str, gpus: int) -> Told:
    """A key that says how much is computed: the paper's with a card, and less without one."""
    on_card, on_cpu = SIZED[name]
    unit = " epochs" if key == "steps" else ""
    why = "the paper's" if gpus else f"for a CPU; the paper has {on_card}{unit}"
    return name, key, on_card if gpus else on_cpu, why


def _divide(patches: Sequence[int], side: int) -> bool:
    return all(side // scale % patch == 0 for patch, scale in zip(patches, (4, 2, 1), strict=True))


def _scores(found: Survey) -> Iterable[Told]:
    if calcium(found):
        yield "method", "method", "calcium", "orCaScore: above 130 HU, in 3D 6-connected components"
        yield "metrics", "metrics", "calcium", "orCaScore: lesions and volumes as well"
    else:
        yield "method", "method", "none", "masks as predicted; components drops small ones"
        yield "metrics", "metrics", "voxel", "Dice and the like per patient"
