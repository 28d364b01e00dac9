"""What a residual map is worth and costs, by how slices are masked.

docs/explanation/residuals.md shows its figures.

Run as `python benchmarks/masking.py CONFIG:DATASET:RESULTS … [--seeds 5] [--output DIR]` on results
whose MAEs are trained, such as `config/demo.yaml:heart:results`. Slices with lesion of the cases
that no MAE has learnt from are reconstructed under every scheme with every seed, at both ratios.
A scheme's worth is the area under the ROC curve of its map, lesion against surroundings; its
spread, the standard deviation from seed to seed as a share of the mean residual; its cost, the
multiplications of its passes. `masking.json`, `masking.md` and `masking.png` are written.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import torch
from keeping import RESULTS, keep
from torch import Tensor

from grcsf.complexity import true_macs
from grcsf.contrast import lesion_contrast
from grcsf.mae.build import MaskedModel
from grcsf.mae.masking import slice_masks, tissue_masks
from grcsf.resampling import resize
from grcsf.residuals import average_passes, residual_map, tissue_patches
from grcsf.statistics import bootstrap_interval
from pipeline.networks.build import masked_models
from pipeline.settings import Dataset, Residuals
from pipeline.settings.reading import load_settings
from pipeline.storage.files import read_json
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.slices import network_slices
from pipeline.storage.zarr_store import open_store, read_array

RATIOS = (0.5, 0.75)
MOST = 10
SETTLED = (0.2, 0.1, 0.05)
# by name: masks, what a visible patch gives, passes at 50 % and at 75 %
SETS = {
    "paper: random, paste, 5 + 5": ("random paste", 5, 5),
    "random, mask-aware, 5 + 5": ("random mask-aware", 5, 5),
    "random, mask-aware, 2 + 2": ("random mask-aware", 2, 2),
    "stratified, paste, 2 + 4": ("stratified paste", 2, 4),
    "fast: stratified, mask-aware, 2 + 4": ("stratified mask-aware", 2, 4),
    "stratified, mask-aware, 2 + 3": ("stratified mask-aware", 2, 3),
    "stratified, mask-aware, 2 + 2": ("stratified mask-aware", 2, 2),
    "stratified, mask-aware, 4 + 4": ("stratified mask-aware", 4, 4),
    "tissue only, mask-aware, 2 + 4": ("tissue mask-aware", 2, 4),
    "tissue: tissue only, mask-aware, 2 + 2": ("tissue mask-aware", 2, 2),
    "settled to 20 %, random, paste": ("settled 0.2", 0, 0),
    "settled to 10 %, random, paste": ("settled 0.1", 0, 0),
    "settled to 5 %, random, paste": ("settled 0.05", 0, 0),
}
PAPER = next(iter(SETS))
LINES = ("random paste", "random mask-aware", "stratified mask-aware", "tissue mask-aware")


@dataclass
class Found:
    """Of one scheme with so many passes at one ratio, in one case: an entry for every seed."""

    maps: list[npt.NDArray[np.float32]] = field(default_factory=list)  # (z, h, w)
    macs: list[float] = field(default_factory=list)  # a slice
    never: list[float] = field(default_factory=list)  # share of patches in no pass


Key = tuple[str, int]  # scheme, passes


def main() -> None:
    """Measure, and write what docs/explanation/residuals.md shows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("trees", nargs="+", metavar="CONFIG:DATASET:RESULTS")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--slices", type=int, default=6, help="with lesion, of a case at most")
    options = parser.parse_args()
    measured = {}
    for tree in options.trees:
        measured[tree.split(":")[1]] = measure(tree, options.seeds, options.slices)
    keep("masking", measured)
    table = "\n".join(f"## {name}\n\n{table_of(found)}\n" for name, found in measured.items())
    (RESULTS / "masking.md").write_text(table, "utf-8")
    draw(measured, RESULTS / "masking.png")
    print(table)


def trained_models(tree: str) -> tuple[Layout, Dataset, dict[float, MaskedModel]]:
    """Where `CONFIG:DATASET:RESULTS` lies, its settings, and the MAE of each mask ratio."""
    config, name, results = tree.split(":")
    dataset = load_settings(Path(config)).datasets[name]
    layout = Layout(Path(results), name)
    residuals = next(one for one in dataset.residuals.values() if isinstance(one, Residuals))
    models = masked_models(layout, dataset.mae)
    return layout, dataset, {one.mask_ratio: models[one.mae] for one in residuals.maps}


def measure(tree: str, seeds: int, most_slices: int) -> dict[str, dict[str, list[float]]]:
    """By `<scheme>/<passes>@<ratio>` and name, a value for each case."""
    layout, dataset, by_ratio = trained_models(tree)
    figures: dict[str, dict[str, list[float]]] = {}
    for case, images, lesion in lesion_slices(layout, dataset, most_slices):
        for ratio in RATIOS:
            model = by_ratio[ratio]
            found: dict[Key, Found] = {}
            for seed in range(seeds):
                reconstruct(found, model, images, case, ratio, seed)
            for (scheme, passes), one in found.items():
                maps = np.stack(one.maps)  # (S, z, h, w)
                row = figures.setdefault(f"{scheme}/{passes}@{ratio}", {})
                values = {
                    "auc": float(np.mean([lesion_contrast(each, lesion) for each in maps])),
                    "spread": float(maps.std(axis=0, ddof=1).mean() / maps.mean()),
                    "macs": float(np.mean(one.macs)),
                    "never": float(np.mean(one.never)),
                }
                for name, value in values.items():
                    row.setdefault(name, []).append(value)
        print(f"{layout.dataset}: {case}", flush=True)
    return figures


def lesion_slices(
    layout: Layout, dataset: Dataset, most: int
) -> Iterator[tuple[str, Tensor, npt.NDArray[np.bool_]]]:
    """Cases that no MAE has learnt from: (z, 1, h, w) in [0, 1] and the lesion (z, h, w)."""
    subsets = read_json(layout.split)["subsets"].values()
    held_out = {
        case for roles in subsets for name in ("validation", "test") for case in roles[name]
    }
    for case in sorted(held_out):
        store = open_store(layout.case_store(case))
        label = read_array(store, "label") > 0
        planes = np.flatnonzero(label.any(axis=(1, 2)))
        if not planes.size:
            continue
        planes = planes[np.unique(np.linspace(0, len(planes) - 1, most).round().astype(int))]
        limits = intensity_range(store.attrs, dataset.slices)
        image = read_array(store, "image")[planes]
        size = dataset.slices.size
        rows, columns = (
            ((np.arange(here) + 0.5) * there / here).astype(int)
            for here, there in zip(size, label.shape[1:], strict=True)
        )
        lesion = label[planes][:, rows][:, :, columns]
        if lesion.any():
            yield case, network_slices(image, limits, size), lesion


@torch.inference_mode()
def reconstruct(
    found: dict[Key, Found], model: MaskedModel, images: Tensor, case: str, ratio: float, seed: int
) -> None:
    """Add every scheme's maps of one case's slices under one seed."""
    made: dict[Key, list[tuple[Tensor, float, float]]] = {}
    side = (model.image_size, model.image_size)
    height, width = images.shape[-2:]
    for z, image in enumerate(images):
        small = resize(image[None], side, clamp=True)
        patches = model.patchify(small)  # (1, L, v)
        tissue = tissue_patches(model, image[None])[0]  # (L,)
        for scheme, masks, shown in schemes(tissue, case, z, ratio, seed):
            predicted = model.predict_passes(small, masks[None])  # (K, L, v)
            cost = macs_of_a_pass(model, int((~masks[0]).sum()))
            for visible, label in (("paste", "paste"), ("ignore", "mask-aware")):
                maps = []
                for passes in range(1, len(masks) + 1):
                    counted = (masks & shown)[None, :passes]
                    mean = average_passes(
                        predicted[None, :passes], patches, counted, visible=visible
                    )
                    rebuilt = model.unpatchify(mean).clamp(0, 1)
                    one = resize(residual_map(small, rebuilt, "abs"), (height, width), clamp=True)[
                        0, 0
                    ]
                    never = float((~counted[0].any(dim=0))[shown].float().mean())
                    maps.append((one, passes * cost, never))
                    made.setdefault((f"{scheme} {label}", passes), []).append(maps[-1])
                if scheme == "random" and visible == "paste":
                    for tolerance in SETTLED:
                        made.setdefault((f"settled {tolerance}", 0), []).append(
                            settled(maps, tolerance)
                        )
    for key, slices in made.items():
        one = found.setdefault(key, Found())
        one.maps.append(torch.stack([shown for shown, _, _ in slices]).numpy())
        one.macs.append(float(np.mean([cost for _, cost, _ in slices])))
        one.never.append(float(np.mean([share for _, _, share in slices])))


def schemes(
    tissue: Tensor, case: str, z: int, ratio: float, seed: int
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, masks (K, L) and patches (L,) that count, of every way to mask one slice."""
    given = {"seed": seed, "case": case, "slice_index": z, "mask_ratio": ratio, "passes": MOST}
    for scheme in ("random", "stratified"):
        # the first k rows are what k passes would draw
        masks = slice_masks(**given, patches=len(tissue), scheme=scheme)
        yield scheme, torch.from_numpy(masks), torch.ones_like(tissue)
    yield "tissue", torch.from_numpy(tissue_masks(tissue.numpy(), **given)), tissue


def settled(
    maps: list[tuple[Tensor, float, float]], tolerance: float
) -> tuple[Tensor, float, float]:
    """The first map that the pass before has changed by less than a share of its mean."""
    for (before, _, _), now in pairwise(maps):
        if float((now[0] - before).abs().mean() / now[0].mean().clamp(min=1e-9)) < tolerance:
            return now
    return maps[-1]


@cache
def macs_of_a_pass(model: MaskedModel, visible: int) -> int:
    """Multiplications of one slice's pass that leaves so many patches visible."""
    masks = torch.ones(1, model.num_patches, dtype=torch.bool)
    masks[:, :visible] = False
    weights = model.patch_embed.proj.weight
    image = torch.zeros(1, 1, model.image_size, model.image_size, device=weights.device)
    with torch.inference_mode(False):
        return true_macs(model, image.to(weights.dtype), masks)


def chosen(
    found: Mapping[str, Mapping[str, list[float]]], scheme: str, passes: tuple[int, int], name: str
) -> npt.NDArray[np.float64]:
    """A figure of a set of two maps, a value for each case: their mean, or the sum of costs."""
    both = [
        np.array(found[f"{scheme}/{count}@{ratio}"][name])
        for count, ratio in zip(passes, RATIOS, strict=True)
    ]
    total: npt.NDArray[np.float64] = np.sum(both, axis=0)
    return total if name == "macs" else total / 2


def table_of(found: Mapping[str, Mapping[str, list[float]]]) -> str:
    """Every set of two maps against the paper's, in Markdown."""
    lines = ["| masks | AUC | AUC − paper's | spread | never masked | cost |", "|---" * 6 + "|"]
    scheme, *passes = SETS[PAPER]
    ours = {name: chosen(found, scheme, (passes[0], passes[1]), name) for name in ("auc", "macs")}
    for name, (scheme, first, second) in SETS.items():
        pair = (first, second)
        auc = chosen(found, scheme, pair, "auc")
        cells = [f"{np.nanmean(auc):.3f}"]
        if name == PAPER:
            cells.append("")
        else:
            difference = auc - ours["auc"]
            low, high = bootstrap_interval(difference.tolist(), seed=0)
            cells.append(f"{np.nanmean(difference):+.3f} [{low:+.3f}, {high:+.3f}]")
        cells.append(f"{np.mean(chosen(found, scheme, pair, 'spread')):.3f}")
        cells.append(f"{np.mean(chosen(found, scheme, pair, 'never')):.1%}")
        cells.append(f"{np.mean(chosen(found, scheme, pair, 'macs') / ours['macs']):.2f}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(measured: Mapping[str, Mapping[str, Mapping[str, list[float]]]], path: Path) -> None:
    """AUC and spread against the number of passes at each ratio, a column for each data set."""
    figure, axes = plt.subplots(
        2, len(measured), figsize=(3.2 * len(measured) + 1, 6), sharex=True, squeeze=False
    )
    for column, (dataset, found) in enumerate(measured.items()):
        for row, (name, title) in enumerate((("auc", "lesion AUC"), ("spread", "spread"))):
            axis = axes[row, column]
            for scheme in LINES:
                # one pass has no spread to show but its own
                counts = range(1, MOST + 1)
                values = [np.nanmean(chosen(found, scheme, (k, k), name)) for k in counts]
                cost = [np.mean(chosen(found, scheme, (k, k), "macs")) for k in counts]
                paper = np.mean(chosen(found, "random paste", (5, 5), "macs"))
                axis.plot(np.array(cost) / paper, values, marker="o", markersize=3, label=scheme)
            axis.axvline(1, color="0.8", linewidth=1, zorder=0)
            axis.set_title(f"{dataset}: {title}", fontsize=9)
            if row:
                axis.set_xlabel("cost, the paper's 5 + 5 passes = 1", fontsize=8)
    axes[0, 0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    main()
