"""A small image, a store, and a folder for users with fewer rights than the tests have."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.storage.stores import write


@pytest.fixture
def values() -> np.ndarray:
    """Voxels of a small image."""
    return np.random.default_rng(3).integers(-1000, 3000, (5, 6, 7)).astype(np.int16)


@pytest.fixture
def store(tmp_path):
    write(tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


@pytest.fixture
def open_folder():
    """A folder below which another user can get, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="grcsf-test-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shutil.rmtree(folder)
