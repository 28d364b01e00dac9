"""Trainings on several nodes start their own command by srun; here it notes what it is told."""

import os
import sys

import pytest

from pipeline.errors import PipelineError
from pipeline.networks import nodes
from pipeline.settings import Resources

NODES = Resources(threads=3, gpus=4, nodes=2)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """Sets how srun ends; returns the file in which it notes its arguments and the mark."""
    noted = tmp_path / "noted"
    program = tmp_path / "bin" / "srun"
    program.parent.mkdir()

    def ends_with(code):
        mark = f'"${nodes.STARTED}"'
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" {mark} > {noted}\nexit {code}\n')
        program.chmod(0o755)
        return noted

    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "4")
    monkeypatch.setattr(sys, "argv", ["grcsf", "train-mae", "--mae", "shared one"])
    return ends_with


def test_every_process_of_every_node_runs_this_command(srun):
    noted = srun(0)
    nodes.train_on_nodes("MAE shared", NODES)
    *arguments, mark = noted.read_text().splitlines()
    assert {"--nodes=2", "--ntasks=8", "--ntasks-per-node=4", "--cpus-per-task=3"} <= set(arguments)
    command = [sys.executable, "-m", "pipeline", "train-mae", "--mae", "shared one"]
    assert arguments[-len(command) :] == command
    assert mark == "1"


def test_a_process_that_fails_fails_the_training_and_outside_of_a_job_none_starts(
    srun, monkeypatch
):
    srun(7)
    with pytest.raises(PipelineError, match=r"MAE shared: a process .* ended with 7"):
        nodes.train_on_nodes("MAE shared", NODES)
    monkeypatch.delenv("SLURM_JOB_ID")
    with pytest.raises(PipelineError, match=r"resources\.nodes: found 2, but this is no SLURM job"):
        nodes.train_on_nodes("MAE shared", NODES)


def test_what_slurm_says_of_this_step_is_not_handed_on(srun, monkeypatch):
    noted = srun(0)
    monkeypatch.setenv("SLURM_NNODES", "1")
    monkeypatch.setenv("SLURM_CONF", "own.conf")
    program = noted.with_name("bin") / "srun"
    program.write_text(f"#!/bin/sh\nenv > {noted}\n")
    nodes.train_on_nodes("MAE shared", NODES)
    lines = noted.read_text().splitlines()
    assert "SLURM_CONF=own.conf" in lines
    assert "SLURM_JOB_ID=4" in lines
    assert not any(line.startswith("SLURM_NNODES=") for line in lines)


@pytest.mark.parametrize("variable", [nodes.STARTED, "LOCAL_RANK"])
def test_started_processes_know_it(monkeypatch, variable):
    assert not nodes.is_one_of_several()
    monkeypatch.setenv(variable, "1")
    assert nodes.is_one_of_several()
