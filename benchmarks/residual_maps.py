"""Seconds per slice of the residual maps: batched passes against the equations' plain loop.

Run as `python benchmarks/residual_maps.py [--preset base] [--slices 4] [--passes 5]`. The plain
loop reconstructs one slice under one mask at a time in float32. All variants run interleaved in one
process on random weights, so that a ratio compares runs of the same minute; the table gives the
median ratio and its range over the repeats, and each variant's largest deviation from the loop.
"""

import argparse
import copy
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from grcsf.mae.masking import slice_masks
from grcsf.mae.model import PRESETS, MaskedAutoencoder, build_mae
from grcsf.residuals import multi_ratio_residuals, reference_residuals

RATIOS = (0.5, 0.75)
LOOP = "plain loop, fp32"
Variant = Callable[[], Tensor]


def main() -> None:
    """Measure and print the table."""
    options = read_options()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    model = random_model(options.preset, device)
    images = torch.rand(options.slices, 1, 224, 224).to(device)
    masks = [masks_at(ratio, options, model.num_patches) for ratio in RATIOS]
    variants = build_variants(model, images, masks)

    # One slice warms the caches up and tells the deviations, without a whole repeat's time.
    single = build_variants(model, images[:1], [chosen[:1] for chosen in masks])
    warm = {name: run() for name, run in single.items()}
    deviations = {name: float((found - warm[LOOP]).abs().max()) for name, found in warm.items()}
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(options.repeats):
        for name, run in variants.items():
            seconds[name].append(timed(run, device) / options.slices)
    print_table(options, device, seconds, deviations)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--slices", type=int, default=4)
    parser.add_argument("--passes", type=int, default=5, help="per mask ratio")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=0, help="0: torch's own choice")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def random_model(preset: str, device: torch.device) -> MaskedAutoencoder:
    """Random weights whose predictions lie around 0.5, where clipping does not hide errors."""
    torch.manual_seed(0)
    model = build_mae(preset).eval()
    torch.nn.init.constant_(model.decoder_pred.bias, 0.5)
    return model.to(device)


def masks_at(ratio: float, options: argparse.Namespace, patches: int) -> Tensor:
    """The paper's masks of all slices: (slices, passes, patches) bool, 1 = masked."""
    drawn = [
        slice_masks(
            seed=0,
            case="benchmark",
            slice_index=index,
            mask_ratio=ratio,
            passes=options.passes,
            patches=patches,
            scheme="random",
        )
        for index in range(options.slices)
    ]
    return torch.from_numpy(np.stack(drawn))


def build_variants(
    model: MaskedAutoencoder, images: Tensor, masks: list[Tensor]
) -> dict[str, Variant]:
    """What is compared, by the name that the table prints."""
    models = [model] * len(masks)
    plain = partial(reference_residuals, visible="paste", kind="abs")
    batched = partial(multi_ratio_residuals, visible="paste", kind="abs")
    variants: dict[str, Variant] = {
        LOOP: partial(plain, models, images, masks),
        "batched, fp32": partial(batched, models, images, masks),
    }
    if has_bfloat16(images.device):
        half = torch.bfloat16
        cast = [copy.deepcopy(model).to(half)] * len(masks)
        variants["batched, bf16"] = partial(batched, cast, images, masks, dtype=half)
    return variants


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 matrices in hardware, not by emulation."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))


def timed(run: Variant, device: torch.device) -> float:
    """Wall-clock seconds of one run, the device's queue included."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def print_table(
    options: argparse.Namespace,
    device: torch.device,
    seconds: dict[str, list[float]],
    deviations: dict[str, float],
) -> None:
    """Seconds per slice and the ratio to the plain loop, paired by repeat."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    print(
        f"MAE {options.preset}, 224 × 224, {options.passes} passes at each of {RATIOS}; "
        f"{options.slices} slices, {options.repeats} repeats"
    )
    print(f"{device.type} ({name}), {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print(f"{'variant':<20}{'s/slice':>9}{'times faster (min–max)':>26}{'max |Δ|':>11}")
    for variant, taken in seconds.items():
        ratios = [loop / own for loop, own in zip(seconds[LOOP], taken, strict=True)]
        spread = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
        print(f"{variant:<20}{median(taken):>9.3f}{spread:>26}{deviations[variant]:>11.1e}")


if __name__ == "__main__":
    main()
