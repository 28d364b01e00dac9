"""Tests of `pipeline.orchestration.environment`: what a process tells of its memory is its own."""

import subprocess
import sys

from pipeline.orchestration.environment import peak_resident

CHILD = "from pipeline.orchestration.environment import peak_resident; print(peak_resident())"


def test_a_peak_is_remembered_after_the_memory_was_given_back():
    before = peak_resident()
    block = bytearray(b"1") * (before + 300_000_000)
    size = len(block)
    del block
    assert peak_resident() > size


def test_a_child_does_not_take_over_the_peak_of_the_process_that_started_it():
    alone = _child_peak()
    block = bytearray(b"1") * (2 * alone)
    assert _child_peak() < 1.2 * alone < len(block)


def _child_peak() -> int:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, check=True)
    return int(done.stdout)
