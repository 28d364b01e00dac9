"""`grcsf view`: cases in three planes with their layers, on a page of this machine alone."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from pipeline.errors import PipelineError
from pipeline.settings import Dataset
from pipeline.storage.layout import Layout
from pipeline.tools.view.answers import Shown, answer_of
from pipeline.tools.view.cases import listed_cases
from pipeline.tools.view.server import Server, open_server


def open_view(
    layout: Layout,
    dataset: Dataset,
    cases: Sequence[str],  # without any, all that are tested or predicted
    *,
    by: str = "",  # the experiment whose Dice gives the order; "": the baseline, or the first
    subset: int | None = None,  # None: of each case the one that tests it
    repeat: int = 1,
    port: int = 0,  # 0: a free one
) -> Server:
    """A server that listens, and answers once it is asked to serve.

    Raises:
        PipelineError: a case is not there, no case has been tested, or the port is taken.
    """
    by = by or dataset.evaluation.baseline or next(iter(dataset.experiments))
    most = max(experiment.repeats for experiment in dataset.experiments.values())
    if repeat > most:
        raise PipelineError(f"--repeat: found {repeat}, expected at most {most}, as configured")
    listed = listed_cases(layout, dataset, cases, subset, repeat, by)
    if not listed:
        raise PipelineError(f"{layout.dataset}: no case is tested; name cases to look at them")
    shown = Shown(layout, dataset, listed, by, repeat)
    return open_server(port, partial(answer_of, shown), shown.one_at_a_time)


def serve(server: Server, *, browser: bool, tell: Callable[[str], object]) -> None:
    """Tell the address, and answer until Ctrl-C."""
    with suppress(KeyboardInterrupt), server:
        tell(f"{server.address}  (Ctrl-C ends it)")
        if browser:
            # beside the serving: a browser in the terminal returns when it is closed
            opened = threading.Thread(target=webbrowser.open, args=[server.address])
            opened.daemon = True
            opened.start()
        server.serve_forever()
    tell("view ended")
