"""Two data sets in a working directory of their own."""

import pytest

from pipeline.orchestration import call
from pipeline.storage.layout import Layout


@pytest.fixture
def layouts(tmp_path, monkeypatch):
    """The results of two data sets; git is not asked for the code's commit."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(call, "source_state", lambda: None)
    return [Layout(tmp_path / "results", name) for name in ("heart", "head")]
