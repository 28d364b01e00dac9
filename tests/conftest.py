"""Fixtures that every test may use."""

import os
import resource
from pathlib import Path

import pytest
from hypothesis import settings

from tests.workflow import warm

# A shared machine may stall any example.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


def pytest_configure(config):
    """Name the session, for all its workers."""
    if not hasattr(config, "workerinput"):
        os.environ[warm.SESSION] = str(os.getpid())


def pytest_terminal_summary(terminalreporter):
    """What the tests cost: this process, its workers and what these waited for, and the server."""
    mine, others = (
        sum(resource.getrusage(whom)[:2])
        for whom in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    server = warm.processor_seconds()
    terminalreporter.write_line(
        f"{mine + others + server:.0f} processor seconds, of which {server:.0f} in forked calls"
    )


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real images, or a skip that says what is missing."""
    checkout = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GRCSF_SHARED", checkout.parent / "shared"))
    if not (folder / "real").is_dir():
        pytest.skip(f"no real images: {folder / 'real'} does not exist (set GRCSF_SHARED)")
    return folder
