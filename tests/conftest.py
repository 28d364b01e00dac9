"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real images, or a skip that says what is missing."""
    checkout = Path(__file__).resolve().parents[1]
    folder = Path(os.environ.get("GRCSF_SHARED", checkout.parent / "shared"))
    if not (folder / "real").is_dir():
        pytest.skip(f"no real images: {folder / 'real'} does not exist (set GRCSF_SHARED)")
    return folder
