"""`grcsf complexity`: what each method costs, counted as the paper does and truly (Table 1).

It reads no data and writes nothing. docs/complexity.md explains the columns.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import torch

from grcsf.complexity import paper_counts, parameter_count, peak_memory, shapes_only, true_macs
from pipeline.errors import PipelineError
from pipeline.evaluation.tables import aligned
from pipeline.networks.devices import compute_device
from pipeline.planning.network_costs import Method

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cost:
    """One row of the table; None if it was not measured."""

    method: str
    size: tuple[int, int]
    parameters: int
    paper_parameters: int | None
    macs: int
    paper_macs: int | None
    peak_bytes: int | None
    seconds: float | None


def complexity(methods: Sequence[Method], repeats: int, gpus: int) -> list[Cost]:
    """Count every method, and run it `repeats` times (0: only count).

    Raises:
        PipelineError: a GPU is asked for where there is none, or an input size cannot be built.
    """
    device = compute_device(gpus)
    with_thop = _has_thop()
    return [_cost(method, repeats, device, with_thop) for method in methods]


def table(costs: Sequence[Cost]) -> str:
    """The costs as a Markdown table."""
    header = ["method", "input", "parameters", "paper's way", "G MACs", "paper's way"]
    return aligned([[*header, "peak MB", "s / slice"], *(_cells(cost) for cost in costs)])


def as_records(costs: Sequence[Cost]) -> str:
    """The costs as JSON: exact counts, and memory in bytes."""
    return json.dumps([asdict(cost) for cost in costs], indent=2, ensure_ascii=False)


def _cost(method: Method, repeats: int, device: torch.device, with_thop: bool) -> Cost:
    log.info("%s", method.name)
    try:
        with shapes_only():
            network, inputs = method.build()
    except ValueError as error:
        raise PipelineError(f"{method.name} at input size {method.size}: {error}") from error
    network.eval()
    paper_macs, paper_parameters = paper_counts(network, *inputs) if with_thop else (None, None)
    peak, seconds = _measure(method, repeats, device) if repeats else (None, None)
    parameters, macs = parameter_count(network), true_macs(network, *inputs)
    counts = (parameters, paper_parameters, macs, paper_macs)
    return Cost(method.name, method.size, *counts, peak, seconds)


def _has_thop() -> bool:
    try:
        import thop  # noqa: F401
    except ModuleNotFoundError as error:
        log.warning(
            "no counts the paper's way: thop cannot be imported (%s); pip install '.[bench]'", error
        )
        return False
    return True


def _measure(method: Method, repeats: int, device: torch.device) -> tuple[int, float]:
    """Peak bytes of weights, inputs and one forward pass; median seconds of a pass."""
    network, inputs = method.build()
    network.to(device).eval()
    inputs = tuple(tensor.to(device) for tensor in inputs)
    held = [*network.parameters(), *network.buffers(), *inputs]
    with torch.inference_mode():
        peak = peak_memory(lambda: network(*inputs), device)  # warms up, too
        seconds = [_seconds(lambda: network(*inputs), device) for _ in range(repeats)]
    return sum(tensor.nbytes for tensor in held) + peak, median(seconds)


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _cells(cost: Cost) -> list[str]:
    return [
        cost.method,
        "×".join(map(str, cost.size)),
        f"{cost.parameters:,}",
        "–" if cost.paper_parameters is None else f"{cost.paper_parameters:,}",
        f"{cost.macs / 1e9:,.2f}",
        "–" if cost.paper_macs is None else f"{cost.paper_macs / 1e9:,.2f}",
        "–" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e6:,.0f}",
        "–" if cost.seconds is None else f"{cost.seconds:.3f}",
    ]
