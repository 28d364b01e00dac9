"""Empty-file data sets, and Snakemake's plan for them, and its runs."""

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer

import pytest
import yaml

from tests.workflow import tiny
from tests.workflow.warm import Process

ROOT = Path(__file__).parents[2]
NO_NETWORK = str(Path(__file__).parent / "no_network")
ALL = ("all results", "all tables", "all figures")  # the targets, which make nothing themselves


@dataclass
class Plan:
    """What a call of Snakemake said."""

    code: int
    output: str
    jobs: list[str] = field(default_factory=list)  # "stage dataset: names"
    seconds: float = 0.0  # of the processor, jobs included

    @property
    def counts(self) -> dict[str, int]:
        """Jobs by stage."""
        return dict(Counter(job.split(" ")[0] for job in self.jobs))

    @property
    def commands(self) -> list[str]:
        return re.findall(r"^Shell command: (python .*)$", self.output, re.MULTILINE)

    @property
    def errors(self) -> list[str]:
        """What stands after the profile's name and the header, when nothing could be planned."""
        return [line for line in self.output.splitlines() if line.startswith("error: ")]


@dataclass
class Project:
    """A working directory with images below `images/` and a `config.yaml`."""

    folder: Path
    checkout: Path = ROOT

    def copy_checkout(self) -> None:
        """Go on with a checkout that may be changed."""
        if self.checkout == ROOT:
            self.checkout = self.folder / "checkout"
            for part in ("workflow", "pipeline", "grcsf", "envs"):
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(ROOT / part, self.checkout / part, ignore=ignored)

    def python(self, *arguments: str) -> Process:
        """Start a Python here that knows the checkout and no network."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = f"{self.checkout}:{NO_NETWORK}"
        return Process(list(arguments), self.folder, environment)

    def start(self, *arguments: str) -> Process:
        """Start Snakemake here on the workflow of the checkout."""
        return self.python(
            "-m", "snakemake", "-s", f"{self.checkout}/workflow/Snakefile", *arguments
        )

    def call(self, *arguments: str, timeout: int = 120) -> Plan:
        """Call Snakemake here and wait for its end."""
        process = self.start(*arguments)
        alarm = Timer(timeout, process.kill_group)
        alarm.start()
        output = process.communicate()
        alarm.cancel()
        told = re.findall(r"^Job \d+: (.*)$", output, re.MULTILINE)
        jobs = [job for job in told if job not in ALL]
        return Plan(process.returncode, output, jobs, process.seconds)

    def run(self, *arguments: str) -> Plan:
        """Run `config.yaml` for real, which must succeed."""
        done = self.call(*arguments, "--cores", "2", "--configfile", "config.yaml", timeout=1200)
        assert done.code == 0, done.output[-6000:]
        return done

    def plan(self, *arguments: str) -> Plan:
        """The dry run's plan for `config.yaml`, which must succeed."""
        plan = self.call("-n", "--configfile", "config.yaml", *arguments)
        assert plan.code == 0, plan.output
        return plan

    def configure(self, config: dict, cases: int = 0, adapter: str = "atlas") -> None:
        """Write `config.yaml`, and empty images; more of them when called again."""
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        for path in LAYOUTS[adapter](self.folder / "images", cases) if cases else ():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.touch()

    def change(self, keys: str, value) -> None:
        """Set one value of `config.yaml`, or drop it (`value` None); keys are joined by points."""
        config = yaml.safe_load((self.folder / "config.yaml").read_text("utf-8"))
        section = config = json.loads(json.dumps(config))  # without what YAML lets parts share
        *way, last = keys.split(".")
        for key in way:
            section = section.setdefault(key, {})
        section[last] = value
        if value is None:
            del section[last]
        self.configure(config)


def configuration(adapter: str) -> dict:
    """One data set with two experiments; the residual set `unused` serves none of them."""
    maps = [{"mae": "m50", "mask_ratio": 0.5}, {"mae": "m75", "mask_ratio": 0.75}]
    return {
        "resources": {"cases_per_job": 8},
        "datasets": {
            "images": {
                "source": {"adapter": adapter, "root": "images"},
                "slices": {"size": [32, 32], "percentiles": [0, 99.9]},
                "mae": {name: {"preset": "tiny"} for name in ("m50", "m75", "spare")},
                "residuals": {
                    "mrm": {"preset": "paper", "maps": maps},
                    "unused": {
                        "preset": "paper",
                        "maps": [{"mae": "spare", "mask_ratio": 0.5}] * 2,
                    },
                },
                "experiments": {
                    "unet++": {"model": "unetpp"},
                    "grcsf": {"model": "grcsf", "residuals": "mrm"},
                },
            }
        },
    }


def _atlas(root: Path, cases: int):
    for index in range(cases):
        cohort, subject = f"{index % 8 + 1:03d}", f"{index + 1:03d}"
        name = f"sub-r{cohort}s{subject}"
        folder = root / "Training" / f"R{cohort}" / name / "ses-1" / "anat"
        stem = f"{name}_ses-1_space-MNI152NLin2009aSym"
        yield folder / f"{stem}_T1w.nii.gz"
        yield folder / f"{stem}_label-L_desc-T1lesion_mask.nii.gz"


def _msd(root: Path, cases: int):
    root.mkdir(parents=True, exist_ok=True)
    names = [f"lung_{index:03d}.nii.gz" for index in range(cases)]
    pairs = [{"image": f"./imagesTr/{one}", "label": f"./labelsTr/{one}"} for one in names]
    (root / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "training": pairs}))
    for name in names:
        yield root / "imagesTr" / name
        yield root / "labelsTr" / name


def _orcascore(root: Path, cases: int):
    for index in range(cases):
        name = f"TRV{index % 4 + 1}P{index}"
        for suffix in ("mhd", "raw"):
            yield root / "Training Set" / "Images" / f"{name}CTI.{suffix}"
            yield root / "Training Set" / "Reference standard" / f"{name}R.{suffix}"


def _nnunet(root: Path, cases: int):
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps({"channel_names": {"0": "CT"}}))
    for index in range(cases):
        yield root / "imagesTr" / f"case_{index:03d}_0000.nii.gz"
        yield root / "labelsTr" / f"case_{index:03d}.nii.gz"


def _manifest(root: Path, cases: int):
    root.mkdir(parents=True, exist_ok=True)
    names = [f"case{index}" for index in range(cases)]
    lines = [f"{name},{name}.nii.gz,{name}-mask.nii.gz" for name in names]
    (root / "manifest.csv").write_text("\n".join(["case,image,label", *lines]) + "\n")
    for name in names:
        (root / f"{name}.nii.gz").touch()
        yield root / f"{name}.nii.gz"
        (root / f"{name}-mask.nii.gz").touch()
        yield root / f"{name}-mask.nii.gz"


def _dicom(root: Path, cases: int):
    root.mkdir(parents=True, exist_ok=True)
    lines = [f"patient{index},patient{index},patient{index}.nii.gz" for index in range(cases)]
    (root / "manifest.csv").write_text("\n".join(["case,image,label", *lines]) + "\n")
    for index in range(cases):
        yield root / f"patient{index}.nii.gz"
        for number in range(3):
            yield root / f"patient{index}" / f"{number}.dcm"


LAYOUTS = {
    "atlas": _atlas,
    "msd": _msd,
    "orcascore": _orcascore,
    "nnunet": _nnunet,
    "manifest": _manifest,
    "dicom": _dicom,
}


@pytest.fixture(scope="session")
def new_project() -> type[Project]:
    """`Project`, to make several."""
    return Project


@pytest.fixture
def project(tmp_path) -> Project:
    """An empty project."""
    return Project(tmp_path)


@pytest.fixture
def config() -> dict:
    """The configuration of an ATLAS folder."""
    return configuration("atlas")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project of tiny data sets in which everything has run; to be copied, or only read.

    All workers of a session share it, and the first that needs it makes it.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    project = Project(base / "finished-project")
    with (base / "finished-project.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (project.folder / "results").exists():
            tiny.write_images(project.folder / "images")
            tiny.write_weights(project.folder, seed=3)
            tiny.write_sam(project.folder, seed=6)
            for tested in (3, 4):
                tiny.give(project.folder, tested)
            project.configure(tiny.with_untrained())
            project.run()
    return project


@pytest.fixture
def again(finished, tmp_path) -> Project:
    """A copy of the finished project, to change."""
    # in a third of the time that `shutil.copytree` takes for 100 MB
    subprocess.run(["cp", "-a", finished.folder, tmp_path / "again"], check=True)
    return Project(tmp_path / "again")
