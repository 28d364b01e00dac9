"""`grcsf complexity`: what each method costs, counted as the paper does and truly (Table 1).

It reads no data and writes nothing. docs/reference/complexity.md explains the columns.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from multiprocessing import get_context
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
    compute_device(gpus)
    with_thop = _has_thop()
    return [_cost(method, repeats, gpus, with_thop) for method in methods]


def chosen_methods(
    methods: Sequence[Method], only: Sequence[str], left_out: Mapping[str, str]
) -> list[Method]:
    """The methods of these names, or all without any; what stands after a comma may be omitted.

    Raises:
        PipelineError: a name is unknown, or `left_out` says why it is none of the methods.
    """
    known = {method.name.partition(",")[0]: method.name for method in methods}
    known |= {method.name: method.name for method in methods}
    by_letters = {name.lower(): name for name in known}
    for name in only:
        if name in left_out:
            raise PipelineError(f"--only {name}: {left_out[name]}")
        if name not in known:
            near = get_close_matches(name.lower(), by_letters, n=1, cutoff=0.5)
            hint = f"did you mean {by_letters[near[0]]!r}? " if near else ""
            names = dict.fromkeys(name.partition(",")[0] for name in known)
            raise PipelineError(f"--only: found {name!r}; {hint}expected any of {', '.join(names)}")
    asked = {*only}
    return [
        method
        for method in methods
        if not asked or asked & {method.name, method.name.partition(",")[0]}
    ]


def table(costs: Sequence[Cost]) -> str:
    """The costs as a Markdown table."""
    header = ["method", "input", "parameters", "paper's way", "G MACs", "paper's way"]
    return aligned([[*header, "peak MB", "s / slice"], *(_cells(cost) for cost in costs)])


def as_records(costs: Sequence[Cost]) -> str:
    """The costs as JSON: exact counts, and memory in bytes."""
    return json.dumps([asdict(cost) for cost in costs], indent=2, ensure_ascii=False)


def _cost(method: Method, repeats: int, gpus: int, with_thop: bool) -> Cost:
    log.info("%s", method.name)
    try:
        with shapes_only(as_on_cpu=method.masked):
            network, inputs = method.build()
    except ValueError as error:
        raise PipelineError(f"{method.name} at input size {method.size}: {error}") from error
    network.eval()
    paper_macs, paper_parameters = paper_counts(network, *inputs) if with_thop else (None, None)
    peak, seconds = _measured_alone(method, repeats, gpus) if repeats else (None, None)
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


def _measured_alone(method: Method, repeats: int, gpus: int) -> tuple[int, float]:
    """What `_measure` says in a process of its own.

    What a network leaves behind (memory that is kept for the next, kernels that were chosen) would
    otherwise be part of what the next one takes.
    """
    fresh = get_context("forkserver")
    fresh.set_forkserver_preload([__name__])  # which takes seconds, and runs nothing
    with ProcessPoolExecutor(1, mp_context=fresh) as alone:
        try:
            return alone.submit(_measure, method, repeats, gpus).result()
        except BrokenProcessPool:
            fault = f"{method.name} at input size {method.size}: its process was ended"
            remedy = "see whether memory suffices; choose others by --only, or count: --repeats 0"
            raise PipelineError(f"{fault}; {remedy}") from None


def _measure(method: Method, repeats: int, gpus: int) -> tuple[int, float]:
    """Peak bytes of weights, inputs and one forward pass; median seconds of the passes after it."""
    device = compute_device(gpus)
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
