"""Processor seconds that jobs take before they work: their imports, as ratios to torch's.

Run as `python benchmarks/starts.py [--repeats 5] [--no-jobs]`. Each figure is the median, user and
system time, of several fresh processes that do nothing else; `import torch` is measured among them
in the same run. Every stage has two: its module, and all that one small job of it had imported when
it ended, so that an import which is only put off still counts. The last is `grcsf --help`.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import yaml
from keeping import keep

from pipeline.storage.layout import STAGES

ROOT = Path(__file__).parents[1]
DATASET = "heart"
GOALS = {
    **dict.fromkeys(STAGES, 0.8),
    **dict.fromkeys(("train_mae", "train_segmentation"), 2.5),
    **dict.fromkeys(("residual_maps", "predict", "draw"), 1.9),
}
HELP, HELP_GOAL = "grcsf --help", 0.5
OPTIONS = {
    "train_mae": ("--mae", "shared"),
    "residual_maps": ("--residuals", "mrm"),
    "train_segmentation": ("--experiment", "grcsf"),
    "predict": ("--experiment", "grcsf"),
    "postprocess": ("--experiment", "grcsf"),
    "evaluate": ("--experiment", "grcsf"),
    "tabulate": ("--table", "scores"),
    "draw": ("--figure", "methods"),
}
JOB = """
import atexit, json, pathlib, sys
path = pathlib.Path(sys.argv.pop(1))
atexit.register(lambda: path.write_text(json.dumps(list(sys.modules))))
from pipeline.cli import main
main()
"""
AGAIN = """
import importlib, json, pathlib, sys
for name in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    try:
        importlib.import_module(name)
    except ImportError:  # made while the job ran
        pass
"""


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-jobs", action="store_true", help="modules alone, in a minute")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lists = {} if options.no_jobs else modules_of_jobs(Path(folder))
        codes = {"torch": ["-c", "import torch"]}
        codes |= {stage: ["-c", f"import pipeline.{stage}"] for stage in STAGES}
        codes |= {f"{stage} job": ["-c", AGAIN, str(path)] for stage, path in lists.items()}
        codes[HELP] = ["-m", "pipeline", "--help"]
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in codes}
        for _ in range(options.repeats):
            for name, arguments in codes.items():
                taken[name].append(seconds(arguments))
    processor = {name: median(one for one, _ in times) for name, times in taken.items()}
    wall = median(one for _, one in taken[HELP])
    print_table(processor, wall)
    keep("starts", {"processor_s": processor, "help_wall_s": wall, "goals": GOALS})


def modules_of_jobs(folder: Path) -> dict[str, Path]:
    """Run every stage once on a few small phantoms; what each process has imported, as JSON."""
    config = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text("utf-8"))
    dataset = config["datasets"][DATASET]
    dataset["slices"]["size"] = [32, 32]
    dataset["split"] = {"test": 3, "validation": 2}
    dataset["mae"]["shared"] |= {"image_size": 32, "epochs": 1}
    dataset["experiments"] = {"grcsf": dataset["experiments"]["grcsf"]}
    dataset["experiments"]["grcsf"]["training"]["epochs"] = 2
    dataset["experiments"]["grcsf"]["rcu"]["patch_sizes"] = [4, 4, 4]
    dataset["evaluation"] = {"metrics": "calcium"}
    rows = [{"experiment": "grcsf", "labels": ["GRCSF"]}]
    dataset["tables"] = {
        "scores": {"title": "Scores", "headings": ["Network"], "columns": ["dice"], "rows": rows}
    }
    config["datasets"] = {DATASET: dataset}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
    images = Path(config["results"], DATASET, "phantom")
    size = ["--cases", "9", "--shape", "8", "64", "64"]
    run(folder, "-m", "pipeline", "phantom", DATASET, str(images), *size)
    lists = {stage: folder / f"{stage}.json" for stage in STAGES}
    where = ["--config", "config.yaml", "--dataset", DATASET]
    for stage, path in lists.items():
        command = [stage.replace("_", "-"), *where, *OPTIONS.get(stage, ())]
        run(folder, "-c", JOB, str(path), *command)
    return lists


def run(folder: Path, *arguments: str) -> None:
    """Call Python in a folder; what it says is shown where it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout)


def seconds(arguments: list[str]) -> tuple[float, float]:
    """Seconds of a fresh Python: of the processor, and on the wall."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"python {' '.join(arguments)[:200]}: ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, time.perf_counter() - started


def print_table(processor: dict[str, float], wall: float) -> None:
    """Seconds, and ratios to torch."""
    torch = processor["torch"]
    print(f"{'import':<22}{'s':>7}{'ratio':>8}{'goal':>7}   {'all of a job: s':>15}{'ratio':>8}")
    print(f"{'torch':<22}{torch:>7.2f}{1:>8.2f}")
    for stage, goal in GOALS.items():
        taken = processor[stage]
        line = f"{stage:<22}{taken:>7.2f}{taken / torch:>8.2f}{goal:>7.1f}"
        if (whole := processor.get(f"{stage} job")) is not None:
            line += f"   {whole:>15.2f}{whole / torch:>8.2f}"
        print(line)
    print(
        f"{HELP}: {wall:.2f} s on the wall, {processor[HELP]:.2f} of the processor; goal ", end=""
    )
    print(f"{HELP_GOAL} s")


if __name__ == "__main__":
    main()
