"""A failed job's log ends in the case, the cause and the remedy."""

import pytest

from pipeline.orchestration.failed_job import SHOWN, SILENT, failure_lines

TRACEBACK = ["Traceback (most recent call last):", "  in f", "ValueError: odd"]
MEMORY = "slurmstepd-n1: error: StepId=8.0 exceeded memory limit (12 > 10), being killed"
ENDED = [*TRACEBACK, "a fault of the program: the whole of it stands in {log}"]


@pytest.mark.parametrize(
    ("lines", "cluster", "shown"),
    [
        (["error: earlier", "again", "error: 2 cases", "a", "b"], [], ["error: 2 cases", "a", "b"]),
        (["epoch 1", "epoch 2"], [], ["epoch 1", "epoch 2", f"error: {SILENT}"]),
        (["epoch 1", *TRACEBACK], [], ENDED),
        (["epoch 1"], ["Building DAG", MEMORY, MEMORY], ["epoch 1", MEMORY, f"error: {SILENT}"]),
        (["error: 2 cases"], [MEMORY], ["error: 2 cases"]),
        (None, [], [f"error: {SILENT}"]),
    ],
    ids=["the last error", "killed", "a fault", "by SLURM", "an error before it", "no log"],
)
def test_what_is_shown_of_a_log(tmp_path, lines, cluster, shown):
    log, cluster_log = tmp_path / "stage.log", tmp_path / "8.log"
    if lines is not None:
        log.write_text("\n".join(lines), "utf-8")
    cluster_log.write_text("\n".join(cluster), "utf-8")
    assert failure_lines(log, cluster_log) == [line.format(log=log) for line in shown]


def test_many_faults_fit_on_one_screen(tmp_path):
    log = tmp_path / "stage.log"
    log.write_text("\n".join(["error: 655 cases", *map("case {}".format, range(655))]), "utf-8")
    lines = failure_lines(log)
    assert len(lines) == SHOWN
    assert lines[0] == "error: 655 cases"
    assert lines[-1] == f"… and {655 + 1 - (SHOWN - 1)} more lines in {log}"
