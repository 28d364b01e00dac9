"""Calls that are stopped by force, and calls at the same time: the next one just goes on."""

import os
import shutil
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipeline.storage.files import file_digest
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout
from tests.workflow import tiny

EPOCHS = 20
HEAD = Layout(Path("results"), "head")
MODEL = str(HEAD.model("unet", 1))
CALL = ("--cores", "2", "--configfile", "config.yaml")
STOPPED = "stopped half-way: head train_segmentation unet 1"
TAKEN_UP = "taken up where it stood: head train_segmentation unet 1"
pytestmark = [pytest.mark.slow, pytest.mark.processes, pytest.mark.timeout(1200)]


def configuration(workers: int = 0) -> dict:
    config = tiny.configuration()
    config["resources"]["workers"] = workers
    training = {**config["datasets"]["heart"]["experiments"]["unet"]["training"], "epochs": EPOCHS}
    for dataset in config["datasets"].values():
        dataset["experiments"] = {"unet": {"model": "unet", "width": 4, "training": dict(training)}}
        for unused in {"mae", "residuals"} & set(dataset):
            del dataset[unused]
    return config


@pytest.fixture(scope="module")
def start(tmp_path_factory, new_project):
    """A project whose cases are ingested and split."""
    project = new_project(tmp_path_factory.mktemp("start"))
    tiny.write_images(project.folder / "images")
    project.configure(configuration())
    project.run(str(HEAD.split))
    return project


@pytest.fixture(scope="module")
def expected(start, new_project, tmp_path_factory):
    """Digest of the model of a training that nobody stopped."""
    project = copied(start, new_project, tmp_path_factory.mktemp("whole") / "whole")
    project.run(MODEL)
    return trained(project)


def copied(start, new_project, folder):
    shutil.copytree(start.folder, folder)
    return new_project(folder)


@pytest.fixture
def project(start, new_project, tmp_path):
    return copied(start, new_project, tmp_path / "project")


def planned(project) -> str:
    """What a dry run says."""
    done = project.call(MODEL, "-n", "--configfile", "config.yaml")
    assert done.code == 0, done.output
    return done.output


def trained(project) -> str:
    return file_digest(project.folder / folder_of(HEAD.model("unet", 1)) / "model.safetensors")


@contextmanager
def running(project, *arguments: str):
    """A call of Snakemake, of which nothing is left in the end."""
    process = project.start(*arguments)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill_group()
        process.stdout.close()
        process.wait()


def reach(process, text: str) -> str:
    """What a call says until it says `text`."""
    said = []
    for line in process.stdout:
        said.append(line)
        if text in line:
            return "".join(said)
    raise AssertionError("".join(said)[-4000:])


def training_of(project) -> int:
    """Process number of the training that runs in the project."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended, or is another user's
            here = (folder / "cwd").readlink() == project.folder
            if here and (folder / "comm").read_text().startswith("train-segm"):
                found.append(int(folder.name))
    return min(found)  # those that load slices for it are called alike


def stop_by_ctrl_c(_, process):
    process.kill_group(signal.SIGINT)
    output = process.communicate()
    assert process.returncode != 0
    assert "error: train_segmentation unet 1: interrupted; run again" in output
    assert "Traceback" not in output


def stop_all_at_once(project, process):
    process.kill_group()
    process.communicate()
    # a write that the power cut: what killed processes leave where they write is hidden and ignored
    folder = project.folder / folder_of(HEAD.model("unet", 1)) / "checkpoints"
    (folder / ".last.ckpt.0123456789ab.tmp").write_bytes(b"half")


def stop_the_stage(project, process):
    os.kill(training_of(project), signal.SIGKILL)
    output = process.communicate()
    assert process.returncode != 0
    assert "the job was killed, or ran out of memory or time; run again" in output


@pytest.mark.parametrize("stop", [stop_by_ctrl_c, stop_all_at_once, stop_the_stage])
def test_the_next_call_goes_on_from_the_last_epoch_to_the_same_bits(project, expected, stop):
    with running(project, MODEL, *CALL) as process:
        reach(process, f"epoch 3 of {EPOCHS}")
        stop(project, process)
    while STOPPED not in planned(project):
        time.sleep(0.1)
    assert TAKEN_UP not in project.run(str(HEAD.split)).output, "it takes up nothing"
    assert TAKEN_UP not in planned(project)
    done = project.run(MODEL)
    assert done.output.count(TAKEN_UP) == 1
    assert "resuming from " in done.output
    # an epoch is told of a moment before its checkpoint is written
    assert f"epoch 2 of {EPOCHS}" not in done.output
    assert trained(project) == expected
    again = project.run(MODEL)
    assert "Nothing to be done" in again.output
    assert "half-way" not in again.output
    assert "taken up" not in again.output


def test_a_stage_that_outlives_its_snakemake_is_left_to_finish(project, expected):
    with running(project, MODEL, *CALL) as process:
        reach(process, f"epoch 2 of {EPOCHS}")
        stage = training_of(project)
        os.kill(stage, signal.SIGSTOP)
        process.kill()
        still = f"head: train_segmentation unet 1 still runs (process {stage} "
        assert still in planned(project)
        with running(project, MODEL, *CALL) as following:
            said = reach(following, f"train_segmentation unet 1: waiting for process {stage} on ")
            assert still in said
            os.kill(stage, signal.SIGCONT)
            output = process.communicate()
            said += following.communicate()
    assert following.returncode == 0
    assert f"epoch 4 of {EPOCHS}" in output
    assert "up to date" in said
    assert " epoch " not in said
    assert trained(project) == expected


def test_a_killed_loading_process_is_one_line_and_the_next_call_goes_on(project, expected):
    project.configure(configuration(workers=1))
    with running(project, MODEL, *CALL) as process:
        reach(process, f"epoch 3 of {EPOCHS}")
        stage = training_of(project)
        for child in Path(f"/proc/{stage}/task/{stage}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        output = process.communicate()
    assert process.returncode != 0
    assert "unet, subset 1: a process that loads slices was killed" in output
    assert "Traceback" not in output
    done = project.run(MODEL)
    assert "resuming from " in done.output
    assert trained(project) == expected


def test_a_second_call_on_a_data_set_is_refused_and_one_on_another_is_not(project):
    other = str(Layout(Path("results"), "heart").model("unet", 1))
    config = (project.folder / "config.yaml").read_text("utf-8")
    head, heart = config.index("  head:"), config.index("  heart:")
    (project.folder / "one.yaml").write_text(config[:heart], "utf-8")
    (project.folder / "two.yaml").write_text(config[:head] + config[heart:], "utf-8")
    with running(project, MODEL, "--cores", "1", "--configfile", "one.yaml") as process:
        reach(process, f"epoch 1 of {EPOCHS}")
        stage = training_of(project)
        os.kill(stage, signal.SIGSTOP)
        refused = project.call(MODEL, *CALL)
        assert refused.code == 1
        (line,) = refused.errors
        assert line.startswith("error: data set head: another call works on its results in ")
        assert f"(process {process.pid} on " in line
        assert "Traceback" not in refused.output
        assert "head: another call works on it" in planned(project)
        done = project.call(other, "--cores", "1", "--configfile", "two.yaml", timeout=600)
        assert done.code == 0, done.output[-3000:]
        os.kill(stage, signal.SIGCONT)
        process.communicate()
    assert process.returncode == 0
    for target, config in ((MODEL, "one.yaml"), (other, "two.yaml")):
        assert project.call(target, "-n", "--configfile", config).jobs == []
