"""Seconds of a forward pass of each of the paper's networks, and their ratio to UNet++.

Run as `python benchmarks/networks.py [--repeats 7] [--threads 1]`. All networks run interleaved in
one process, so that a ratio compares passes of the same minute; the table gives the median and the
range over the repeats, by the clock on the wall and by the processor's time, which does not count
what other processes took.
"""

import argparse
import platform
import time
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
from keeping import keep
from torch import nn

from grcsf.models.build import build_segmentation_model

BASELINE = "UNet++"
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "UNet": partial(build_segmentation_model, "unet"),
    BASELINE: partial(build_segmentation_model, "unetpp"),
    "UNet++ with GCU": partial(build_segmentation_model, "grcsf", rcu=None),
    "GRCSF": partial(build_segmentation_model, "grcsf"),
}
Seconds = tuple[float, float]


def main() -> None:
    """Measure and print the table."""
    options = read_options()
    torch.set_num_threads(options.threads)
    size = (options.size, options.size)
    image = torch.rand(options.batch, 1, *size)
    residuals = torch.rand(options.batch, 2, *size)
    networks = {name: build().eval() for name, build in NETWORKS.items()}
    taken: dict[str, list[Seconds]] = {name: [] for name in networks}
    with torch.inference_mode():
        for repeat in range(options.repeats + 1):
            for name, network in networks.items():
                seconds = timed(lambda network=network: network(image, residuals))
                if repeat:  # the first pass warms up
                    taken[name].append(seconds)
    print(
        f"one forward pass of {options.batch} × {options.size} × {options.size}, fp32, "
        f"{options.repeats} repeats"
    )
    print(f"cpu ({platform.machine()}), {options.threads} threads, torch {torch.__version__}\n")
    print_table(taken)
    keep("networks", taken)


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--size", type=int, default=224, help="pixels of a side")
    parser.add_argument("--batch", type=int, default=1)
    return parser.parse_args()


def timed(run: Callable[[], object]) -> Seconds:
    """Seconds on the wall and of the processor, over all threads."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def print_table(taken: dict[str, list[Seconds]]) -> None:
    """Medians, and ratios paired by repeat."""
    clocks = ("wall", "processor")
    print(f"{'network':<18}" + "".join(f"{clock + ' s':>12}{'/ UNet++':>22}" for clock in clocks))
    for name, own in taken.items():
        cells = ""
        for clock in range(len(clocks)):
            pairs = zip(own, taken[BASELINE], strict=True)
            ratios = [mine[clock] / base[clock] for mine, base in pairs]
            spread = f"{median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
            cells += f"{median(one[clock] for one in own):>12.3f}{spread:>22}"
        print(f"{name:<18}{cells}")


if __name__ == "__main__":
    main()
