"""What goes wrong on clusters: each time the training goes on, and ends with the same bits."""

import pytest

from pipeline.networks.history import read_history
from pipeline.storage.files import file_digest
from tests.slurm.conftest import TRAINED, TRAINING, wait_until

pytestmark = pytest.mark.timeout(1800)


def trained(project):
    """The weights and the history, but how long epochs took."""
    folder = project.folder / TRAINING
    rows = read_history(folder / "history.csv")
    for row in rows:
        del row["seconds"]
    return file_digest(folder / "model.safetensors"), rows


def resumed(project):
    log = project.folder / "results/heart/logs/train_segmentation/unet-1.log"
    return "resuming from" in log.read_text("utf-8")


def state(project):
    (job,) = project.jobs
    return job["JobState"], int(job["Restarts"])


def test_preempted_then_on_a_node_that_goes_down_then_out_of_time(untrained, undisturbed):
    ask = untrained.cluster.ask
    with untrained.running(TRAINED) as run:
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
        finally:
            ask("scontrol", "update", f"nodename={node}", "state=resume")
        untrained.wait_for_epochs(run)
        # SLURM looks at times every 30 s; a fast machine would have trained to the end by then
        ask("scancel", "--signal=STOP", job["JobId"])
        ask("scontrol", "update", f"jobid={job['JobId']}", "endtime=now+1")
        assert run.wait() == 0, untrained.output
    out_of_time, again = untrained.jobs
    assert (out_of_time["JobState"], out_of_time["Restarts"]) == ("TIMEOUT", "2")
    assert (again["JobState"], again["TimeLimit"]) == ("COMPLETED", "00:14:00")
    assert resumed(untrained)
    assert trained(untrained) == trained(undisturbed)


def test_memory_that_does_not_suffice_is_doubled_and_told_at_the_end(untrained):
    untrained.configure({"resources": {"memory_mb": 300}})  # torch takes more than twice as much
    assert untrained.run(TRAINED, "--retries", "1") != 0
    assert [job["MinMemoryNode"] for job in untrained.jobs] == ["300M", "600M"]
    assert [job["JobState"] for job in untrained.jobs] == ["FAILED", "FAILED"]
    last = untrained.output.rpartition("train_segmentation failed")[2]
    assert "exceeded memory limit" in last
    assert "error: the log holds no error: the job was killed, or ran out of memory or time" in last


def test_snakemake_killed_and_started_again(untrained, undisturbed):
    with untrained.running(TRAINED) as run:
        untrained.wait_for_epochs(run)
        run.kill()
    assert state(untrained) == ("RUNNING", 0)
    assert untrained.run(TRAINED) == 0, untrained.output
    left, again = untrained.jobs
    assert f"has left it: SLURM job {left['JobId']} (rule_train_segmentation" in untrained.output
    assert (left["JobState"], again["JobState"]) == ("CANCELLED", "COMPLETED")
    assert again["StartTime"] >= left["EndTime"]
    assert resumed(untrained)
    assert trained(untrained) == trained(undisturbed)
