"""What goes wrong on clusters: each time the training goes on, and ends with the same bits."""

import copy

import pytest

from pipeline.history import read_history
from pipeline.stores import file_digest
from tests.slurm.conftest import CONFIG, TRAINED, wait_until

pytestmark = pytest.mark.timeout(600)


def trained(project):
    """The weights and the history of the MAE, but how long epochs took."""
    folder = project.folder / "results/heart/train_mae/m"
    rows = read_history(folder / "history.csv")
    for row in rows:
        del row["seconds"]
    return file_digest(folder / "model.safetensors"), rows


def resumed(project):
    log = project.folder / "results/heart/logs/train_mae/m.log"
    return "resuming from" in log.read_text("utf-8")


def state(project):
    (job,) = project.jobs
    return job["JobState"], int(job["Restarts"])


def test_preempted_and_then_on_a_node_that_goes_down(untrained, whole):
    ask = untrained.cluster.ask
    run = untrained.start(TRAINED)
    untrained.wait_for_epochs(run)
    (job,) = untrained.jobs
    urgent = ("--partition=urgent", "--exclusive", "--time=1", f"--nodelist={job['NodeList']}")
    ask("sbatch", *urgent, "--chdir=/", "--output=/dev/null", "--wrap=sleep 1")
    wait_until(lambda: state(untrained) == ("RUNNING", 1))
    untrained.wait_for_epochs(run)
    assert resumed(untrained)
    (job,) = untrained.jobs
    node = job["NodeList"]
    ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
    try:
        wait_until(lambda: state(untrained) == ("RUNNING", 2))
        (job,) = untrained.jobs
        assert job["NodeList"] != node
        assert run.wait() == 0, untrained.output
    finally:
        ask("scontrol", "update", f"nodename={node}", "state=resume")
    assert state(untrained) == ("COMPLETED", 2)
    assert resumed(untrained)
    assert trained(untrained) == trained(whole)


def test_out_of_memory_and_then_out_of_time(untrained, whole):
    config = copy.deepcopy(CONFIG)
    config["resources"] |= {"memory_mb": 750, "minutes": 1}  # torch alone takes more
    untrained.configure(config)
    run = untrained.start(TRAINED)
    untrained.wait_for_epochs(run)
    *_, job = untrained.jobs
    asked = [(job["MinMemoryNode"], job["TimeLimit"]) for job in untrained.jobs]
    untrained.cluster.ask("scontrol", "update", f"jobid={job['JobId']}", "endtime=now+1")
    assert run.wait() == 0, untrained.output
    *_, last = untrained.jobs
    asked.append((last["MinMemoryNode"], last["TimeLimit"]))
    assert asked == [("750M", "00:01:00"), ("1500M", "00:02:00"), ("2250M", "00:03:00")]
    assert [job["JobState"] for job in untrained.jobs] == ["FAILED", "TIMEOUT", "COMPLETED"]
    assert resumed(untrained)
    assert trained(untrained) == trained(whole)


def test_memory_that_never_suffices_is_told_at_the_end(untrained):
    config = copy.deepcopy(CONFIG)
    config["resources"]["memory_mb"] = 300
    untrained.configure(config)
    assert untrained.run(TRAINED, "--retries", "0") != 0
    last = untrained.output.rpartition("train_mae failed")[2]
    assert "exceeded memory limit" in last
    assert "error: no error is told: the job was killed, or ran out of memory or time" in last


def test_snakemake_killed_and_started_again(untrained, whole):
    run = untrained.start(TRAINED)
    untrained.wait_for_epochs(run)
    run.kill()
    run.wait()
    assert state(untrained) == ("RUNNING", 0)
    assert untrained.run("--unlock") == 0
    assert untrained.run(TRAINED) == 0, untrained.output
    left, again = untrained.jobs
    assert f"has left it: SLURM job {left['JobId']} (rule_train_mae" in untrained.output
    assert (left["JobState"], again["JobState"]) == ("CANCELLED", "COMPLETED")
    assert again["StartTime"] >= left["EndTime"]
    assert resumed(untrained)
    assert trained(untrained) == trained(whole)
