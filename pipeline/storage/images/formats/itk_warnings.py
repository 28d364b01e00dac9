"""ITK's warnings, looked at: those that mean another image than the file's are errors.

Others are logged with the file. ITK has one logger for the process, and warns in the thread that
reads.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import file_fault, one_line

log = logging.getLogger(__name__)
# what ITK then puts in place is its own guess
WRONG = re.compile("spacing|scale|origin|direction|orthonormal|orient|truncat|overflow|unit", re.I)
KNOWN = re.compile("sampling or missing slices", re.I)  # distances of slices are measured here
OWN = threading.local()  # `.texts`: the warnings of the read that goes on in this thread
LOGGERS: list[Any] = []  # ITK's one, once it is made; ITK does not keep it alive
LOCK = threading.Lock()


def listen(itk: Any) -> None:
    """Have SimpleITK hand its warnings over, in place of writing them to stderr."""
    with LOCK:
        if LOGGERS:
            return

        class Logger(itk.LoggerBase):  # type: ignore[misc]
            def DisplayWarningText(self, text: str) -> None:  # noqa: N802
                getattr(OWN, "texts", []).append(text)

            DisplayErrorText = DisplayText = DisplayGenericOutputText = DisplayWarningText
            DisplayDebugText = DisplayWarningText

        logger = Logger()
        logger.SetAsGlobalITKLogger()
        LOGGERS.append(logger)


@contextmanager
def heard_warnings(path: Path) -> Iterator[None]:
    """Judge what ITK warns of while `path` is read or written in this thread.

    Raises:
        PipelineError: the image would be another than the file's.
    """
    OWN.texts = []
    yield
    texts, OWN.texts = OWN.texts, []
    for text in dict.fromkeys(one_line(text.partition("): ")[2] or text) for text in texts):
        if KNOWN.search(text):
            continue
        if WRONG.search(text):
            raise file_fault(path, f"ITK warns: {text}", "", "correct the header")
        log.warning("%s: ITK warns: %s", path, text)
