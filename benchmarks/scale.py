"""Seconds, memory and files from a thousand cases to a hundred thousand.

Run as `python benchmarks/scale.py [--cases 1000 10000 100000] [--parts planning commands]
[--commands report]`.

- `planning`: Snakemake's dry run, and the call that finds nothing to do, for two methods on empty
  images (`planning.py` times all methods, and repeats).
- `commands`: those that read the results of all cases, on results that `scale_results.py` makes:
  tiny, and mostly links, so their seconds are those of small stores, and their memory is what
  grows with the number of cases. `summary` is what evaluate computes over all rows.
- `--run 2000` runs everything, for real, on so many tiny images, an epoch each.

The last line of each part is the growth of memory from the fewest cases to the most.
"""

import argparse
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import yaml
from calls import Call, measured
from keeping import keep
from planning import ROOT, pretend, snakemake, write_project
from scale_results import DATASET, configuration, write_images, write_results

COMMANDS = {
    "store ls": ("store", "ls"),
    "store verify": ("store", "verify"),
    "store prune": ("store", "prune"),
    "check": ("check", "--dataset", DATASET),
    "summary": (),
    "compare": ("compare", "--dataset", DATASET),
    "tabulate": ("tabulate", "--dataset", DATASET, "--table", "table"),
    "report": ("report", "--dataset", DATASET),
}
RUN_CASES_PER_JOB = 500
LEARN = 12  # cases of a run that train or validate; the others are tested
Figures = dict[str, float]
Rows = Callable[[Path, int], Iterator[tuple[str, Call, Figures]]]


def main() -> None:
    """Measure, print the tables and keep their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--parts", choices=("planning", "commands"), nargs="*")
    parser.add_argument("--commands", choices=COMMANDS, nargs="+", default=list(COMMANDS))
    parser.add_argument("--run", type=int, help="run everything on so many tiny images")
    options = parser.parse_args()
    parts = ("planning", "commands") if options.parts is None else options.parts
    rows = {"planning": planned, "commands": partial(called, options.commands)}
    for name in parts:
        keep(f"scale, {name}", table(rows[name], options.cases))
    if options.run:
        with tempfile.TemporaryDirectory() as folder:
            keep("scale, run", run(Path(folder), options.run))


def table(rows: Rows, counts: Sequence[int]) -> dict[str, dict[int, Figures]]:
    """Print a row for each call and number of cases as it is measured; the figures."""
    found: dict[str, dict[int, Figures]] = {}
    print(f"{'call':<16}{'cases':>8}{'wall s':>9}{'processor s':>13}{'MB':>7}  further")
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            for name, call, further in rows(Path(folder) / "project", count):
                taken = f"{call.wall:>9.1f}{call.processor:>13.1f}{call.peak_mb:>7.0f}"
                told = ", ".join(f"{value:,.0f} {what}" for what, value in further.items())
                print(f"{name:<16}{count:>8}{taken}  {told}", flush=True)
                figures = {**call._asdict(), **further}
                figures.pop("output")
                found.setdefault(name, {})[count] = figures
    fewest, most = min(counts), max(counts)
    for name, taken in found.items() if most > fewest else ():
        more = taken[most]["peak_mb"] - taken[fewest]["peak_mb"]
        print(f"{name}: {more:+.0f} MB from {fewest:,} to {most:,} cases")
    return found


def planned(project: Path, count: int) -> Iterator[tuple[str, Call, Figures]]:
    """The two calls of Snakemake, with the number of jobs, and that of all files then."""
    cases = write_project(project, count, methods="few")
    dry = snakemake(project, "-n")
    jobs = int(re.findall(r"^total +(\d+)$", dry.output, re.MULTILINE)[0])
    yield "dry run", dry, {"jobs": jobs}
    pretend(project, cases)
    done = snakemake(project, "--cores", "1")
    assert "Nothing to be done" in done.output, done.output
    yield "nothing to do", done, {"files": files_in(project)[0]}


def called(names: Sequence[str], project: Path, count: int) -> Iterator[tuple[str, Call, Figures]]:
    """The commands, each in a process of its own."""
    project.mkdir()
    write_results(project, count)
    # what evaluate has written of the same rows is there before compare needs it
    for name in ("summary", *(name for name in names if name != "summary")):
        if name == "summary":
            command = [sys.executable, ROOT / "benchmarks" / "scale_results.py", "."]
        else:
            command = [sys.executable, "-m", "pipeline", *COMMANDS[name]]
            command += ["--config", "config.yaml"]
        yield name, measured(command, project), {}


def run(project: Path, count: int) -> Figures:
    """Everything that a run makes of tiny images; what it took and left."""
    names = [f"sub-{number:06d}" for number in range(1, count + 1)]
    roles = ["train"] * (LEARN * 2 // 3) + ["validation"] * (LEARN // 3)
    write_images(project / "images", names, roles)
    config = configuration(RUN_CASES_PER_JOB)
    chosen = config["datasets"][DATASET]
    chosen["mae"]["shared"] |= {"epochs": 1, "batch_size": 8}
    training = {"epochs": 1, "batch_size": 8, "warmup_epochs": 1}
    for experiment in chosen["experiments"].values():
        experiment["training"] = training
    chosen["experiments"]["grcsf"]["rcu"] = {"patch_sizes": [4, 4, 8]}
    (project / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
    call = snakemake(project, "--cores", str(os.cpu_count()))
    files, largest = files_in(project / "results")
    jobs = int(re.findall(r"^(\d+) of \1 steps \(100%\) done$", call.output, re.MULTILINE)[-1])
    print(
        f"a run of {count:,} cases: {jobs} jobs, {call.wall:,.0f} s ({call.processor:,.0f} s of "
        f"the processor), {call.peak_mb:,.0f} MB in the largest process, {files:,} files, at most "
        f"{largest:,} entries in a folder"
    )
    taken = {"cases": count, "jobs": jobs, "files": files, "largest_folder": largest}
    return {**taken, "wall": call.wall, "processor": call.processor, "peak_mb": call.peak_mb}


def files_in(folder: Path) -> tuple[int, int]:
    """The files below a folder, and the most entries that one folder has."""
    files = most = 0
    for _, folders, names in os.walk(folder):
        files += len(names)
        most = max(most, len(folders) + len(names))
    return files, most


if __name__ == "__main__":
    main()
