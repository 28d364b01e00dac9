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


class Queue:
    """A pretended SLURM."""

    def __init__(self, folder):
        self.folder = folder
        self.jobs = folder / "queue"

    def add(self, number, run, comment=TRAINING):
        (self.jobs / str(number)).write_text(f"{run}|{comment}\n")

    def stick(self):
        (self.folder / "stuck").touch()

    @property
    def cancelled(self):
        file = self.folder / "cancelled"
        return file.read_text().split() if file.exists() else []


@pytest.fixture
def queue(tmp_path, monkeypatch):
    queue = Queue(tmp_path)
    queue.jobs.mkdir()
    for name, script in (("squeue", SQUEUE), ("scancel", SCANCEL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script.format(queue=queue.jobs))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(cluster_jobs, "POLL_S", 0.01)
    return queue


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "heart")


def cancel(layouts, run, comments=(TRAINING,)):
    """The lines of a call that takes up what is left."""
    lines = []
    cancel_leftover_jobs(layouts, run, comments, lines.append)
    return lines


def test_jobs_of_the_call_before_are_cancelled_and_told_of_once(queue, layout):
    assert cancel([layout], "first") == []
    queue.add(7, "first")
    queue.add(8, "first", job_comment("predict", ["heart", "unet", "1"]))
    (line,) = cancel([layout], "second", comments=[TRAINING])
    assert line.startswith("cancelling, as a run that was killed has left it: SLURM job 7 (rule_tr")
    assert queue.cancelled == ["7"]
    # the other was no concern of that call, but is still known
    (line,) = cancel([layout], "third", [job_comment("predict", ["heart", "unet", "1"])])
    assert "SLURM job 8 (rule_predict" in line
    assert cancel([layout], "fourth") == []


def test_jobs_of_a_live_call_on_other_results_are_left(queue, layout, tmp_path):
    elsewhere = Layout(tmp_path / "other-results", "heart")
    cancel([layout], "mine")
    cancel([elsewhere], "alive")
    queue.add(7, "alive")
    assert cancel([layout], "mine again") == []
    assert queue.cancelled == []


def test_jobs_of_a_live_call_on_another_data_set_with_the_same_comment_are_left(queue, layout):
    short, long = (Layout(layout.root, name) for name in ("a", "a_b"))
    comment = job_comment("predict", ["a_b", "c", "1"])
    assert comment == job_comment("predict", ["a", "b_c", "1"])
    cancel([long], "alive")
    queue.add(7, "alive", comment)
    cancel([short], "killed")
    queue.add(8, "killed", comment)
    assert len(cancel([short], "again", [comment])) == 1
    assert queue.cancelled == ["8"]


def test_several_calls_killed_one_after_the_other_are_all_taken_up(queue, layout, monkeypatch):
    other = Layout(layout.root, "head")
    cancel([layout, other], "first")
    queue.add(7, "first")
    queue.stick()
    monkeypatch.setattr(cluster_jobs, "PATIENCE_S", 0.05)
    with pytest.raises(PipelineError, match="SLURM job 7"):
        cancel([layout], "second")
    (queue.folder / "stuck").unlink()
    assert len(cancel([layout], "third")) == 1
    queue.add(9, "first")
    assert len(cancel([other], "fourth")) == 1
    assert queue.cancelled == ["7", "7", "9"]


def test_a_job_that_does_not_end_is_named(queue, layout, monkeypatch):
    cancel([layout], "first")
    queue.add(7, "first")
    queue.stick()
    monkeypatch.setattr(cluster_jobs, "PATIENCE_S", 0.05)
    lines = []
    with pytest.raises(PipelineError) as error:
        cancel_leftover_jobs([layout], "second", [TRAINING], lines.append)
    assert len(lines) == 1, "told before the waiting"
    assert str(error.value).startswith(f"SLURM job 7 ({TRAINING}): cancelled, but there after")
    assert "`squeue -j 7`" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_interrupted_waiting_is_one_line(queue, layout, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    cancel([layout], "first")
    queue.add(7, "first")
    queue.stick()
    monkeypatch.setattr(cluster_jobs.time, "sleep", interrupt)
    with pytest.raises(PipelineError, match=r"^interrupted while .*`squeue -j 7`.*; run again$"):
        cancel([layout], "second")


def test_a_silent_slurm_is_told(queue, layout):
    (queue.folder / "bin" / "squeue").write_text("#!/bin/sh\necho no controller >&2; exit 1\n")
    with pytest.raises(PipelineError, match="squeue: SLURM does not answer: no controller"):
        cancel([layout], "first")


def test_without_slurm_nothing_is_asked(layout, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("squeue") is None
    assert cancel([layout], "first") == []
