"""How fast a machine multiplies in each kind of work, as data with its origin.

`rates.json` holds the known machines; `benchmarks/rates.py` measures another in the same form. A
rate is the multiply-accumulates of real passes divided by their seconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pipeline.errors import PipelineError, file_fault
from pipeline.settings import Section
from pipeline.settings.paths import file_refusal

SHIPPED = Path(__file__).with_name("rates.json")
MEASURE = "measure with python benchmarks/rates.py"
Kind = Literal["mae_pass", "mae_training", "segmentation_prediction", "segmentation_training"]
STANDS_IN = {"mae_training": "mae_pass", "segmentation_training": "segmentation_prediction"}
"""An unmeasured training is assumed to multiply as fast as the forward passes do."""


class Measured(Section):
    """A measurement: multiply-accumulates, and the seconds that they took."""

    macs: Annotated[float, Field(gt=0)]
    seconds: Annotated[float, Field(gt=0)]
    of: str


class Machine(Section):
    """The measurements of one machine, and where they come from."""

    machine: str
    origin: str
    measured: dict[Kind, Measured]


@dataclass(frozen=True)
class Rates:
    """MACs per second by kind of work."""

    machine: str
    origin: str  # who measured, when, how
    per_second: dict[str, float]  # MACs by kind of work
    derived: dict[str, str]  # unmeasured kind → the kind whose rate stands in

    def hours(self, kind: str, macs: float) -> float:
        """Hours of one device for this work."""
        return macs / self.per_second[kind] / 3600


def load_rates(path: Path, device: str) -> Rates:
    """The rates of a device, `cpu` or `cuda`.

    Raises:
        PipelineError: no such file, another form, or nothing about the device.
    """
    try:
        if (refusal := file_refusal(path)).startswith("found "):
            raise file_fault(path, refusal, "rates", MEASURE)
        content = json.loads(path.read_text("utf-8"))
        machines = TypeAdapter(dict[Literal["cpu", "cuda"], Machine]).validate_python(content)
    except OSError as error:
        raise file_fault(path, str(error.strerror), "rates", MEASURE) from error
    except ValidationError as error:
        (first, *_) = error.errors()
        key = ".".join(map(str, first["loc"]))
        raise file_fault(path, f"{key}: {first['msg']}", "rates", MEASURE) from None
    except (ValueError, RecursionError) as error:
        raise file_fault(path, f"no JSON ({error})", "rates", MEASURE) from None
    if device not in machines:
        raise file_fault(path, f"nothing about {device}", f"its rates ({device})", MEASURE)
    chosen = machines[device]
    own = {str(kind): part.macs / part.seconds for kind, part in chosen.measured.items()}
    derived = {kind: other for kind, other in STANDS_IN.items() if kind not in own}
    for kind in STANDS_IN.values():
        if kind not in own:
            raise PipelineError(f"{path}: {device}.measured has no {kind}; {MEASURE}")
    per_second = own | {kind: own[other] for kind, other in derived.items()}
    return Rates(chosen.machine, chosen.origin, per_second, derived)
