"""Trainings and passes whose networks are compiled first, and machines that cannot do so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

from pipeline.errors import PipelineError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The function, compiled at its first call for tensors of these shapes alone.

    What drops out is drawn as it is without compiling.
    """
    return torch.compile(function, dynamic=False, options={"fallback_random": True})


def compile_fault(error: Exception) -> PipelineError | None:
    """The line for a machine that cannot compile; None for other errors."""
    # torch imports its compiler, most of a second, only where something is compiled
    if "torch._dynamo" not in sys.modules:
        return None
    if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
        return None
    return PipelineError(
        f"resources.compile: torch cannot compile here ({_reason(error)}); install what is "
        "missing, or set resources.compile: false"
    )


def _reason(error: Exception) -> str:
    """The line that gives the reason, in the output of a compiler, Triton or torch itself."""
    cause = getattr(error, "inner_exception", error)
    output = getattr(cause, "output", "") or getattr(cause, "details", "") or str(cause)
    lines = [line.strip() for line in str(output).splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    return [type(cause).__name__, *lines[-1:], *errors[:1]][-1][:300]
