"""What tests of calls share: to plan, to run and to stop half-way."""

import os
import time
from pathlib import Path

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration.call import Call, Plan, Planned
from pipeline.orchestration.locks import locked
from pipeline.storage.files import write_json


def pretrained(layout):
    return [layout.mae("m")] if layout.dataset == "heart" else []


def check(layouts):
    return planned(layouts)[0]


def planned(layouts, pretrained=pretrained):
    """What a plan says, and the manifests whose jobs have to run."""
    call = Call(layouts, pretrained)
    return list(call.check()), call.due


def set_later(*paths: Path) -> None:
    """Give files a later time: two writes may fall on one tick of the clock."""
    later = time.time_ns() + 10**9
    for path in paths:
        os.utime(path, ns=(later, later))


def stop(layout, *work):
    with pytest.raises(PipelineError), locked(layout, *work):
        raise KeyboardInterrupt


def job(layout, work, *outputs, due=True):
    return Planned(layout.dataset, work, frozenset(outputs), due)


def whole(*jobs):
    return Plan(jobs, whole=True)


def partial(*jobs):
    return Plan(jobs, whole=False)


def ran(layouts, plan):
    """What a call without a failure says of what it has found and done."""
    call = Call(layouts, pretrained)
    lines = list(call.check())
    call.lock()
    lines += call.prepare(plan)
    return lines + list(call.finish(plan))


def made(layout):
    """A call that ends with a data set ingested."""
    call, plan = Call([layout], pretrained), whole(job(layout, "ingest", layout.cases))
    call.lock()
    assert list(call.prepare(plan)) == []
    write_json(layout.cases, {"cases": {}, "outputs": []})
    assert list(call.finish(plan)) == []
