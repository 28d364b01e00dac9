"""A prediction works beside its masks, and what a killed one leaves goes with the next."""

import signal
import subprocess
import sys

from pipeline.tools.export.working_tree import working_tree

KILLED = """
import os, signal, sys
from pathlib import Path
from pipeline.tools.export.working_tree import working_tree
with working_tree(Path(sys.argv[1])) as tree:
    (tree / "image").write_text("of a patient")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_prediction_leaves_goes_with_the_next_and_a_running_one_stays(tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "out"], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "out").iterdir()
    assert (left / "image").exists()
    with working_tree(tmp_path / "out") as running:
        assert not left.exists()
        (running / "image").write_text("of another")
        with working_tree(tmp_path / "out") as beside:
            assert {running, beside} == set((tmp_path / "out").iterdir())
        assert (running / "image").exists()
    assert list((tmp_path / "out").iterdir()) == []
