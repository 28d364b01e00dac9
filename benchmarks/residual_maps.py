"""Residual maps, faster: ratios to the equations' plain loop, and what each variant deviates.

Run as `python benchmarks/residual_maps.py [--preset large] [--slices 4] [--trained …]`. The plain
loop reconstructs one slice under one mask at a time in float32, the paper's 5 + 5 random masks. All
variants run in turns in one process, on evenly spread slices of a head phantom in ATLAS's geometry
and random weights, so that a ratio compares runs of the same minute; the table gives the median
ratio and its range. Deviations are those of a map's values, as shares of the mean residual; with
`--trained CONFIG:DATASET:RESULTS` they are of the trained MAEs and lesion slices found there.
On a GPU the matrix rate is measured beside it: how much of the peak the passes reach.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from keeping import keep, processor
from masking import lesion_slices, macs_of_a_pass, trained_models
from scipy import stats
from timm.layers.attention import Attention
from torch import Tensor

from grcsf.mae.build import MaskedModel
from grcsf.mae.masking import Scheme, slice_masks
from grcsf.mae.model import PRESETS, build_mae
from grcsf.mae.precision import Precision, at_precision
from grcsf.reference import reference_residuals
from grcsf.residuals import BACKGROUND, Visible, multi_ratio_residuals
from pipeline.datasets.phantom import write_phantom
from pipeline.devices import multiplies_bf16
from pipeline.slices import network_slices
from pipeline.volumes import read_volume

RATIOS = (0.5, 0.75)
LOOP = "plain loop, fp32"
FUSED = "batched, bf16, attention fused"
SKIPPING = ", empty slices skipped"
SCHEMES: dict[str, tuple[Scheme, Visible, tuple[int, int]]] = {
    "5 + 5": ("random", "paste", (5, 5)),
    "fast 2 + 4": ("stratified", "ignore", (2, 4)),
    "lean 2 + 2": ("stratified", "ignore", (2, 2)),
}
PRODUCT = 4096  # side of the matrices whose product tells a device's peak
Variant = Callable[[Tensor], Tensor]  # images (B, 1, h, w) → maps (B, 2, h, w)


def main() -> None:
    """Measure, print and keep."""
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    images = phantom_slices(options.slices).to(device)
    model = random_model(options.preset).to(device)
    variants = build_variants([model, model], device)
    middle = images[len(images) // 2 :][:2]
    deviations = {name: deviation(variants, middle, name) for name in variants}
    seconds: dict[str, list[float]] = {name: [] for name in both_ways(variants)}
    for _ in range(options.repeats):
        for name, run in both_ways(variants).items():
            seconds[name].append(timed(run, images, device) / len(images))
    filled = int(torch.count_nonzero(shown_slices(images)))
    print(f"MAE {options.preset}, 224 × 224, {len(images)} slices of which {filled} not empty")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    print(f"{name}, {torch.get_num_threads()} threads, {options.repeats} repeats\n")
    print_seconds(seconds)
    figures: dict[str, Any] = {"preset": options.preset, "seconds": seconds}
    print("\ndeviation from the plain loop, random weights")
    print_deviations(deviations)
    figures["deviations"] = {"random weights": deviations}
    for tree in options.trained:
        found = trained_deviations(tree)
        print(f"\ndeviation from the plain loop, {tree.split(':')[1]}'s trained MAEs")
        print_deviations(found)
        figures["deviations"][tree.split(":")[1]] = found
    if device.type == "cuda":
        figures["roofline"] = roofline(model, seconds, device)
    keep("residual_maps", figures)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=list(PRESETS), default="large")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--trained", nargs="*", default=[], metavar="CONFIG:DATASET:RESULTS")
    return parser.parse_args()


def phantom_slices(count: int) -> Tensor:
    """Evenly spread slices of a head in ATLAS's geometry: (count, 1, 224, 224), in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        write_phantom("head", Path(folder), cases=1, seed=1)
        (path,) = Path(folder).rglob("*_T1w.nii.gz")
        image = read_volume(path).array
    planes = np.linspace(0, len(image) - 1, count + 2).round().astype(int)[1:-1]
    top = float(np.quantile(image, 0.999))
    return network_slices(image[planes], (float(image.min()), top), (224, 224))


def random_model(preset: str) -> MaskedModel:
    """Random weights whose predictions lie around 0.5, where clipping does not hide errors."""
    torch.manual_seed(0)
    model = build_mae(preset).eval()
    torch.nn.init.constant_(model.decoder_pred.bias, 0.5)
    return model


def build_variants(models: list[MaskedModel], device: torch.device) -> dict[str, Variant]:
    """What is compared, by the name that the table prints; all but the last are 5 + 5 passes."""
    batched = {"batched, fp32": partial(in_batches, models, "5 + 5", torch.float32)}
    variants: dict[str, Variant] = {LOOP: partial(in_turn, models), **batched}
    lower: list[Precision] = ["bf16"] if multiplies_bf16(device) else []
    if device.type == "cpu":
        lower.append("int8")
    for precision in lower:
        lowered = [at_precision(one, precision) for one in models]
        if device.type == "cpu" and precision == "bf16":
            variants[FUSED] = partial(in_batches, fused(lowered), "5 + 5", torch.bfloat16)
        for scheme in SCHEMES:
            name = f"batched, {precision}" + ("" if scheme == "5 + 5" else f", {scheme}")
            variants[name] = partial(in_batches, lowered, scheme, torch.bfloat16)
    return variants


def fused(models: list[MaskedModel]) -> list[MaskedModel]:
    """Copies whose attention is one call, as torch advises, and not two products."""
    copies = copy.deepcopy(models)
    for model in copies:
        for part in model.modules():
            if isinstance(part, Attention):
                part.fused_attn = True  # type: ignore[misc]  # final for TorchScript alone
    return copies


def in_turn(models: list[MaskedModel], images: Tensor) -> Tensor:
    """The plain loop."""
    masks = masks_of("5 + 5", models, images)
    return reference_residuals(models, images, masks, visible="paste", kind="abs")


def in_batches(
    models: list[MaskedModel], scheme: str, dtype: torch.dtype, images: Tensor
) -> Tensor:
    """As the stage makes them."""
    return multi_ratio_residuals(
        models,
        images,
        masks_of(scheme, models, images),
        visible=SCHEMES[scheme][1],
        kind="abs",
        dtype=dtype,
    )


def masks_of(scheme: str, models: list[MaskedModel], images: Tensor) -> list[Tensor]:
    """Each ratio's masks of all slices, on the CPU: (slices, passes, patches) bool, 1 = masked."""
    way, _, passes = SCHEMES[scheme]
    return [
        torch.from_numpy(
            np.stack(
                [
                    slice_masks(
                        seed=0,
                        case="benchmark",
                        slice_index=index,
                        mask_ratio=ratio,
                        passes=count,
                        patches=model.num_patches,
                        scheme=way,
                    )
                    for index in range(len(images))
                ]
            )
        )
        for ratio, count, model in zip(RATIOS, passes, models, strict=True)
    ]


def shown_slices(images: Tensor) -> Tensor:
    """(B,) bool, 1 = not constant."""
    return images.flatten(1).amax(dim=1) > images.flatten(1).amin(dim=1)


def both_ways(variants: dict[str, Variant]) -> dict[str, Variant]:
    """Every variant, and all but the loops of fp32 without the empty slices, too."""
    skipping = {
        f"{name}{SKIPPING}": partial(without_empty, run)
        for name, run in variants.items()
        if "bf16" in name or "int8" in name
    }
    return {**variants, **skipping}


def without_empty(run: Variant, images: Tensor) -> Tensor:
    """A variant that is given slices that are not constant only."""
    return run(images[shown_slices(images)])


def timed(run: Variant, images: Tensor, device: torch.device) -> float:
    """Wall-clock seconds of one run, the device's queue included."""
    start = time.perf_counter()
    run(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


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
    model: MaskedModel, seconds: dict[str, list[float]], device: torch.device
) -> dict[str, float]:
    """Multiplications of a slice counted, the bf16 peak measured, and the share reached."""
    macs = sum(
        5 * macs_of_a_pass(model, round(model.num_patches * (1 - ratio))) for ratio in RATIOS
    )
    left, right = (torch.rand(PRODUCT, PRODUCT, device=device).bfloat16() for _ in range(2))
    rates = []
    for _ in range(20):
        torch.cuda.synchronize(device)
        start = time.perf_counter()
        left @ right
        torch.cuda.synchronize(device)
        rates.append(2 * PRODUCT**3 / (time.perf_counter() - start))
    reached = 2 * macs / median(seconds["batched, bf16"])
    print(f"\n{2 * macs / 1e9:.0f} GFLOP a slice; peak {max(rates) / 1e12:.0f} TFLOP/s, ", end="")
    print(f"reached {reached / 1e12:.0f} TFLOP/s, {reached / max(rates):.0%}")
    return {"flop": 2 * macs, "peak": max(rates), "reached": reached}


if __name__ == "__main__":
    main()
