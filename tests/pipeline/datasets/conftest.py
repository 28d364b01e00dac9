"""Empty files, which are all that listing a data set needs."""

import pytest


@pytest.fixture
def touch(tmp_path):
    """touch(*names): makes empty files below `tmp_path`."""

    def make(*names):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make
