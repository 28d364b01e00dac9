"""The whole pipeline on a cluster of two nodes, as SLURM's own records tell of it.

Where accounting is installed, `sacct` is the status command, and an account is charged.
"""

import copy
import shutil
from dataclasses import replace

import pytest

from pipeline.networks.history import read_history
from tests.slurm.conftest import ACCOUNTING, CONFIG, ON_CARDS, Project, missing

pytestmark = pytest.mark.timeout(1800)
OTHERS = ("phantom", "ingest", "postprocess", "evaluate", "report")


def test_every_stage_ran_there_with_what_it_asks_for(whole):
    jobs = {job["Comment"].split("_wildcards_")[0].removeprefix("rule_"): job for job in whole.jobs}
    assert sorted(jobs) == sorted([*ON_CARDS, *OTHERS])
    assert len(whole.jobs) == len(jobs), "no stage ran twice"
    for stage, job in jobs.items():
        assert job["JobState"] == "COMPLETED"
        assert job["NodeList"] in ("n1", "n2")
        assert job["TimeLimit"] == "00:07:00"
        cores = 2 if stage not in ("phantom", "report") else 1
        assert job["TRES"].startswith(f"cpu={cores},mem=1900M,node=1,")
        assert job["Partition"] == ("gpu" if stage in ON_CARDS else "main")
        cards = "gpu:pretended:1" if stage in ON_CARDS else "(null)"
        assert job["JOB_GRES"] == cards
    assert (whole.folder / "results/heart/report/report.html").exists()


def test_a_second_call_finds_nothing_to_do(whole):
    before = len(whole.jobs)
    assert whole.run() == 0
    assert "Nothing to be done" in whole.output
    assert len(whole.jobs) == before


def test_jobs_stand_in_the_accounts(whole):
    if not whole.cluster.accounting:
        pytest.skip(missing(ACCOUNTING))
    columns = "WorkDir,Comment,State,Account,Partition,ReqCPUS,ReqMem,Timelimit"
    lines = whole.cluster.ask("sacct", "-X", "-n", "-P", "-o", columns).splitlines()
    own = [line.split("|", 1)[1] for line in lines if line.startswith(f"{whole.folder}|")]
    assert len(own) == len(whole.jobs)
    asked = "COMPLETED|research|main|{}|1900M|00:07:00"
    assert own[:2] == [
        f"rule_phantom_wildcards_heart|{asked.format(1)}",
        f"rule_ingest_wildcards_heart|{asked.format(2)}",
    ]


def test_cards_that_the_configuration_asks_for_are_asked_of_one_node(copied):
    training = "results/heart/train_segmentation"
    shutil.rmtree(copied.folder / training)
    copied.configure({"resources": {"gpus": 2}})
    assert copied.run(f"{training}/grcsf/subset-1.json", "--retries", "0") != 0
    (job,) = copied.jobs
    assert job["JOB_GRES"] == "gpu:pretended:2"
    assert job["NumNodes"] == "1"
    # and where there is none, the stage's own line is the last
    *_, title, error = copied.output.splitlines()
    assert title == "train_segmentation failed (results/heart/logs/train_segmentation/grcsf-1.log):"
    assert error.startswith("error: resources.gpus: found 2, but this machine offers no GPU")


def test_a_training_on_two_nodes_has_the_losses_of_one(whole, copied):
    # nodes that stand for hosts of a network; these two are one machine, which knows no such names
    one_machine = {"MASTER_ADDR": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}
    environment = {**copied.cluster.environment, **one_machine}
    project = replace(copied, cluster=replace(copied.cluster, environment=environment))
    shutil.rmtree(project.folder / "results/heart/train_mae")
    spread = {"nodes": 2, "threads": 1}
    project.configure({"datasets": {"heart": {"mae": {"m": {"resources": spread}}}}})
    assert project.run("results/heart/train_mae/m.json", "--retries", "0") == 0, project.output
    *_, job = project.jobs
    assert (job["NumNodes"], job["NumTasks"], job["CPUs/Task"]) == ("2", "2", "1")
    history = "results/heart/train_mae/m/history.csv"
    (alone,), (together,) = (read_history(one.folder / history) for one in (whole, project))
    for name in ("train_loss", "validation_loss"):
        assert together[name] == pytest.approx(alone[name], rel=1e-4)


def test_a_damaged_image_is_named_at_the_end(whole, tmp_path):
    config = copy.deepcopy(CONFIG)
    source = config["datasets"]["heart"]["source"]
    del source["phantom"]
    source["root"] = "images"
    project = Project(tmp_path, whole.cluster)
    project.configure(config)
    shutil.copytree(whole.folder / "results/heart/phantom", tmp_path / "images")
    image = sorted((tmp_path / "images").rglob("*CTI.*raw"))[0]
    image.write_bytes(image.read_bytes()[:100])
    assert project.run("--retries", "0") != 0
    assert [job["JobState"] for job in project.jobs] == ["FAILED"]
    *_, title, error, case = project.output.splitlines()
    assert title == "ingest failed (results/heart/logs/ingest.log):"
    assert error == "error: 1 of 4 cases cannot be used"
    assert case.startswith(f"case {image.name.split('CTI')[0]}")
