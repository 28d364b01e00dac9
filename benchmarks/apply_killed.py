"""A model applied to real scans, killed again and again, against a run that nobody disturbed.

Run as `GRCSF_SHARED=… python benchmarks/apply_killed.py [--kills 10]`. The scans are those of
`real/nodules` and `real/chest` of that folder, named by one CSV; a mask among them is no CT, and so
set aside. The call is killed with all its jobs (SIGKILL) at random moments, then called once more.
Its table has to be that of the undisturbed run, seconds aside, and its masks the same bytes.
"""

import argparse
import csv
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from keeping import keep
from untrained_bundle import write_bundle

ROOT = Path(__file__).parents[1]
SHARED = "GRCSF_SHARED"


def main() -> None:
    """Run both, and print what they have in common."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=23, help="of the moments")
    parser.add_argument("--model", type=Path, help="a bundle; without one, untrained networks")
    parser.add_argument("--cases-per-job", type=int, default=40)
    options = parser.parse_args()
    if SHARED not in os.environ:
        sys.exit(f"{SHARED}: not set, expected the folder that holds real/nodules and real/chest")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        scans = write_list(Path(os.environ[SHARED]) / "real", folder / "scans.csv")
        model = options.model or write_bundle(folder)
        config = folder / "config.yaml"
        config.write_text(
            f"resources: {{threads: 1, cases_per_job: {options.cases_per_job}}}\n"
            f"apply: {{model: {model.resolve()}, root: {folder / 'scans.csv'}}}\n"
        )
        started = time.monotonic()
        call(folder, "undisturbed").wait()
        alone = time.monotonic() - started
        moments = random.Random(options.seed)
        reached = [
            kill_after(folder, moments.uniform(0.05, 0.2) * alone) for _ in range(options.kills)
        ]
        call(folder, "killed").wait()
        expected, found = (results(folder / name) for name in ("undisturbed", "killed"))
    print(f"scans listed                  {scans}")
    print(f"an undisturbed run            {alone:.0f} s")
    for seconds, finished in reached:
        print(f"killed after {seconds:5.1f} s          {finished} jobs done by then")
    for name in expected:
        same = "the same" if expected[name] == found[name] else "DIFFERENT"
        print(f"{name:30}{len(expected[name])} and {len(found[name])}, {same}")
    keep("apply_killed", {"scans": scans, "kills": options.kills, "same": expected == found})
    if expected != found or len(found["rows of the table"]) != scans:
        sys.exit("error: the disturbed run ended with something else")


def write_list(real: Path, table: Path) -> int:
    """Write a CSV with every scan of both folders; their number."""
    images = sorted(real.glob("nodules/Task06_Lung/images*/*.nii.gz"))
    images += sorted(real.glob("chest/*.nii.gz"))
    rows = [(image.name.removesuffix(".nii.gz"), image.resolve()) for image in images]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("case", "image"), *rows])
    return len(rows)


def call(folder: Path, results: str) -> subprocess.Popen[bytes]:
    """Start `snakemake apply` in a process group of its own; it says nothing but its jobs."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    place = folder / f"of-{results}"
    place.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "-s", str(ROOT / "workflow" / "Snakefile")]
    command += ["apply", "--cores", "2", "--configfile", str(folder / "config.yaml")]
    command += ["--config", f"results={folder / results}"]
    with (place / "said.txt").open("ab") as said:
        return subprocess.Popen(
            command, cwd=place, env=environment, stdout=said, stderr=said, start_new_session=True
        )


def kill_after(folder: Path, seconds: float) -> tuple[float, int]:
    """Start the call, kill all of it after a while; these seconds, and the jobs done until now."""
    process = call(folder, "killed")
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = (folder / "of-killed" / "said.txt").read_text("utf-8")
    return seconds, said.count("\nFinished ")


def results(folder: Path) -> dict[str, dict[str, object]]:
    """The rows of the table by scan, seconds aside, and the digest of every mask."""
    (table,) = folder.glob("*/measure/table.csv")
    with table.open(newline="") as file:
        rows = {row["case"]: {**row, "seconds": ""} for row in csv.DictReader(file)}
    masks = sorted(folder.glob("*/postprocess/**/*.nii.gz"))
    return {
        "rows of the table": rows,
        "of these with a fault": {case: row["fault"] for case, row in rows.items() if row["fault"]},
        "masks": {mask.name: hashlib.sha256(mask.read_bytes()).hexdigest() for mask in masks},
    }


if __name__ == "__main__":
    main()
