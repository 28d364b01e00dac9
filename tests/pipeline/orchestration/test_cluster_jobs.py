"""Only what dead runs do is cancelled, and its end is awaited, but not for ever."""

import shutil

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import cluster_jobs
from pipeline.orchestration.cluster_jobs import cancel_leftover_jobs, job_comment
from pipeline.storage.layout import Layout

TRAINING = job_comment("train_mae", ["heart", "m"])
# A queue is a folder with a file for each job; a job that is stuck stays there.
SQUEUE = """#!/bin/sh
test "$*" = "--me --noheader --format %i|%j|%k" || exit 2
cd {queue} && for job in *; do test -e $job && echo "$job|$(cat $job)"; done
exit 0
"""
SCANCEL = """#!/bin/sh
test "$1" = --quiet && shift
cd {queue} && for job; do echo $job >>../cancelled; test -e ../stuck || rm $job; done
"""


@pytest.fixture
def queue(tmp_path, monkeypatch):
    for folder in ("bin", "queue"):
        (tmp_path / folder).mkdir()
    for name, script in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        path = tmp_path / "bin" / name
        path.write_text(script.format(queue=tmp_path / "queue"))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(cluster_jobs, "POLL_S", 0.01)
    return tmp_path / "queue"


def add(queue, number, run, comment=TRAINING):
    (queue / str(number)).write_text(f"{run}|{comment}\n")


def cancelled(queue):
    file = queue.with_name("cancelled")
    return file.read_text().split() if file.exists() else []


@pytest.fixture
def stuck(queue, layouts, monkeypatch):
    """A job of a dead run that does not end while this file is there."""
    cancel(layouts, "first")
    add(queue, 7, "first")
    monkeypatch.setattr(cluster_jobs, "PATIENCE_S", 0.05)
    queue.with_name("stuck").touch()
    return queue.with_name("stuck")


def cancel(layouts, run, comments=(TRAINING,)):
    """The lines of a call that takes up what is left."""
    lines = []
    cancel_leftover_jobs(layouts, run, comments, lines.append)
    return lines


def test_jobs_of_the_call_before_are_cancelled_and_told_of_once(queue, layouts):
    assert cancel(layouts, "first") == []
    prediction = job_comment("predict", ["heart", "unet", "1"])
    add(queue, 7, "first")
    add(queue, 8, "first", prediction)
    (line,) = cancel(layouts, "second")
    assert line.startswith("cancelling, as a run that was killed has left it: SLURM job 7 (rule_tr")
    assert cancelled(queue) == ["7"]
    # the other was no concern of that call, but is still known
    (line,) = cancel(layouts, "third", [prediction])
    assert "SLURM job 8 (rule_predict" in line
    assert cancel(layouts, "fourth") == []


def test_jobs_of_a_live_call_on_another_data_set_with_the_same_comment_are_left(queue, tmp_path):
    short, long = (Layout(tmp_path / "results", name) for name in ("a", "a_b"))
    comment = job_comment("predict", ["a_b", "c", "1"])
    assert comment == job_comment("predict", ["a", "b_c", "1"])
    cancel([long], "alive")
    add(queue, 7, "alive", comment)
    cancel([short], "killed")
    add(queue, 8, "killed", comment)
    assert len(cancel([short], "again", [comment])) == 1
    assert cancelled(queue) == ["8"]


def test_several_calls_killed_one_after_the_other_are_all_taken_up(queue, layouts, stuck):
    with pytest.raises(PipelineError, match="SLURM job 7"):
        cancel(layouts[:1], "second")
    stuck.unlink()
    assert len(cancel(layouts[:1], "third")) == 1
    add(queue, 9, "first")
    assert len(cancel(layouts[1:], "fourth")) == 1
    assert cancelled(queue) == ["7", "7", "9"]


@pytest.mark.usefixtures("stuck")
def test_a_job_that_does_not_end_is_named(layouts):
    lines = []
    message = rf"^SLURM job 7 \({TRAINING}\): cancelled, but there after .*`squeue -j 7`.*$"
    with pytest.raises(PipelineError, match=message) as error:
        cancel_leftover_jobs(layouts, "second", [TRAINING], lines.append)
    assert len(lines) == 1, "told before the waiting"
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("stuck")
def test_an_interrupted_waiting_is_one_line(layouts, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_jobs.time, "sleep", interrupt)
    with pytest.raises(PipelineError, match=r"^interrupted while .*`squeue -j 7`.*; run again$"):
        cancel(layouts, "second")


def test_a_silent_slurm_is_told_and_without_slurm_nothing_is_asked(queue, layouts, monkeypatch):
    squeue = queue.with_name("bin") / "squeue"
    squeue.write_text("#!/bin/sh\necho no controller >&2; exit 1\n")
    with pytest.raises(PipelineError, match="squeue: SLURM does not answer: no controller"):
        cancel(layouts, "first")
    monkeypatch.setenv("PATH", str(queue))
    assert shutil.which("squeue") is None
    assert cancel(layouts, "first") == []
