"""The whole pipeline on two tiny data sets, with the network refused; and its first stages cold."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import zarr

from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import record_of
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.workflow import tiny

CHECKOUT = Path(__file__).parents[2]
NO_NETWORK = Path(__file__).parent / "no_network"
CALL = ("--cores", "2", "--configfile", "config.yaml")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.processes
def test_the_first_stages_run_from_a_shell(project):
    """In Pythons of their own, unlike all the others here, and on the other kind of phantoms."""
    phantom = {"kind": "head", "cases": 6, "seed": 3, "shape": [8, 32, 32], "unlabelled": 1}
    head = {
        "source": {"adapter": "atlas", "phantom": phantom},
        "slices": {"size": [32, 32], "percentiles": [0, 99.9]},
        "split": {"by": "group", "test": 0.3, "validation": 1},
        "experiments": {"unet": {"model": "unet"}},
    }
    project.configure({"resources": {"threads": 1}, "datasets": {"head": head}})
    target = "results/head/split/split.json"
    environment = {**os.environ, "PYTHONPATH": str(NO_NETWORK), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "snakemake", "-s", f"{CHECKOUT}/workflow/Snakefile", target]
    command, here = [*command, *CALL], project.folder
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    split = read_json(project.folder / target)
    assert len(split["unlabelled"]) == 1
    groups = [{case[:8] for case in cases} for cases in split["subsets"]["1"].values()]
    assert all(groups)
    assert sum(map(len, groups)) == len(set.union(*groups)), "a group is in one part only"
    assert project.call(target, "-n", "--configfile", "config.yaml").jobs == []


def test_the_network_really_is_refused(project):
    code = "import socket; socket.create_connection(('127.0.0.1', 9))"
    (project.folder / "caller.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": str(NO_NETWORK)}
    command, here = [sys.executable, "caller.py"], project.folder
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, check=False)
    assert b"the network is blocked" in done.stderr
    assert "the network is blocked" in project.python("-m", "caller").communicate()


@pytest.mark.parametrize("dataset", tiny.with_untrained()["datasets"])
def test_every_stage_left_its_results(finished, dataset):
    results = finished.folder / "results" / dataset
    page = (results / "report" / "report.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=[\"']https?://", page)
    table = (results / "compare" / "table.md").read_text("utf-8")
    for experiment in tiny.with_untrained()["datasets"][dataset]["experiments"]:
        assert experiment in table
        assert (results / "evaluate" / f"{experiment}.csv").exists()


@pytest.mark.parametrize(
    ("folder", "suffix", "dtype"),
    [("heart/postprocess/unet", ".mha", np.int16), ("head/postprocess/grcsf", ".nii.gz", np.uint8)],
)
def test_masks_lie_where_their_images_do(finished, folder, suffix, dtype):
    paths = sorted((finished.folder / "results" / folder).glob(f"subset-1/*{suffix}"))
    assert len(paths) == 2
    for path in paths:
        case = path.name.split(".")[0]
        if case.startswith("c"):
            image = tiny.image_of(finished.folder / "images", int(case[1:]))
        else:
            image = next((finished.folder / "results/heart/phantom").rglob(f"{case}CTI.mhd"))
        source, mask = read_geometry(image), read_volume(path)
        assert mask.array.dtype == dtype
        assert set(np.unique(mask.array)) <= {0, 1}
        for field in ("shape", "spacing", "origin", "direction"):
            expected = getattr(source, field)
            np.testing.assert_allclose(getattr(mask.geometry, field), expected, atol=1e-4)
        if suffix == ".nii.gz":  # by an independent reader, the way viewers place a volume
            affines = [nibabel.load(file).affine for file in (path, image)]
            np.testing.assert_allclose(*affines, atol=1e-4)


def test_stores_open_with_plain_zarr(finished):
    stores = list((finished.folder / "results").glob("*/ingest/*.zarr"))
    stores += (finished.folder / "results").glob("head/residual_maps/mrm/*.zarr")
    assert len(stores) == 5 + 5 + 5
    for store in stores:
        group = zarr.open(store, mode="r")
        assert group.attrs["complete"]
        for array in group.array_values():
            assert np.isfinite(array[:]).all()


def test_a_record_names_the_inputs_that_its_rule_declares(finished):
    """Batches without a case have nothing that could be read."""
    folder = finished.folder
    table = finished.call("--detailed-summary", *CALL).output
    rows = [line.split("\t") for line in table.splitlines() if line.startswith("results/")]
    assert len(rows) == 21 + 15, table
    for output, _, rule, _, inputs, *_ in rows:
        if rule == "phantom":
            continue
        (run,) = json.loads(record_of(folder / output).read_text("utf-8"))["runs"].values()
        if rule == "ingest":  # its rule waits for the phantoms' truth, and it reads the phantoms
            files = {file for files in run["raw_files"].values() for file in files}
            assert files
            assert all((folder / "results" / file).is_file() for file in files)
            assert run["inputs"] == {}
            continue
        declared = {
            os.path.relpath(file, "results")
            for file in inputs.split(",")
            if "batch-" not in file or read_json(folder / file)["cases"]
        }
        assert set(run["inputs"]) == declared, output


def test_a_table_is_traced_to_the_images(finished):
    trace = finished.python("-m", "pipeline", "trace", "results/heart/compare/table.md")
    output = " ".join(trace.communicate().split())
    assert trace.returncode == 0, output
    results = finished.folder / "results"
    images = list((results / "heart/phantom").rglob("*CTI.*"))
    assert images
    for image in images:
        assert f"{image.relative_to(results)} as recorded, SHA-256 {file_digest(image)}" in output


def test_sam_is_traced_to_its_weights_and_to_what_prompts_it(finished):
    table = "results/heart/compare/table.md"
    trace = finished.python("-m", "pipeline", "trace", table, "--experiment", "sam")
    output = " ".join(trace.communicate().split())
    assert trace.returncode == 0, output
    weights = file_digest(finished.folder / "sam.pth")
    assert f"../sam.pth as recorded, SHA-256 {weights}" in output
    assert "postprocess heart experiment unet subset 1" in output
    assert "train_segmentation heart experiment unet subset 1" in output
    assert "evaluate heart experiment unet" not in output


def test_figures_are_drawn_from_what_is_there(again):
    assert again.call("figures", "-n", *CALL).counts == {"draw": 4 + 2}
    done = again.run("results/head/draw/reconstruction.svg")
    assert done.jobs == ["draw head: reconstruction"]
    folder = again.folder / "results/head/draw"
    assert {path.suffix for path in folder.glob("reconstruction.???")} == {".svg", ".pdf", ".png"}
    assert again.call("figures", "-n", *CALL).counts == {"draw": 3 + 2}


def test_snakemake_s_report_needs_no_network(again):
    done = again.call("--report", "page.html", *CALL)
    assert done.code == 0, done.output[-3000:]
    page = (again.folder / "page.html").read_text("utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?https?:", page)
    assert "tailwind" in page
    shown = set(re.findall(r'"name": "([\w.]+)"', page))
    assert {"report.html", "table.csv", "grcsf.csv", "unet.csv"} <= shown


def test_a_second_call_finds_nothing_to_do_and_a_changed_evaluation_scores_again(again):
    done = again.run()
    assert "Nothing to be done" in done.output
    assert not done.jobs
    again.change("datasets.head.evaluation.bootstrap_samples", 300)
    done = again.run()
    assert set(done.counts) == {"evaluate", "compare", "report"}
    assert all(" head" in job for job in done.jobs)


def test_a_damaged_image_is_named_and_costs_nothing_else(again):
    image = tiny.image_of(again.folder / "images", 0)
    image.write_bytes(image.read_bytes()[:3000])
    done = again.call(*CALL)
    assert done.code != 0
    assert "Traceback" not in done.output
    *_, title, error, last = done.output.splitlines()
    assert title == "ingest failed (results/head/logs/ingest.log):"
    assert error == "error: 1 of 5 cases cannot be used"
    assert re.match(rf"case c0: .*{image.name}: .*; fetch", last)
    assert (again.folder / "results/head/train_mae/shared/model.safetensors").exists()


def test_an_unwritable_results_folder_is_one_line(again):
    (again.folder / "blocked.txt").write_text("a file, no folder")
    split = again.python(
        *("-m", "pipeline", "split", "--config", "config.yaml", "--dataset", "head"),
        *("--set", '{"results": "blocked.txt"}'),
    )
    (line,) = split.communicate().splitlines()
    assert split.returncode == 1
    assert line.startswith("error: ")
