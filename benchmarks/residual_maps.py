"""Residual maps, faster: ratios to the equations' plain loop, and what each variant deviates.

Run as `python benchmarks/residual_maps.py [--preset large] [--slices 4] [--trained …]`. The plain
loop reconstructs one slice under one mask at a time in float32, the paper's 5 + 5 random masks. All
variants run in turns in one process, on evenly spread slices of a head phantom in ATLAS's geometry,
or of `--image`, and random weights, so that a ratio compares runs of the same minute; the table
gives the median ratio and its range. Deviations are those of a map's values, as shares of the mean
residual; with `--trained CONFIG:DATASET:RESULTS` they are of the trained MAEs and lesion slices
found there. Beside it stands the device's own rate on large matrices, in each precision, and how
much of it the passes reach.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from keeping import keep, processor
from masking import lesion_slices, macs_of_a_pass, trained_models
from rates import peak_macs, timed
from scipy import stats
from torch import Tensor
from torch._dynamo.utils import counters
from torch._inductor.utils import fresh_cache
from variants import (
    COMPILED,
    LOOP,
    LOWERED,
    RATIOS,
    SCHEMES,
    SKIPPING,
    Variant,
    both_ways,
    build_variants,
    masks_of,
    random_model,
    shown_slices,
)

from grcsf.mae.build import MaskedModel
from grcsf.mae.model import PRESETS
from grcsf.mae.precision import Precision
from grcsf.residuals import BACKGROUND
from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.slices import network_slices


def main() -> None:
    """Measure, print and keep."""
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    images = spread_slices(options.image, options.slices).to(device)
    model = random_model(options.preset).to(device)
    variants = build_variants([model, model], device)
    middle = images[len(images) // 2 :][:2]
    compiling = seconds_of_compiling(variants, middle, device)
    deviations = {name: deviation(variants, middle, name) for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in both_ways(variants)}
    for _ in range(options.repeats):
        for name, run in both_ways(variants).items():
            seconds[name].append(timed(partial(run, images), device, wall=True) / len(images))
    filled = int(torch.count_nonzero(shown_slices(images)))
    print(f"MAE {options.preset}, 224 × 224, {len(images)} slices of which {filled} not empty")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"{name}, {torch.get_num_threads()} threads, {options.repeats} repeats\n")
    print_seconds(seconds)
    if compiling is not None:
        graphs = counters["stats"]["unique_graphs"]
        print(
            f"\ncompiling the layers took {compiling:.1f} s, for {graphs} graphs in the whole run"
        )
    figures: dict[str, Any] = {"preset": options.preset, "seconds": seconds, "compiling": compiling}
    print("\ndeviation from the plain loop, random weights")
    print_deviations(deviations)
    figures["deviations"] = {"random weights": deviations}
    for tree in options.trained:
        found = trained_deviations(tree)
        print(f"\ndeviation from the plain loop, {tree.split(':')[1]}'s trained MAEs")
        print_deviations(found)
        figures["deviations"][tree.split(":")[1]] = found
    figures["roofline"] = roofline(model, images, seconds, device)
    keep("residual_maps", figures)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=list(PRESETS), default="large")
    parser.add_argument("--image", type=Path, help="a volume in place of the head phantom")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--trained", nargs="*", default=[], metavar="CONFIG:DATASET:RESULTS")
    return parser.parse_args()


def spread_slices(path: Path | None, count: int) -> Tensor:
    """Evenly spread slices of a volume, or a head in ATLAS's geometry: (count, 1, 224, 224)."""
    with tempfile.TemporaryDirectory() as folder:
        if path is None:
            write_phantom("head", Path(folder), cases=1, seed=1)
            (path,) = Path(folder).rglob("*_T1w.nii.gz")
        image = read_volume(path).array
    planes = np.linspace(0, len(image) - 1, count + 2).round().astype(int)[1:-1]
    top = float(np.quantile(image, 0.999))
    return network_slices(image[planes], (float(image.min()), top), (224, 224))


def seconds_of_compiling(
    variants: dict[str, Variant], images: Tensor, device: torch.device
) -> float | None:
    """What the first run of compiled layers takes longer than the second; None without any."""
    if COMPILED not in variants:
        return None
    variants[LOWERED](images)  # wakes the device's libraries, which is no compiling
    run = partial(variants[COMPILED], images)
    with fresh_cache():
        first, second = (timed(run, device, wall=True) for _ in range(2))
    return first - second


def deviation(variants: dict[str, Variant], images: Tensor, name: str) -> dict[str, float] | None:
    """How far a variant's maps are from the plain loop's; None where the masks are others."""
    if any(scheme in name for scheme in SCHEMES if scheme != "5 + 5"):
        return None
    expected, found = variants[LOOP](images).cpu(), variants[name](images).cpu()
    difference = (found - expected).abs()
    tissue = (images.cpu() > BACKGROUND).expand_as(expected)
    return {
        "max": float(difference.max()),
        "share": float(difference.mean() / expected.mean()),
        "rank": rank_correlation(expected, found),
        "rank in tissue": rank_correlation(expected[tissue], found[tissue]),
    }


def rank_correlation(expected: Tensor, found: Tensor) -> float:
    """Spearman's, over all pixels."""
    return float(stats.spearmanr(expected.flatten().numpy(), found.flatten().numpy()).statistic)


def trained_deviations(tree: str) -> dict[str, dict[str, float] | None]:
    """`deviation` of every variant on a data set's lesion slices, with its own MAEs."""
    layout, dataset, by_ratio = trained_models(tree)
    variants = build_variants([by_ratio[ratio] for ratio in RATIOS], torch.device("cpu"))
    images = torch.cat([shown for _, shown, _ in lesion_slices(layout, dataset, 1)])[:16]
    return {name: deviation(variants, images, name) for name in variants}


def print_seconds(seconds: dict[str, list[float]]) -> None:
    """Seconds a slice and the ratio to the plain loop, paired by repeat."""
    print(f"{'variant':<52}{'s/slice':>9}{'times faster (min–max)':>26}")
    for variant, taken in seconds.items():
        ratios = [loop / own for loop, own in zip(seconds[LOOP], taken, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"{variant:<52}{median(taken):>9.3f}{spread:>26}")


def print_deviations(found: dict[str, dict[str, float] | None]) -> None:
    """Largest deviation, mean one as a share of the mean residual, rank correlations."""
    print(f"{'variant':<32}{'max':>8}{'mean / mean residual':>22}{'rank':>9}{'in tissue':>11}")
    for name, one in found.items():
        if one is not None:
            ranks = f"{one['rank']:>9.5f}{one['rank in tissue']:>11.5f}"
            print(f"{name:<32}{one['max']:>8.1e}{one['share']:>22.2%}{ranks}")


def roofline(
    model: MaskedModel, images: Tensor, seconds: dict[str, list[float]], device: torch.device
) -> dict[str, Any]:
    """Multiply-accumulates counted, the device's rate on large matrices, and the share reached."""
    named = {name: precision_of(name) for name in seconds if SKIPPING not in name}
    peaks = {
        precision: peak_macs(device, precision, wall=True) for precision in set(named.values())
    }
    macs = {scheme: macs_of_a_slice(model, scheme, images) for scheme in SCHEMES}
    print("\nlarge matrices, G MACs/s: ", end="")
    print(", ".join(f"{name} {rate / 1e9:,.0f}" for name, rate in sorted(peaks.items())))
    print(f"{'variant':<44}{'G MACs a slice':>16}{'G MACs/s':>11}{'of its peak':>13}")
    reached = {}
    for name, precision in named.items():
        scheme = next((scheme for scheme in SCHEMES if name.endswith(scheme)), "5 + 5")
        rate = macs[scheme] / median(seconds[name])
        reached[name] = rate / peaks[precision]
        figures = f"{macs[scheme] / 1e9:>16,.0f}{rate / 1e9:>11,.0f}{reached[name]:>13.0%}"
        print(f"{name:<44}{figures}")
    return {"macs": macs, "peaks": peaks, "reached": reached}


def precision_of(variant: str) -> Precision:
    """The lowest precision in which a variant multiplies."""
    names: tuple[Precision, ...] = ("int8", "bf16", "fp32")
    return next(name for name in names if name in variant)


def macs_of_a_slice(model: MaskedModel, scheme: str, images: Tensor) -> float:
    """Multiply-accumulates of a scheme's passes, in the mean over the slices."""
    visible = [
        int(count)
        for drawn in masks_of(scheme, [model, model], images)
        for count in (~drawn.masks).sum(dim=-1).flatten()
    ]
    return sum(macs_of_a_pass(model, count) for count in visible) / len(images)


if __name__ == "__main__":
    main()
