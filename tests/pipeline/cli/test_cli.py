"""A user's or the machine's fault is one line and exit code 1, never a traceback."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import pipeline.split
from pipeline import cli
from pipeline.errors import PipelineError

CHECKOUT = Path(__file__).parents[3]


def run(*arguments: str, cwd: Path = CHECKOUT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        encoding="utf-8",
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config", "none.yaml", "--dataset", "heart"], "configuration none.yaml: No such file"),
        (["--config", "config/demo.yaml", "--dataset", "hart"], "no 'hart'; it has: heart, head"),
        (
            ["--config", "config/demo.yaml", "--dataset", "heart", "--set", '{"seed": "x"}'],
            "seed: found 'x' (str), expected a whole number",
        ),
        (
            ["--config", "config/demo.yaml", "--dataset", "heart", "--set", "{"],
            "--set: found '{', expected JSON",
        ),
    ],
)
def test_a_users_fault_is_one_line(arguments, said):
    done = run("split", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_unknown_experiments_are_named_with_the_known_ones():
    done = run("predict", "--config", "config/demo.yaml", "--dataset", "heart", "--experiment", "x")
    assert done.returncode == 1
    assert "--experiment: there is no 'x'; choose from: unetpp, grcsf" in done.stderr


@pytest.fixture
def call_split(monkeypatch):
    """`grcsf split` in this process, with a fault of the machine put in its way."""

    def call(fault: Exception) -> str:
        def fail(*_):
            raise fault

        monkeypatch.setattr(pipeline.split, "split", fail)
        config = str(CHECKOUT / "config" / "demo.yaml")
        monkeypatch.setattr(
            sys, "argv", ["grcsf", "split", "--config", config, "--dataset", "heart"]
        )
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return str(ended.value.code)

    return call


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left; free some and run again"),
        (errno.EROFS, "read-only file system"),
        (errno.EACCES, "not permitted; make the folder writable"),
    ],
)
def test_the_machines_faults_name_the_file_and_the_remedy(call_split, number, said):
    message = call_split(OSError(number, os.strerror(number), "results/a.zarr"))
    assert message.startswith("error: results/a.zarr: ")
    assert said in message


def test_several_faults_are_several_lines(call_split):
    assert call_split(PipelineError("one\ntwo")) == "error: one\ntwo"


def test_a_fault_in_the_program_is_not_hidden(call_split):
    with pytest.raises(ZeroDivisionError):
        call_split(ZeroDivisionError())


def test_a_file_where_the_results_should_be_is_told(tmp_path):
    (tmp_path / "taken").write_text("")
    config = yaml.safe_load((CHECKOUT / "config" / "demo.yaml").read_text("utf-8"))
    config["results"] = str(tmp_path / "taken")
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    done = run("split", "--config", str(tmp_path / "c.yaml"), "--dataset", "heart", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "taken") in done.stderr


def loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules a fresh process has imported after the code."""
    asked = f"{code}\nimport sys\nprint(*(set({names}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=CHECKOUT, encoding="utf-8", capture_output=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_help_needs_no_heavy_library():
    assert loaded("import pipeline.cli", ("torch", "zarr", "SimpleITK", "numpy")) == []
    assert "residual-maps" in run("--help").stdout


PARTS = ("timm", "transformers", "torchvision", "monai", "scipy", "matplotlib", "pandas")
"""What a few stages import for a few of their settings, with all that it brings along."""


@pytest.mark.parametrize(
    ("stages", "left_out"),
    [
        (("ingest", "split"), ("torch", "scipy", "pandas", "matplotlib")),
        (
            ("postprocess", "evaluate", "compare", "tabulate"),
            ("torch", "scipy.stats", "skimage", "matplotlib"),
        ),
        (("report",), ("torch", "scipy.stats", "skimage", "matplotlib.pyplot")),
        (("residual_maps", "predict"), ("lightning", "torchmetrics", "torch._dynamo", *PARTS)),
        (("train_mae", "train_segmentation"), ("torchmetrics.functional", *PARTS)),
    ],
)
def test_stages_start_without_what_they_do_not_need(stages, left_out):
    modules = ", ".join(f"pipeline.{stage}" for stage in stages)
    assert loaded(f"import {modules}", left_out) == []


def test_a_masked_model_is_made_for_its_weights_without_torchs_compiler():
    code = (
        "from pipeline.networks.build import masked_model\n"
        "from pipeline.settings import Mae\n"
        "masked_model(Mae(preset='tiny', image_size=32, patch_size=8))"
    )
    assert loaded(code, ("torch._dynamo",)) == []


def test_torchmetrics_is_whole_where_more_of_it_is_asked_for():
    code = (
        "import lightning\n"
        "from torchmetrics.functional.image import structural_similarity_index_measure\n"
        "from torchmetrics import Metric, SumMetric\n"
        "assert issubclass(SumMetric, Metric) and float(SumMetric()(2.0)) == 2.0"
    )
    names = ("torchmetrics.functional", "torchmetrics.classification")
    assert sorted(loaded(f"import pipeline.networks\n{code}", names)) == sorted(names)
