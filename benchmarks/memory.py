"""Whether GRCSF trains within a graphics card's memory: what one step keeps, and its peak.

Run as `python benchmarks/memory.py [--batch 21] [--card-gb 24] [--measure]`. What the forward pass
keeps for backward is counted on shapes alone, at full width and batch, so it needs neither the
memory nor the card. `--measure` runs real steps: on a GPU the whole batch, on the CPU batches of 1
and 2, from which the batch's peak is extended (what grows with the batch grows linearly).
docs/reference/complexity.md explains the figures.
"""

import argparse
import os
from collections import Counter
from collections.abc import Callable

os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler talks of itself on stderr

import torch
from keeping import keep
from torch import Tensor, nn

from grcsf.complexity import (
    KeptTensor,
    kept_for_backward,
    parameter_count,
    peak_memory,
    shapes_only,
)
from grcsf.losses import mixed_loss
from grcsf.models.build import build_segmentation_model

GB = 1e9


def main() -> None:
    """Count, measure if asked to, and print."""
    options = read_options()
    print(f"batch {options.batch}, {options.size} × {options.size}, bf16 autocast, width 64\n")
    figures: dict[str, float] = {}
    for name in ("unetpp", "grcsf"):
        with shapes_only(as_on_cpu=True):
            network = build_segmentation_model(name)
            batch = random_batch(options.batch, options.size, torch.device("cpu"))
        kept = kept_by(network, batch)
        figures[name] = sum(one.size for one in kept)
        states = 4 * 4 * parameter_count(network)  # fp32 weights, gradients, both Adam moments
        print_kept(name, kept, states)
    if options.measure:
        figures["peak"] = measure(options)
    keep("memory", {"bytes kept for backward": figures})


def measure(options: argparse.Namespace) -> float:
    """Print and return the bytes of a real training step."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    peak = measured_peak(options.batch, options.size, device)
    verdict = "fits" if peak < options.card_gb * GB else "does not fit"
    print(f"grcsf, peak of a training step on {device.type}: {peak / GB:.2f} GB", end="")
    print(f", {verdict} in {options.card_gb} GB")
    return peak


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batch", type=int, default=21)
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--card-gb", type=float, default=24)
    parser.add_argument("--measure", action="store_true", help="run real steps, too")
    return parser.parse_args()


def random_batch(count: int, size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Image, residual maps and target: (count, 1 or 2, size, size)."""
    image = torch.rand(count, 1, size, size, device=device)
    maps = torch.rand(count, 2, size, size, device=device)
    return image, maps, torch.zeros(count, 1, size, size, device=device)


def loss_of(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """A training step's forward pass, as the stage makes it with precision bf16."""
    image, maps, target = batch
    with torch.autocast(image.device.type, dtype=torch.bfloat16):
        logits = network(image, maps)
    return mixed_loss(logits, target)


def kept_by(network: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> list[KeptTensor]:
    """What waits for the backward pass, weights and inputs aside."""
    owned = [*network.parameters(), *network.buffers(), *batch]
    return kept_for_backward(lambda: loss_of(network, batch), owned)


def measured_peak(count: int, size: int, device: torch.device) -> float:
    """Bytes of a whole training step at its fullest, weights and optimiser included."""
    network = build_segmentation_model("grcsf").to(device)
    optimiser = torch.optim.Adam(network.parameters())
    held = 3 * 4 * parameter_count(network)  # weights and moments; gradients are made in the step

    def step(slices: int) -> Callable[[], None]:
        batch = random_batch(slices, size, device)

        def run() -> None:
            loss_of(network, batch).backward()
            optimiser.step()
            optimiser.zero_grad()

        return run

    peak_memory(step(1), device)  # makes the moments
    if device.type == "cuda":
        return held + peak_memory(step(count), device)
    one, two = peak_memory(step(1), device), peak_memory(step(2), device)
    return held + one + (count - 1) * (two - one)


def print_kept(name: str, kept: list[KeptTensor], states: int) -> None:
    """The largest groups of tensors of one shape and type, and the sums."""
    pieces, sizes = Counter[tuple[object, ...]](), Counter[tuple[object, ...]]()
    for one in kept:
        key = (one.shape, str(one.dtype).removeprefix("torch."))
        pieces[key] += 1
        sizes[key] += one.size
    total = sum(sizes.values())
    print(f"{name}: kept for backward {total / GB:.2f} GB, weights, gradients and Adam", end="")
    print(f" {states / GB:.2f} GB, together {(total + states) / GB:.2f} GB")
    print(f"{'shape':<24}{'type':>10}{'pieces':>8}{'GB':>8}")
    for (shape, dtype), size in sizes.most_common(12):
        text = " × ".join(map(str, shape))
        print(f"{text:<24}{dtype!s:>10}{pieces[shape, dtype]:>8}{size / GB:>8.2f}")
    print()


if __name__ == "__main__":
    main()
