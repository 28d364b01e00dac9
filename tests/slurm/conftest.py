"""Private SLURMs of two nodes, and runs of the workflow on them.

Time goes into starting Python, three times for each job, so tests share what they start from. The
files beside this one need one cluster each, and run side by side (`make test-slurm`).
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from pipeline.networks.history import read_history
from pipeline.settings.reading import merge

CHECKOUT = Path(__file__).parents[2]
CLUSTER = Path(__file__).with_name("cluster.sh")
ACCOUNTING = "--accounting"
PROFILE = CHECKOUT / "workflow" / "profiles" / "slurm"
CONFIG = {
    "resources": {"threads": 2, "memory_mb": 1900, "minutes": 7},
    "datasets": {
        "heart": {
            "source": {
                "adapter": "orcascore",
                "phantom": {"kind": "heart", "cases": 4, "seed": 3, "shape": [8, 32, 32]},
            },
            "slices": {"size": [32, 32], "window": [-200, 800]},
            "split": {"test": 1, "validation": 1},
            "mae": {"m": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}},
            "residuals": {"r": {"preset": "fast", "maps": [{"mae": "m", "mask_ratio": 0.5}]}},
            "experiments": {
                "grcsf": {
                    "model": "grcsf",
                    "residuals": "r",
                    "width": 2,
                    "rcu": {"patch_sizes": [4, 4, 8]},
                    "training": {"epochs": 2, "batch_size": 8, "warmup_epochs": 1},
                },
            },
            "postprocess": {"method": "calcium"},
            "evaluation": {"metrics": "calcium", "bootstrap_samples": 100},
        }
    },
}
ON_CARDS = ("train_mae", "residual_maps", "train_segmentation", "predict")
# A training of some seconds that needs no other, to be disturbed.
UNET = {"model": "unet", "width": 2, "training": {"epochs": 40, "batch_size": 8, "patience": 40}}
TRAINING = "results/heart/train_segmentation/unet/subset-1"
TRAINED = f"{TRAINING}.json"


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what comes after seconds; the test's own time limit is the bound."""
    while not condition():
        time.sleep(0.05)


@dataclass(frozen=True)
class Cluster:
    """A running SLURM: what a user's shell has to know of it, and whether it keeps accounts."""

    environment: dict[str, str]
    accounting: bool

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, env=self.environment, capture_output=True, encoding="utf-8", check=True
        )
        return done.stdout.strip()

    def jobs(self, folder: Path) -> list[dict[str, str]]:
        """SLURM's own records of the jobs of a working directory, in their order."""
        lines = self.ask("scontrol", "--oneliner", "--details", "show", "jobs").splitlines()
        found = [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]
        return sorted(
            (job for job in found if job.get("WorkDir") == str(folder)),
            key=lambda job: int(job["JobId"]),
        )


@dataclass(frozen=True)
class Project:
    """A working directory with a `config.yaml`, whose jobs run on a cluster."""

    folder: Path
    cluster: Cluster

    @contextmanager
    def running(self, *arguments: str, profile: Path = PROFILE) -> Iterator[subprocess.Popen[str]]:
        """A call of the workflow; `output` has what it tells."""
        hurried = Path(__file__).with_name("hurried.py")
        command = [sys.executable, str(hurried), "-s", str(CHECKOUT / "workflow" / "Snakefile")]
        with (
            (self.folder / "output.txt").open("w") as output,
            subprocess.Popen(
                [*command, "--configfile", "config.yaml", "--profile", str(profile), *arguments],
                cwd=self.folder,
                env=self.cluster.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
            ) as process,
        ):
            try:
                yield process
            finally:
                process.kill()

    def run(self, *arguments: str, profile: Path = PROFILE) -> int:
        with self.running(*arguments, profile=profile) as process:
            return process.wait()

    @property
    def output(self) -> str:
        return (self.folder / "output.txt").read_text("utf-8")

    @property
    def jobs(self) -> list[dict[str, str]]:
        return self.cluster.jobs(self.folder)

    def configure(self, change: dict) -> None:
        """Write the configuration, or change it."""
        path = self.folder / "config.yaml"
        config = yaml.safe_load(path.read_text("utf-8")) if path.exists() else {}
        path.write_text(yaml.safe_dump(merge(config, change)))

    def epochs(self) -> int:
        """How many epochs the training has run."""
        return len(read_history(self.folder / TRAINING / "history.csv"))

    def wait_for_epochs(self, process: subprocess.Popen[str], more: int = 2) -> None:
        """Until the training has run `more` epochs from now on."""
        start = self.epochs()
        wait_until(lambda: self.epochs() >= start + more or process.poll() is not None)
        assert process.poll() is None, self.output


def missing(*options: str) -> str:
    """What a cluster needs and this machine has not, or ""."""
    return subprocess.run(
        [CLUSTER, "missing", *options], capture_output=True, encoding="utf-8", check=True
    ).stdout.strip()


def started(*options: str) -> Iterator[Cluster]:
    if lacking := missing(*options):
        pytest.skip(lacking)
    # its daemons' users may not enter pytest's own folders
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        try:
            subprocess.run([CLUSTER, "up", folder, *options], check=True)
            path = f"{folder}/bin:{os.environ['PATH']}"
            own = {"SLURM_CONF": f"{folder}/etc/slurm.conf", "PATH": path, "OMP_NUM_THREADS": "1"}
            yield Cluster({**os.environ, **own}, ACCOUNTING in options)
        finally:
            subprocess.run([CLUSTER, "down", folder], check=True)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Without accounting, as the profile takes it for granted."""
    yield from started()


@pytest.fixture(scope="session")
def accounting_cluster() -> Iterator[Cluster]:
    """With accounting, where it is installed."""
    yield from started(*([] if missing(ACCOUNTING) else [ACCOUNTING]))


@pytest.fixture(scope="session")
def edited_profile(tmp_path_factory) -> Callable[[dict], Path]:
    """The profile with some of its lines edited, as its users do."""

    def edited(changes: dict) -> Path:
        profile = yaml.safe_load((PROFILE / "config.yaml").read_text("utf-8"))
        folder = tmp_path_factory.mktemp("profile")
        (folder / "config.yaml").write_text(yaml.safe_dump(merge(profile, changes)))
        return folder

    return edited


@pytest.fixture(scope="session")
def whole(accounting_cluster, edited_profile, tmp_path_factory) -> Project:
    """A project in which the whole pipeline has run on the cluster, undisturbed."""
    project = Project(tmp_path_factory.mktemp("whole"), accounting_cluster)
    project.configure(CONFIG)
    # the four stages ask for a card, but compute on the CPU: there is none
    card = {"gpu": 1, "gpu_model": "pretended"}
    changes = {"set-resources": dict.fromkeys(ON_CARDS, card)}
    if accounting_cluster.accounting:
        changes["default-resources"] = {"slurm_account": "research"}
        changes["slurm-status-command"] = "sacct"
    assert project.run(profile=edited_profile(changes)) == 0, project.output
    return project


@pytest.fixture
def copied(whole, tmp_path) -> Project:
    """A copy of it."""
    shutil.copytree(whole.folder, tmp_path / "copied")
    return Project(tmp_path / "copied", whole.cluster)


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory) -> Project:
    """A project in which a training has run, on no cluster."""
    project = Project(tmp_path_factory.mktemp("undisturbed"), cluster)
    heart = {name: CONFIG["datasets"]["heart"][name] for name in ("source", "slices", "split")}
    project.configure({**CONFIG, "datasets": {"heart": {**heart, "experiments": {"unet": UNET}}}})
    profile = PROFILE.with_name("default")
    assert project.run(TRAINED, profile=profile) == 0, project.output
    return project


@pytest.fixture
def untrained(undisturbed, tmp_path) -> Project:
    """A copy of it, in which the training is still to be run."""
    folder = tmp_path / "untrained"
    shutil.copytree(undisturbed.folder, folder)
    shutil.rmtree(folder / TRAINING)
    (folder / TRAINED).unlink()
    return Project(folder, undisturbed.cluster)
