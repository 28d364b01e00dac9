"""A tiny project that has really run, and commands in it."""

from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError

EXPERIMENTS = ("plain", "grcsf")
STAGES = [
    ["ingest"],
    ["split"],
    ["train-mae", "--mae", "shared"],
    *(["residual-maps", "--residuals", "mrm", "--batch", f"{n}of2"] for n in (1, 2)),
    *(
        [command, "--experiment", name]
        for command in ("train-segmentation", "predict", "postprocess", "evaluate")
        for name in EXPERIMENTS
    ),
    ["compare"],
]


def call(*arguments):
    """Exit code and output of `grcsf`, or its error."""
    ended = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if isinstance(ended.exception, PipelineError):
        return 1, str(ended.exception)
    assert ended.exception is None or isinstance(ended.exception, SystemExit), ended.exception
    return ended.exit_code, ended.stdout


def trace(file, *options):
    return call("trace", file, *options)


def stage(*arguments, dataset="heart"):
    code, output = call(*arguments, "--config", "config.yaml", "--dataset", dataset)
    assert code == 0, output


def flat(text):
    """A text without its line breaks."""
    return " ".join(text.split())


def write_phantoms(folder):
    chosen = ["--cases", 5, "--unlabelled", 1, "--seed", 3, "--shape", 8, 32, 32]
    code, output = call("phantom", "heart", folder, *chosen)
    assert code == 0, output
