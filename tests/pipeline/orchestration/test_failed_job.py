"""A failed job's log ends in what is told last."""

import pytest

from pipeline.orchestration.failed_job import SHOWN, SILENT, failure_lines


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "stage.log"

    def write(*lines: str):
        path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        return path

    return write


def test_the_last_error_is_told_with_what_follows_it(log):
    path = log(
        "12:00 started", "error: earlier", "12:01 again", "error: 2 cases", "case a", "case b"
    )
    assert failure_lines(path) == ["error: 2 cases", "case a", "case b"]


def test_many_faults_fit_on_one_screen(log):
    path = log("error: 655 cases", *(f"case {number}" for number in range(655)))
    told = failure_lines(path)
    assert len(told) == SHOWN
    assert told[0] == "error: 655 cases"
    assert told[-1] == f"… and {655 + 1 - (SHOWN - 1)} more lines in {path}"


def test_a_killed_job_is_said_to_be_one(log):
    path = log("12:00 epoch 1", "12:01 epoch 2")
    assert failure_lines(path) == ["12:00 epoch 1", "12:01 epoch 2", f"error: {SILENT}"]


def test_a_fault_of_the_program_is_told_as_one(log):
    path = log("12:00 epoch 1", "Traceback (most recent call last):", "  in f", "ValueError: odd")
    assert failure_lines(path)[-2:] == [
        "ValueError: odd",
        f"a fault of the program: the whole of it stands in {path}",
    ]


def test_a_job_that_never_wrote_a_log_is_told_too(tmp_path):
    assert failure_lines(tmp_path / "none.log") == [f"error: {SILENT}"]


def test_why_slurm_ended_a_job_that_told_no_error(log, tmp_path):
    reason = "slurmstepd-n1: error: StepId=8.0 exceeded memory limit (12 > 10), being killed"
    cluster = tmp_path / "8.log"
    cluster.write_text(f"Building DAG of jobs...\n{reason}\nsrun: Job step aborted\n{reason}\n")
    assert failure_lines(log("12:00 epoch 1"), cluster) == [
        "12:00 epoch 1",
        reason,
        f"error: {SILENT}",
    ]
    assert failure_lines(log("error: 2 cases"), cluster) == ["error: 2 cases"]
