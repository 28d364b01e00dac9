"""Stages run in an environment that holds what its file lists, and not this package.

Where there is a conda, the first stages run in what it makes of `envs/data.yaml`. Everywhere, a
stand-in of conda links the listed packages, and what conda's pip brings along, into an empty
environment; what it cannot tell is whether conda-forge and PyPI still have them.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import venv
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.version import Version
from snakemake.deployment.conda import MIN_CONDA_VER

from pipeline.orchestration.locks import lock_environments, release
from pipeline.storage.folders import record_of
from pipeline.storage.layout import Layout

pytestmark = pytest.mark.processes
ROOT = Path(__file__).parents[2]
FIRST = ["results/heart/split/split.json"]
STAND_IN_CONDA = """#!{python}
import json, os, sys
sys.path[:0] = [{here!r}, {root!r}]
from test_deployment import link_environment
told = " ".join(sys.argv[1:])
if told == "info --json":
    print(json.dumps({{"conda_prefix": {base!r}, "platform": "linux-64"}}))
elif told == "--version":
    print("conda {version}")
elif told.startswith("config --get"):
    print(json.dumps({{"get": {{"channel_priority": "strict"}}}}))
elif told.startswith("env create"):
    assert os.environ.get("PYTHONNOUSERSITE"), "pip would take what the user has for installed"
    after = dict(zip(sys.argv, sys.argv[1:]))
    link_environment(after["--file"], after["--prefix"], brought=["setuptools"], user_site=True)
elif not told.startswith("clean "):  # it has no packages of its own to delete
    sys.exit(f"the stand-in knows no conda {{told}}")
"""
# as conda does it where an environment is active already: in the place of that one
STAND_IN_ACTIVATE = """
PATH=${PATH//"$CONDA_PREFIX/bin"/"$1/bin"}; CONDA_PREFIX=$1; export PATH CONDA_PREFIX
"""
USER_SITE = (
    "import site, sys; sys.flags.no_user_site or sys.path.insert(0, site.getusersitepackages())"
)
BROUGHT = ("pip", "setuptools", "wheel")  # by conda's pip
STAND_IN_APPTAINER = """#!/bin/bash
# runs what it is given with the packages of {prefix}, and refuses a python from elsewhere
[ "$1" = --version ] && {{ echo "apptainer version 1.3.0"; exit; }}
for last; do :; done
echo "in a container: $*" | head -1
export PATH={prefix}/bin:/usr/bin:/bin
exec bash -c "$last"
"""


def link_environment(
    file: str, prefix: str, brought: Sequence[str] = (), user_site: bool = False
) -> None:
    """An environment that sees the packages of this Python that a file lists, or `brought` along.

    With `user_site`, what lies in the user's own folder comes first, as outside of a venv.
    """
    venv.create(prefix, with_pip=False, symlinks=True)
    (packages,) = Path(prefix).glob("lib/python3*/site-packages")
    listed = yaml.safe_load(Path(file).read_text("utf-8"))["dependencies"][-1]["pip"]
    if user_site:
        (packages / "user_site.pth").write_text(USER_SITE, "utf-8")
    listed += [f"{name}=={metadata.version(name)}" for name in brought]
    for name, _, version in (one.partition("==") for one in listed):
        found = metadata.distribution(name)
        assert found.version == version, f"{name}: installed is {found.version}, pinned {version}"
        for part in {path.parts[0] for path in found.files or () if path.parts[0] != ".."}:
            link, place = packages / part, Path(str(found.locate_file(part)))
            if place.is_dir() and link.is_dir():
                continue
            if place.exists() and part != "__pycache__":
                link.symlink_to(place)


def executable(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture(params=["conda", "stand-in"])
def conda(request, tmp_path):
    """The folder of a conda, its `base`, that Snakemake may use."""
    if request.param == "stand-in":
        folder = tmp_path / "base" / "bin"
        values = {"python": sys.executable, "here": str(Path(__file__).parent), "root": str(ROOT)}
        text = STAND_IN_CONDA.format(base=str(folder.parent), version=MIN_CONDA_VER, **values)
        executable(folder / "conda", text)
        executable(folder / "activate", STAND_IN_ACTIVATE)
        return folder.parent
    found = shutil.which("conda")
    if found is None:
        pytest.skip("no conda on PATH: the first stages were not run in what it makes")
    told = subprocess.run([found, "--version"], capture_output=True, encoding="utf-8", check=True)
    version = re.search(r"\d+\.\d+\.\d+", told.stdout)
    if version is None or Version(version[0]) < Version(MIN_CONDA_VER):
        pytest.skip(f"{told.stdout.strip()} on PATH is older than {MIN_CONDA_VER}")
    told = subprocess.run([found, "info", "--base"], capture_output=True, text=True, check=True)
    return Path(told.stdout.strip())


@pytest.fixture
def activated(conda, tmp_path):
    """The variables of a shell in which conda's `base` was activated, and then a .venv."""
    message = "#!/bin/sh\necho this job runs in the .venv\nexit 1\n"
    executable(tmp_path / ".venv" / "bin" / "python", message)
    packages = tmp_path / "user" / "lib" / "python3.11" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "numpy.py").write_text("raise ImportError('this is the one of the user')", "utf-8")
    return {
        "PATH": f"{tmp_path / '.venv' / 'bin'}:{conda / 'bin'}:{os.environ['PATH']}",
        "CONDA_PREFIX": str(conda),
        "CONDA_DEFAULT_ENV": "base",
        "CONDA_SHLVL": "1",
        "PYTHONUSERBASE": str(tmp_path / "user"),
    }


def heart_alone() -> dict:
    from tests.workflow import tiny  # here, for the stand-in of conda imports this file, too

    return {"datasets": {"heart": tiny.configuration()["datasets"]["heart"]}}


def snakemake(folder: Path, *arguments: str, variables: dict, checkout: Path = ROOT) -> str:
    (folder / "config.yaml").write_text(yaml.safe_dump(heart_alone()))
    command = [sys.executable, "-m", "snakemake", "-s", str(checkout / "workflow" / "Snakefile")]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--cores", "1", "--configfile", "config.yaml", *arguments],
        cwd=folder,
        env=environment | variables,
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def packages_of(declared: Path) -> dict[str, str]:
    """What the job that wrote this file had imported."""
    (run,) = json.loads(record_of(declared).read_text("utf-8"))["runs"].values()
    return run["packages"]


def test_the_first_stages_run_in_conda_s_environment(activated, tmp_path):
    told = snakemake(tmp_path, "--use-conda", *FIRST, variables=activated)
    assert "envs/data.yaml created" in told
    lock = tmp_path / ".snakemake" / "conda" / "environments.claim"
    assert lock.read_text("utf-8") == "", "the jobs ran without it"
    layout = Layout(tmp_path / "results", "heart")
    pinned = yaml.safe_load((ROOT / "envs" / "data.yaml").read_text("utf-8"))["dependencies"][-1]
    for declared in (layout.phantom_truth, layout.cases, layout.split):
        packages = packages_of(declared)
        assert "zarr" in packages
        named = {re.sub("[-_.]+", "-", name).lower(): one for name, one in packages.items()}
        # the checkout itself is known where a build has left its metadata
        named = {name: one for name, one in named.items() if name not in ("grcsf", *BROUGHT)}
        assert {f"{name}=={one}" for name, one in named.items()} <= set(pinned["pip"])


@pytest.mark.parametrize("conda", ["stand-in"], indirect=True)
def test_two_calls_make_an_environment_one_after_the_other(activated, project, monkeypatch):
    project.configure(heart_alone())
    for name, value in activated.items():
        monkeypatch.setenv(name, value)
    prefix = project.folder / "shared"
    make = (*FIRST, "--use-conda", "--conda-prefix", str(prefix), "--configfile", "config.yaml")
    with lock_environments(prefix, print) as held:
        call = project.start(*make, "--conda-create-envs-only", "--cores", "1")
        while "waiting for" not in (line := call.stdout.readline()):
            assert line, "it did not wait"
        assert f"{prefix}: waiting for process {os.getpid()} on " in line
        planned = project.call(*make, "-n")
        assert planned.code == 0, planned.output
        assert "waiting for" not in planned.output
        assert [path.name for path in prefix.iterdir()] == ["environments.claim"]
        release(held)
    assert "envs/data.yaml created" in call.communicate()


@pytest.mark.parametrize("name", ["data", "torch", "report"])
def test_every_stage_s_modules_are_found_with_the_listed_packages_alone(name, tmp_path):
    file = ROOT / "envs" / f"{name}.yaml"
    link_environment(str(file), str(tmp_path / "env"))
    stages = re.search(r"For ([\w, ]+)\.", file.read_text("utf-8"))[1].split(", ")
    modules = [f"pipeline.{stage}" for stage in stages if stage != "phantom"]
    modules += ["pipeline.datasets.phantoms.phantom"] * ("phantom" in stages)
    modules += ["pipeline.cli", "pipeline.orchestration.record_writer"]
    command = f"import {', '.join(modules)}, sys; print(sys.prefix)"
    call = [tmp_path / "env" / "bin" / "python", "-c", command]
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    done = subprocess.run(call, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().strip() == str(tmp_path / "env")


def test_a_container_runs_its_own_python(project, tmp_path):
    project.copy_checkout()
    image = project.checkout / "envs" / "grcsf.sif"
    image.touch()
    apptainer, inside = tmp_path / "bin" / "apptainer", tmp_path / "inside"
    link_environment(str(ROOT / "envs" / "data.yaml"), str(inside))
    executable(apptainer, STAND_IN_APPTAINER.format(prefix=inside))
    arguments = ("--sdm", "apptainer", "--apptainer-args", "--nv --bind /images", *FIRST)
    path = {"PATH": f"{apptainer.parent}:{os.environ['PATH']}"}
    told = snakemake(tmp_path, *arguments, variables=path, checkout=project.checkout)
    assert re.search(rf"in a container: exec --home \S+ --nv --bind /images.* {image} bash", told)
    assert "grcsf" not in packages_of(Layout(tmp_path / "results", "heart").split)
