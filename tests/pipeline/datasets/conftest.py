"""Empty files, which are all that listing a data set needs."""

import pytest

from pipeline.datasets import list_cases
from pipeline.errors import PipelineError


@pytest.fixture
def touch(tmp_path):
    """touch(*names): makes empty files below `tmp_path`."""

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    return make


@pytest.fixture
def refused(tmp_path):
    """refused(adapter, words, …): listing fails with one line that matches `words`; the line."""

    def refuse(adapter, words, root=tmp_path, further=()):
        with pytest.raises(PipelineError, match=words) as caught:
            list_cases(adapter, root, further)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refuse
