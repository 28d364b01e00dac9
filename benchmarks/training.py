"""Training steps made faster, one way upon the other, as ratios to a plain float32 step.

Run as `python benchmarks/training.py [--device cuda] [--width 32] [--size 128] [--compile]`.
Steps are those of GRCSF's training and of an MAE's at both mask ratios in turn: forward, backward,
optimiser. All ways of both take turns in one process, so that a ratio compares steps of the same
minute; the table gives the median and the range of the ratios, and the share of the device's own
rate on large matrices in that precision. A CPU's seconds are those of one core; a GPU's are the
clock's, beside the memory that the step takes at most.
"""

import argparse
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch
from keeping import keep
from rates import grcsf_macs, peak_macs, timed, training_step
from torch import Tensor
from variants import RATIOS

from grcsf.losses import mixed_loss
from grcsf.mae.losses import masked_mse
from grcsf.mae.masking import training_masks
from grcsf.mae.model import PRESETS, build_mae
from grcsf.mae.precision import Precision, compile_layers, multiply_attention
from grcsf.models.build import build_segmentation_model
from pipeline.networks.build import arranged
from pipeline.networks.devices import compiled
from pipeline.planning.network_costs import mae_macs
from pipeline.planning.workload import TRAINED
from pipeline.settings import Mae, Training

PLAIN = "float32"
NETWORK, AUTOENCODER = "GRCSF", "MAE"
Ways = dict[str, dict[str, bool]]


def main() -> None:
    """Measure and print."""
    options = read_options()
    torch.set_num_threads(1)  # of the CPU: waiting threads would pass for working ones
    device = torch.device(options.device)
    builders = {NETWORK: network_step, AUTOENCODER: mae_step}
    ways = {
        (kind, way): chosen
        for kind in builders
        for way, chosen in ways_of(kind, device, compiling=options.compile).items()
    }
    steps = {key: builders[key[0]](options, device, **chosen) for key, chosen in ways.items()}
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in steps}
    memory: dict[tuple[str, str], float] = {}
    for repeat in range(options.repeats + 1):
        for key, step in steps.items():
            taken, bytes_taken = measured(step, device)
            if repeat:  # the first of each warms up
                seconds[key].append(taken)
                memory[key] = bytes_taken
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    peaks = {precision: peak_macs(device, precision) for precision in precisions}
    figures = [
        row(key, seconds, memory, macs_of(options), peaks["bf16" if "lower" in chosen else "fp32"])
        for key, chosen in ways.items()
    ]
    print_table(options, figures, peaks)
    keep(f"training-{device.type}", {"options": vars(options), "peaks": peaks, "ways": figures})


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--size", type=int, default=128, help="pixels of a side, of GRCSF's slices")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--preset", choices=list(PRESETS), default="base")
    parser.add_argument("--mae-batch", type=int, default=4)
    parser.add_argument("--compile", action="store_true", help="also compiled: minutes on a CPU")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def ways_of(kind: str, device: torch.device, *, compiling: bool) -> Ways:
    """What is compared: each way has all that those before it have."""
    ways: Ways = {PLAIN: {}}
    added = {"fused Adam": "fused", "bf16": "lower"}
    if kind == NETWORK:
        added = {"fused Adam": "fused", "channels last": "channels_last", "bf16": "lower"}
    elif device.type == "cpu":
        added["attention as two products"] = "products"
    if compiling:
        added["compiled"] = "compiling"
    chosen: dict[str, bool] = {}
    for name, option in added.items():
        chosen = {**chosen, option: True}
        ways[f"+ {name}"] = chosen
    return ways


def network_step(
    options: argparse.Namespace,
    device: torch.device,
    *,
    fused: bool = False,
    channels_last: bool = False,
    lower: bool = False,
    compiling: bool = False,
) -> Callable[[], None]:
    """A step of GRCSF's training on random slices and lesions."""
    torch.manual_seed(0)
    network = build_segmentation_model("grcsf", width=options.width)
    arranged(network, Training(channels_last=channels_last)).to(device)
    shape = options.size, options.size
    images = torch.rand(options.batch, 1, *shape, device=device)
    maps = torch.rand(options.batch, len(RATIOS), *shape, device=device)
    label = (torch.rand_like(images) > 0.9).float()
    forward: Any = compiled(network.supervised) if compiling else network.supervised

    def loss() -> Tensor:
        ((_, logits),) = forward(images, maps)
        return mixed_loss(logits, label)

    return training_step(network, loss, device, fused=fused, lower=lower)


def mae_step(
    options: argparse.Namespace,
    device: torch.device,
    *,
    fused: bool = False,
    lower: bool = False,
    products: bool = False,
    compiling: bool = False,
) -> Callable[[], None]:
    """A step of an MAE's training at each mask ratio, on random slices."""
    torch.manual_seed(0)
    model = build_mae(options.preset).to(device)
    if products:
        multiply_attention(model)
    if compiling:
        compile_layers(model)
    size = options.mae_batch, 1, model.image_size, model.image_size
    images = torch.rand(*size, device=device)
    generator = torch.Generator().manual_seed(0)
    drawn = [training_masks(generator, size[0], model.num_patches, ratio) for ratio in RATIOS]
    steps = [
        training_step(
            model,
            lambda masks=masks: masked_mse(model, images, masks),
            device,
            fused=fused,
            lower=lower,
        )
        for masks in drawn
    ]

    def both() -> None:
        for step in steps:
            step()

    return both


def measured(step: Callable[[], None], device: torch.device) -> tuple[float, float]:
    """Seconds of a step, and the bytes of a card's memory that it takes beyond what lies there."""
    if device.type != "cuda":
        return timed(step, device), 0.0
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    return timed(step, device), float(torch.cuda.max_memory_allocated(device) - before)


def macs_of(options: argparse.Namespace) -> dict[str, float]:
    """Multiply-accumulates of a step: three times those of its forward pass."""
    of_mae = sum(mae_macs(Mae(preset=options.preset), ratio) for ratio in RATIOS)
    return {
        NETWORK: TRAINED * grcsf_macs(options.width, options.size) * options.batch,
        AUTOENCODER: TRAINED * of_mae * options.mae_batch,
    }


def row(
    key: tuple[str, str],
    seconds: Mapping[tuple[str, str], list[float]],
    memory: Mapping[tuple[str, str], float],
    macs: Mapping[str, float],
    peak: float,
) -> dict[str, Any]:
    """The figures of one way of one network."""
    kind, way = key
    pairs = zip(seconds[kind, PLAIN], seconds[key], strict=True)
    ratios = sorted(plain / taken for plain, taken in pairs)
    rate = macs[kind] / median(seconds[key])
    return {
        "network": kind,
        "way": way,
        "seconds": median(seconds[key]),
        "ratio": median(ratios),
        "range": (ratios[0], ratios[-1]),
        "macs_per_second": rate,
        "share_of_peak": rate / peak,
        "memory": memory[key],
    }


def print_table(
    options: argparse.Namespace, figures: list[dict[str, Any]], peaks: Mapping[Precision, float]
) -> None:
    """Seconds, ratios and shares of the peak of each way, on a card with its memory."""
    print(f"GRCSF of width {options.width}, {options.batch} × {options.size} × {options.size};")
    print(f"MAE {options.preset}, {options.mae_batch} slices; {options.repeats} repeats")
    rates = ", ".join(f"{name} {rate / 1e9:,.4g}" for name, rate in peaks.items())
    print(f"{options.device}, torch {torch.__version__}; large matrices, G MACs/s: {rates}\n")
    heads = f"{'s':>8}{'times faster':>22}{'G MACs/s':>11}{'of its peak':>13}"
    print(f"{'network':<8}{'way':<28}{heads}")
    for figure in figures:
        spread = "{:.2f}–{:.2f}".format(*figure["range"])
        faster = f"{figure['ratio']:.2f} ({spread})"
        line = f"{figure['network']:<8}{figure['way']:<28}{figure['seconds']:>8.3f}{faster:>22}"
        line += f"{figure['macs_per_second'] / 1e9:>11,.4g}{figure['share_of_peak']:>13.0%}"
        if figure["memory"]:
            line += f"{figure['memory'] / 1e9:>8.1f} GB"
        print(line)


if __name__ == "__main__":
    main()
