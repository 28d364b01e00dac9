"""What a trained GRCSF takes of an archive of 100,000 brains, and of as many chests.

Run as `python benchmarks/archives.py [--scans 100000] [--kinds head chest]`. Jobs, disk and the
hours of a card are what `grcsf plan` says of `config/recommended-*.yaml`'s GRCSF applied, with the
rates of `benchmarks/rates-h200.json`: one full-size phantom gives the size, and all other scans are
empty files. What the stages on CPUs take is measured: that phantom, under several names, goes
through `snakemake apply` with untrained networks, with few scans and with more, so that what each
job takes to start drops out. These networks are tiny, so of residual maps, of 224 × 224, it is
mostly reading and writing that is measured. Of predictions it would still be the network: they are
left out.
"""

import argparse
import csv
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import yaml
from calls import measured
from keeping import keep
from untrained_bundle import describe_only, write_bundle

ROOT = Path(__file__).parents[1]
KINDS = {  # phantom → reference configuration, modality, slices of the measured networks
    "head": ("atlas", "MR", {"size": [224, 224], "percentiles": [0, 99.9]}),
    "chest": ("lung", "CT", {"size": [224, 224], "window": [-1000, 400]}),
}
FEW, MORE = 2, 8  # scans
CASES_PER_JOB = 80
STAGES = ("ingest", "residual_maps", "postprocess", "measure")


def main() -> None:
    """Print what is planned and what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--scans", type=int, default=100_000)
    parser.add_argument("--kinds", choices=KINDS, nargs="+", default=[*KINDS])
    options = parser.parse_args()
    figures = {}
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            scan = full_size(Path(folder), kind)
            print(planned(Path(folder), kind, scan, options.scans))
            figures[kind] = taken(Path(folder), kind, scan)
        hours = {stage: seconds * options.scans / 3600 for stage, seconds in figures[kind].items()}
        print(f"{'stage':<16}{'s / scan':>10}{'hours of a core':>18}")
        for stage, seconds in figures[kind].items():
            print(f"{stage:<16}{seconds:>10.2f}{hours[stage]:>18,.0f}")
    keep("archives", figures)


def full_size(folder: Path, kind: str) -> Path:
    """A phantom of the reference data set's size."""
    command = [sys.executable, "-m", "pipeline", "phantom", kind, "phantom", "--cases", "1"]
    measured(command, folder)
    images = [*folder.glob("phantom/**/*_T1w.nii.gz"), *folder.glob("phantom/imagesTr/*.nii.gz")]
    return images[0]


def planned(folder: Path, kind: str, scan: Path, scans: int) -> str:
    """What `grcsf plan` says of so many scans of this size."""
    name, modality, _ = KINDS[kind]
    root = folder / "archive"
    root.mkdir()
    os.link(scan, root / "000000.nii.gz")
    for number in range(1, scans):
        (root / f"{number:06d}.nii.gz").touch()
    bundle = describe_only(folder, ROOT / "config" / f"recommended-{name}.yaml", name, modality)
    write_configuration(folder, bundle, root, gpus=1)
    rates = str(ROOT / "benchmarks" / "rates-h200.json")
    command = [sys.executable, "-m", "pipeline", "plan", "config.yaml", "--rates", rates]
    return measured(command, folder).output


def taken(folder: Path, kind: str, scan: Path) -> dict[str, float]:
    """Stage → seconds of one thread for each further scan."""
    _, modality, slices = KINDS[kind]
    bundle = write_bundle(folder, name=kind, slices=slices, modality=modality)
    found: dict[int, dict[str, float]] = {}
    for count in (FEW, MORE):
        project = folder / str(count)
        root = project / "scans"
        root.mkdir(parents=True)
        for number in range(count):
            os.link(scan, root / f"{number}.nii.gz")
        write_configuration(project, bundle, root, gpus=0)
        snakefile = str(ROOT / "workflow" / "Snakefile")
        command = [sys.executable, "-m", "snakemake", "-s", snakefile, "--cores", "1"]
        measured([*command, "--configfile", "config.yaml"], project)
        found[count] = stage_seconds(project / "results" / kind / "benchmarks")
    return {stage: (found[MORE][stage] - found[FEW][stage]) / (MORE - FEW) for stage in STAGES}


def write_configuration(project: Path, bundle: Path, root: Path, gpus: int) -> None:
    """A configuration that applies the bundle to the scans of a folder."""
    resources = {"threads": 1, "gpus": gpus, "cases_per_job": CASES_PER_JOB}
    apply = {"model": str(bundle), "root": str(root), "adapter": "images"}
    (project / "config.yaml").write_text(yaml.safe_dump({"resources": resources, "apply": apply}))


def stage_seconds(folder: Path) -> dict[str, float]:
    """Stage → seconds of all its jobs, as Snakemake has measured them."""
    seconds: dict[str, float] = defaultdict(float)
    for path in folder.rglob("*.tsv"):
        with path.open(encoding="utf-8") as file:
            stage = path.relative_to(folder).parts[0].removesuffix(".tsv")
            seconds[stage] += sum(float(row["s"]) for row in csv.DictReader(file, delimiter="\t"))
    return dict(seconds)


if __name__ == "__main__":
    main()
