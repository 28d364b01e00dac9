"""A user's or the machine's fault is one line and exit code 1, never a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pipeline.split
from pipeline import cli
from pipeline.errors import PipelineError

CHECKOUT = Path(__file__).parents[3]
DEMO = str(CHECKOUT / "config" / "demo.yaml")
SPLIT = ("split", "--config", DEMO, "--dataset", "heart")


def start(*arguments: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own, elsewhere than in the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), **env},
        encoding="utf-8",
        errors="replace",
        capture_output=True,
        check=False,
    )


@pytest.fixture
def message(tmp_path, monkeypatch):
    """What `grcsf` ends with, called in this process in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["grcsf", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return str(ended.value.code)

    return call


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--config", "none.yaml"], "configuration none.yaml: No such file"),
        (["--dataset", "hart"], "no 'hart'; it has: heart, head"),
        (["--set", '{"seed": "x"}'], "seed: found 'x' (str), expected a whole number"),
        (["--set", "{"], "--set: found '{', expected JSON"),
    ],
)
def test_a_users_fault_is_one_line(message, arguments, reason):
    said = message(*SPLIT, *arguments)
    assert said.startswith("error: ")
    assert reason in said
    assert len(said.splitlines()) == 1


STAGES = {
    "ingest": [],
    "residual-maps": ["--residuals", "mrm"],
    "predict": ["--experiment", "unetpp"],
    "postprocess": ["--experiment", "unetpp", "--subset", "1"],
    "evaluate": ["--experiment", "unetpp"],
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("batch", ["3of2", "0of0", "1of3", "2of", "1of" + 5000 * "9"])
def test_a_batch_that_no_plan_has_is_refused(message, stage, batch):
    said = message(stage, *SPLIT[1:], *STAGES[stage], "--batch", batch)
    assert said.startswith(f"error: --batch: found '{batch[:50]}")
    assert said.endswith("expected one of 1, 2, 4, 8 … batches, such as 2of4")


@pytest.fixture
def message_after(message, monkeypatch):
    """What `grcsf split` ends with that meets a fault."""

    def call(fault: Exception) -> str:
        def fail(*_, **__):
            raise fault

        monkeypatch.setattr(pipeline.split, "split", fail)
        return message(*SPLIT)

    return call


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "no space left; free some and run again"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "not permitted; make the folder writable"),
        (errno.ENAMETOOLONG, "File name too long; correct the path"),
    ],
)
def test_the_machines_faults_name_the_file_and_the_remedy(message_after, number, remedy):
    said = message_after(OSError(number, os.strerror(number), "results/a.zarr"))
    assert said.startswith("error: results/a.zarr: ")
    assert remedy in said


@pytest.mark.processes
def test_a_name_that_the_terminal_cannot_show_ends_no_command(tmp_path):
    code = (
        "import sys, typer; from pipeline import cli; from pipeline.cli.job import app\n"
        "@app.command()\n"
        "def show():\n"
        "    from rich.console import Console\n"
        "    typer.echo('Fälle × 2 → Ω'); Console().print('Ω\\udcff')\n"
        "    raise cli.PipelineError('Ω is gone')\n"
        "sys.argv = ['grcsf', 'show']; cli.main()"
    )
    ended = start("-c", code, cwd=tmp_path, PYTHONIOENCODING="latin-1", PYTHONUTF8="0")
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False), ended.stderr
    assert ended.stdout.count("?") >= 3
    assert ended.stderr == "error: ? is gone\n"


def test_nested_settings_on_the_command_line(message):
    said = message(*SPLIT, "--set", "[" * 100_000)
    assert said.startswith("error: --set: found '[[")
    assert len(said) < 500


@pytest.mark.parametrize(
    ("command", "output"),
    [
        (("predict", "a.nii.gz", "--model", "m.zip"), "file/below"),
        (("predict", "a.nii.gz", "--model", "m.zip"), "file"),
        (("explain", "a", *SPLIT[1:], "--experiment", "grcsf"), "file/below"),
    ],
)
def test_an_output_below_a_file(message, tmp_path, command, output):
    (tmp_path / "file").touch()
    said = message(*command, "--output", output)
    told = "a file is where a folder is needed; choose another --output"
    assert said == f"error: --output: {output}: {told}"


def test_several_faults_are_several_lines(message_after):
    assert message_after(PipelineError("one\ntwo")) == "error: one\ntwo"


def test_a_fault_in_the_program_is_not_hidden(message_after):
    with pytest.raises(ZeroDivisionError):
        message_after(ZeroDivisionError())


def loaded(code: str, names: tuple[str, ...], folder: Path) -> set[str]:
    """Which of these modules a fresh process has imported after the code."""
    ended = start(
        "-c", f"{code}\nimport sys\nprint(*({set(names)} & set(sys.modules)))", cwd=folder
    )
    assert ended.returncode == 0, ended.stderr
    return set(ended.stdout.split())


@pytest.mark.processes
def test_help_needs_no_heavy_library(tmp_path):
    heavy = ("torch", "zarr", "SimpleITK", "numpy")
    assert loaded("import pipeline.cli", heavy, tmp_path) == set()
    assert "residual-maps" in start("-m", "pipeline", "--help", cwd=tmp_path).stdout


# What a few stages import for a few of their settings, with all that it brings along.
RARE = ("timm", "transformers", "torchvision", "monai", "scipy")
# A network and a masked model without values: torch makes tensors of them with its compiler.
MADE_EMPTY = (
    "import torch\n"
    "from grcsf.models.build import build_segmentation_model\n"
    "from pipeline.networks.build import empty_masked_model\n"
    "from pipeline.settings import Mae\n"
    "empty_masked_model(Mae(preset='tiny', image_size=32, patch_size=8))\n"
    "with torch.device('meta'):\n"
    "    build_segmentation_model('unetpp', width=1, input_size=(32, 32))"
)


# In a process: what is imported or done in turn, and what has not been imported after it.
FIRST = [
    ("ingest, split", ("torch", "SimpleITK", "scipy", "pandas", "matplotlib")),
    (
        "postprocess, evaluate, compare, tabulate",
        ("torch", "SimpleITK", "scipy.stats", "skimage", "matplotlib"),
    ),
    ("report", ("torch", "scipy.stats", "skimage", "matplotlib.pyplot")),
]
WITH_NETWORKS = [
    ("residual_maps, predict", ("lightning", "torchmetrics", "torch._dynamo", *RARE)),
    (MADE_EMPTY, ("torch._dynamo",)),
    (
        "draw",
        ("lightning", "torchmetrics", "torch._dynamo", "scipy.stats", "matplotlib.pyplot"),
    ),
]
TRAINING = [("train_mae, train_segmentation", ("torchmetrics.functional", *RARE))]


def importing(steps):
    """The code of these steps, which ends at the first that imports what it should not."""
    lines = ["import sys"]
    for step, left_out in steps:
        lines.append(step if "import" in step else f"from pipeline import {step}")
        lines += [f"found = {set(left_out)} & set(sys.modules)", "assert not found, found"]
    return "\n".join(lines)


@pytest.mark.processes
@pytest.mark.parametrize("steps", [FIRST, WITH_NETWORKS])
def test_stages_start_without_what_they_do_not_need(tmp_path, steps):
    assert loaded(importing(steps), (), tmp_path) == set()


@pytest.mark.processes
def test_trainings_start_with_a_torchmetrics_that_is_whole_where_more_is_asked_for(tmp_path):
    code = (
        f"{importing(TRAINING)}\n"
        "from torchmetrics.functional.image import structural_similarity_index_measure\n"
        "from torchmetrics import Metric, SumMetric\n"
        "assert issubclass(SumMetric, Metric) and float(SumMetric()(2.0)) == 2.0"
    )
    names = ("torchmetrics.functional", "torchmetrics.classification")
    assert loaded(code, names, tmp_path) == set(names)


@pytest.mark.processes
def test_threads_are_bound_before_numpy_is_imported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.cli import job\n"
        "job.bound_threads = lambda threads: print(threads, 'numpy' in sys.modules)\n"
        f"job.open_job(Path({DEMO!r}), '', 'heart', training=True, experiment='unetpp', subset=1)"
    )
    assert start("-c", code, cwd=tmp_path).stdout == "1 False\n"
