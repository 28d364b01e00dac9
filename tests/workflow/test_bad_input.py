"""Faults that can be known before the first job: one line, no traceback, nothing started."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = ("--configfile", "config.yaml")


def the_one_line(plan) -> str:
    """The error of a call that was refused."""
    assert plan.code == 1, plan.output
    assert "Traceback" not in plan.output
    assert plan.jobs == []
    (line,) = plan.errors
    assert plan.output.splitlines()[-1] == line
    return line


NO_FIGURE = "figures has no 'residual-sources'; it has: methods, lesion-size, reconstruction, "
NO_FIGURE += "residual-guidance"
NO_BATCH = "there is no batch 9of9 with resources.cases_per_job 8; the first are: 1of1"


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("evaluate/nope.csv", "experiments has no 'nope'; it has: unet++, grcsf"),
        ("predict/grcsf/subset-9.json", "experiment grcsf has no subset 9; it has: 1"),
        ("train_mae/mae90.json", "mae has no 'mae90'; it has: m50, m75, spare"),
        ("residual_maps/ssim/batch-1of1.json", "residuals has no 'ssim'; it has: mrm, unused"),
        ("residual_maps/mrm/batch-9of9.json", NO_BATCH),
        ("draw/residual-sources.pdf", NO_FIGURE),
    ],
)
def test_a_target_of_an_unknown_name(project, config, target, message):
    project.configure(config, 3)
    line = the_one_line(project.call(f"results/images/{target}", "-n", *CONFIG))
    assert line == f"error: data set images: {message}"


CONTAINER = ROOT / "envs" / "grcsf"
NO_CONTAINER = f"{CONTAINER}.sif: not there; apptainer build {CONTAINER}.sif {CONTAINER}.def"
NO_TABLES = "configuration: found no datasets.<name>.tables, expected at least one; "
NO_TABLES += "config/atlas.yaml and config/ablations.yaml have some"
NO_WIDTH = "datasets={images: {experiments: {unet++: {width: 0}}}}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ablations"], f"error: {NO_TABLES}\n"),
        (["--sdm", "apptainer"], f"error: {NO_CONTAINER}\n"),
        (["--config", "sedd=3"], "sedd: unknown key; did you mean 'seed'?"),
        (["--config", "seed=soon"], "seed: found 'soon' (str)"),
        (["--config", NO_WIDTH], "experiments.unet++.width"),
        (["--config", "datasets={images: {source: {root: nowhere}}}"], "nowhere: not there"),
    ],
)
def test_a_wrong_call(project, config, arguments, message):
    project.configure(config, 3)
    assert message in the_one_line(project.call(*arguments, "-n", *CONFIG)) + "\n"


def test_every_data_set_s_folder_is_looked_at(project, config):
    images = config["datasets"]["images"]
    config["datasets"]["more"] = {**images, "source": {"adapter": "atlas", "root": "elsewhere"}}
    project.configure(config, 3)
    line = the_one_line(project.call("-n", *CONFIG))
    assert line.startswith("error: data set more: elsewhere: not there")


IMAGES = "datasets.images."
LONG = 300 * "x"
TOO_LONG = f"{LONG}: File name too long; correct the path, its rights or its disk"
NO_WEIGHTS = "error: checkpoint weights.pth: not there; correct mae.checkpoint"
NO_START = {"model": "deeplabv3", "pretrained": "start.pth"}
NO_START_WEIGHTS = "error: experiments.unet++.pretrained: start.pth: not there; it takes resnet50"
PHANTOMS = {
    "source": {"adapter": "atlas", "phantom": {"kind": "head", "cases": 6, "shape": [8, 16, 16]}},
    "split": {"by": "group", "subsets": 4},
}
NO_HU = "data set images: evaluation.metrics: found calcium, and MR for case sub-r001s001"
FEW_GROUPS = "data set images: split: found 8 groups, expected at least 9 for 9 subsets; "
FEW_GROUPS += "lower split.subsets"
UNFILLED = "expected a path without ~, $, <> and braces, which are not filled in here"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        # as one below a folder that may not be entered, which stops no superuser
        (f"{IMAGES}source.root", LONG, f"data set images: {TOO_LONG}"),
        (f"{IMAGES}mae.m50.checkpoint", LONG, TOO_LONG),
        (f"{IMAGES}mae.m50.checkpoint", "weights.pth", NO_WEIGHTS),
        (f"{IMAGES}experiments.unet++", NO_START, NO_START_WEIGHTS),
        ("results", "config.yaml", "results config.yaml: found a file at "),
        ("results", "config.yaml/below", "results config.yaml/below: found a file at "),
        ("results", "~/results", f"results: found '~/results', {UNFILLED}"),
        ("results", "$HOME/results", f"results: found '$HOME/results', {UNFILLED}"),
        ("results", "results-<a>", f"results: found 'results-<a>', {UNFILLED}"),
        ("results", "results-{a}", f"results: found 'results-{{a}}', {UNFILLED}"),
        (f"{IMAGES}evaluation.metrics", "calcium", NO_HU),
        (f"{IMAGES}source.also_predict", ["nope.nii.gz"], "nope.nii.gz"),
        (f"{IMAGES}source.healthy", ["nope"], "nope: not there"),
        (f"{IMAGES}split", {"by": "group", "subsets": 9}, FEW_GROUPS),
    ],
)
def test_a_setting_that_the_images_or_the_machine_refuse(project, config, keys, value, message):
    project.configure(config, 30)
    project.change(keys, value)
    assert message in the_one_line(project.call("-n", *CONFIG))


SPLIT = ("results/images/split/split.json",)
NOWHERE = "store.root /proc/nope: nothing can be written to /proc ("


@pytest.mark.parametrize(
    ("root", "told", "target"),
    [
        ("config.yaml", "error: store.root config.yaml: found a file at ", ()),
        ("config.yaml", "error: store.root config.yaml: found a file at ", SPLIT),
        ("$GRCSF_NOT_SET/maps", "error: store.root: found '$GRCSF_NOT_SET/maps', whose", SPLIT),
        ("~no-such-user/maps", "error: store.root: found '~no-such-user/maps', whose", SPLIT),
        ("/proc/nope", f"error: {NOWHERE}", ()),
    ],
)
def test_a_shared_folder_that_takes_no_stores(project, config, root, told, target):
    project.configure({**config, "store": {"root": root}}, 3)
    done = project.call(*target, "--cores", "1", *CONFIG)
    assert done.code == 1
    assert done.output.splitlines()[-1].startswith(told)
    assert "Traceback" not in done.output
    assert not (project.folder / "results" / "images" / "ingest").exists()


def test_a_shared_folder_is_needed_where_residuals_are_made(project, config):
    project.configure({**config, "store": {"root": "/proc/nope"}}, 3)
    for target, jobs in [(SPLIT, {"ingest", "split"}), ((), None)]:
        plan = project.call(*target, "-n", *CONFIG)
        assert plan.code == 0, plan.output
        assert sum(NOWHERE in line for line in plan.output.splitlines()) == 1
        assert jobs is None or set(plan.counts) == jobs


def test_an_image_that_is_not_there(project, config):
    project.configure(config, 4)
    (image, *_) = (project.folder / "images").rglob("*s001*_T1w.nii.gz")
    image.unlink()
    line = the_one_line(project.call("-n", *CONFIG))
    assert line.startswith("error: data set images: images/Training/R001/sub-r001s001/")
    assert line.endswith(": label without image; add the image or remove the label")
    config["datasets"]["images"]["source"]["on_error"] = "skip"
    project.configure(config)
    assert "ingest images" in project.plan().jobs


def test_an_image_that_is_a_link_to_nowhere_is_left_to_ingest(project, config):
    project.configure(config, 4)
    (image, *_) = (project.folder / "images").rglob("*s001*_T1w.nii.gz")
    image.unlink()
    image.symlink_to("not-fetched")
    done = project.call("results/images/ingest/manifest.json", "--cores", "1", *CONFIG)
    assert done.code == 1, "all other images are empty"
    assert f"{image.name}: No such file or directory; expected a readable file" in done.output
    assert "MissingInputException" not in done.output


@pytest.mark.parametrize("root", ["im{a}ges", "im<a>ges"])
def test_a_path_that_snakemake_would_fill_in(project, config, root):
    config["datasets"]["images"]["source"]["root"] = root
    project.configure(config, 3)
    (project.folder / "images").rename(project.folder / root)
    assert "ingest images" in project.plan().jobs
    (project.folder / root / "manifest.csv").write_text("case,image\n")
    line = the_one_line(project.call("-n", *CONFIG))
    assert f"{root}/manifest.csv: found one of {{ }} < > in a path, expected none" in line
    assert line.endswith("as Snakemake fills them in; rename it, or give a link to it")


def test_phantoms_that_cannot_be_split_are_not_written(project, config):
    config["datasets"]["images"].update(PHANTOMS)
    project.configure(config)
    assert "split: found 1 group(s) of 2 cases in a subset" in the_one_line(
        project.call("--cores", "1", *CONFIG)
    )
    assert not (project.folder / "results").exists()


@pytest.fixture
def mounted_results(project, config):
    """Calls Snakemake with an own file system at `results`."""
    results = project.folder / "results"
    results.mkdir()
    project.configure(config, 8)
    alone = ["unshare", "--user", "--mount", "--map-root-user", "bash", "-c"]
    snakemake = f"{sys.executable} -m snakemake -s {ROOT}/workflow/Snakefile {' '.join(CONFIG)}"

    def call(mounted, *arguments):
        mount = f"mount -t tmpfs -o {mounted} none '{results}'"
        if not shutil.which("unshare") or subprocess.run([*alone, mount], check=False).returncode:
            pytest.skip("this machine lets nobody mount a file system of his own")
        command = f"{mount} && cd '{project.folder}' && {snakemake} {' '.join(arguments)}"
        return subprocess.run([*alone, command], capture_output=True, encoding="utf-8", check=False)

    return call


@pytest.mark.processes
@pytest.mark.parametrize(
    ("mounted", "told"),
    [
        ("size=1m,ro", "nothing can be written to {} (Read-only file system)"),
        ("size=4k", "nothing can be written to {} (No space left on device)"),
        ("size=50m", "found 52.4 MB of free disk, expected about 88.7 MB for the stores alone"),
    ],
    ids=["read-only", "full", "practically full"],
)
def test_results_on_a_disk_that_takes_nothing(mounted_results, project, mounted, told):
    done = mounted_results(mounted, "--cores", "1")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: results results: ")
    assert told.format(project.folder / "results") in last
    assert "Traceback" not in done.stderr


@pytest.mark.processes
def test_a_plan_needs_no_disk_that_takes_something(mounted_results):
    done = mounted_results("size=1m,ro", "-n")
    assert done.returncode == 0, done.stderr
    assert "nothing can be written" in done.stderr + done.stdout
    assert "This was a dry-run" in done.stderr + done.stdout
