"""Trainings on several nodes start their own command by srun; here it notes what it is told."""

import os
import sys

import pytest

from pipeline import launch
from pipeline.errors import PipelineError
from pipeline.settings import Resources

NODES = Resources(threads=3, gpus=4, nodes=2)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """Sets how srun ends; returns the file in which it notes its arguments and the mark."""
    told = tmp_path / "told"
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()

    def ends_with(code):
        mark = f'"${launch.STARTED}"'
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" {mark} > {told}\nexit {code}\n')
        program.chmod(0o755)
        return told

    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "2")
    monkeypatch.setattr(sys, "argv", ["grcsf", "train-mae", "--mae", "shared one"])
    return ends_with


def test_every_process_of_every_node_runs_this_command(srun):
    told = srun(0)
    launch.train_on_nodes("MAE shared", NODES)
    *arguments, mark = told.read_text().splitlines()
    assert {"--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--cpus-per-task=3"} <= set(arguments)
    command = [sys.executable, "-m", "pipeline", "train-mae", "--mae", "shared one"]
    assert arguments[-len(command) :] == command
    assert mark == "1"


def test_a_process_that_fails_fails_the_training(srun):
    srun(7)
    with pytest.raises(PipelineError, match=r"MAE shared: a process .* ended with 7"):
        launch.train_on_nodes("MAE shared", NODES)


@pytest.mark.parametrize("granted", [None, "1"])
def test_a_job_of_other_nodes_is_refused(srun, monkeypatch, granted):
    srun(0)
    monkeypatch.delenv("SLURM_JOB_NUM_NODES")
    if granted:
        monkeypatch.setenv("SLURM_JOB_NUM_NODES", granted)
    expected = f"resources.nodes: found 2, but this process has {granted or 'none'} of a SLURM job"
    with pytest.raises(PipelineError, match=expected):
        launch.train_on_nodes("MAE shared", NODES)


@pytest.mark.parametrize("variable", [launch.STARTED, "LOCAL_RANK"])
def test_started_processes_know_it(monkeypatch, variable):
    assert not launch.is_one_of_several()
    monkeypatch.setenv(variable, "1")
    assert launch.is_one_of_several()
