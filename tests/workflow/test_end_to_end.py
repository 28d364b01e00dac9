"""The whole pipeline on two tiny phantom data sets, with the network refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
import zarr

from pipeline.storage.files import file_digest
from pipeline.storage.layout import record_of
from pipeline.storage.volumes import read_geometry, read_volume

CHECKOUT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
NO_NETWORK = """
import socket
def refuse(self, address, *rest):
    if self.family != socket.AF_UNIX:
        raise OSError(f"the network is blocked, but something called {address}")
    return connect(self, address, *rest)
connect, socket.socket.connect = socket.socket.connect, refuse
socket.getaddrinfo = lambda *_, **__: (_ for _ in ()).throw(OSError("the network is blocked"))
"""


def section(kind: str, adapter: str, shape: list[int], **more) -> dict:
    training = {"epochs": 2, "batch_size": 8, "warmup_epochs": 1, "lesion_free_fraction": 0.3}
    maps = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
    experiment = {"width": 4, "training": training}
    return {
        "source": {
            "adapter": adapter,
            "phantom": {"kind": kind, "cases": 6, "seed": 3, "shape": shape, "unlabelled": 1},
        },
        "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1}},
        "residuals": {"mrm": {"preset": "fast", "maps": maps}},
        "experiments": {
            "unetpp": {"model": "unetpp", **experiment},
            "grcsf": {
                "model": "grcsf",
                "residuals": "mrm",
                "rcu": {"patch_sizes": [4, 4, 8]},
                **experiment,
            },
        },
        **more,
    }


CONFIG = {
    "resources": {"threads": 1, "cases_per_job": 4},
    "datasets": {
        "heart": section(
            "heart",
            "orcascore",
            [12, 48, 48],
            slices={"size": [48, 48], "window": [-200, 800]},
            split={"test": 2, "validation": 1},
            postprocess={"method": "calcium"},
            evaluation={"metrics": "calcium", "baseline": "unetpp", "bootstrap_samples": 200},
        ),
        "head": section(
            "head",
            "atlas",
            [14, 48, 40],
            slices={"size": [48, 40], "percentiles": [0, 99.9]},
            split={"by": "group", "test": 0.3, "validation": 1},
            evaluation={"baseline": "unetpp", "bootstrap_samples": 200},
        ),
    },
}


def snakemake(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "-s", str(CHECKOUT / "workflow" / "Snakefile")]
    return subprocess.run(
        [*command, "--cores", "2", "--configfile", "config.yaml", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder / "blocked"), "OMP_NUM_THREADS": "1"},
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def jobs(output: str) -> list[str]:
    return re.findall(r"^Job \d+: (?!all results)(.*)$", output, re.MULTILINE)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A working directory in which everything has run once."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "blocked").mkdir()
    (folder / "blocked" / "sitecustomize.py").write_text(NO_NETWORK)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout[-6000:]
    return folder


def test_the_network_really_was_refused(finished):
    call = "import socket; socket.create_connection(('127.0.0.1', 9))"
    environment = {**os.environ, "PYTHONPATH": str(finished / "blocked")}
    done = subprocess.run(
        [sys.executable, "-c", call],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert "the network is blocked" in done.stderr


@pytest.mark.parametrize("dataset", ["heart", "head"])
def test_every_stage_left_its_results(finished, dataset):
    results = finished / "results" / dataset
    page = (results / "report" / "report.html").read_text("utf-8")
    assert "data:image/png;base64," in page
    assert not re.search(r"(src|href)=[\"']https?://", page)
    table = (results / "compare" / "table.md").read_text("utf-8")
    assert "unetpp" in table
    assert "grcsf" in table
    assert (results / "evaluate" / "grcsf.csv").exists()


def test_masks_lie_where_their_images_do(finished):
    for dataset, pattern, dtype in [("heart", "*.mha", np.int16), ("head", "*.nii.gz", np.uint8)]:
        results = finished / "results" / dataset
        masks = sorted((results / "postprocess" / "grcsf" / "subset-1").glob(pattern))
        assert len(masks) >= 2
        for path in masks:
            case = path.name.split(".")[0]
            image = next((results / "phantom").rglob(f"{case}*"))
            if image.is_dir():
                image = next(image.rglob("*_T1w.nii.gz"))
            if image.suffix == ".raw" or image.suffix == ".zraw":
                image = image.with_suffix(".mhd")
            source, mask = read_geometry(image), read_volume(path)
            assert mask.array.dtype == dtype
            assert set(np.unique(mask.array)) <= {0, 1}
            for field in ("shape", "spacing", "origin", "direction"):
                np.testing.assert_allclose(
                    getattr(mask.geometry, field), getattr(source, field), atol=1e-4
                )
    # and by an independent reader, the way viewers place a volume
    path = next((finished / "results/head/postprocess/grcsf/subset-1").glob("*.nii.gz"))
    case = path.name.split(".")[0]
    image = next((finished / "results/head/phantom").rglob(f"{case}_*_T1w.nii.gz"))
    np.testing.assert_allclose(nibabel.load(path).affine, nibabel.load(image).affine, atol=1e-4)


def test_stores_open_with_plain_zarr(finished):
    results = finished / "results" / "heart"
    for store in (*results.glob("ingest/*.zarr"), *results.glob("residual_maps/mrm/*.zarr")):
        group = zarr.open(store, mode="r")
        assert group.attrs["complete"]
        for array in group.array_values():
            assert np.isfinite(array[:]).all()


def test_a_record_names_the_inputs_that_its_rule_declares(finished):
    """Batches without a case have nothing that could be read."""
    table = snakemake(finished, "--detailed-summary").stdout
    rows = [line.split("\t") for line in table.splitlines() if line.startswith("results/")]
    assert len(rows) == 2 * 19, table
    results = finished / "results"
    for output, _, rule, _, inputs, *_ in rows:
        if rule == "phantom":
            continue
        (run,) = json.loads(record_of(finished / output).read_text("utf-8"))["runs"].values()
        if rule == "ingest":  # its rule waits for the phantoms' truth, and it reads the phantoms
            read = {file for files in run["raw_files"].values() for file in files}
            assert all((results / file).is_file() for file in read)
            assert run["inputs"] == {}
            continue
        declared = {
            str(Path(one).relative_to("results"))
            for one in inputs.split(",")
            if "batch-" not in one or json.loads((finished / one).read_text("utf-8"))["cases"]
        }
        assert set(run["inputs"]) == declared, output


def test_a_table_is_traced_to_the_images(finished):
    command = [sys.executable, "-m", "pipeline", "trace", "results/head/compare/table.md"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command, cwd=finished, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    for image in (finished / "results/head/phantom").rglob("*.nii.gz"):
        place = image.relative_to(finished / "results")
        assert f"{place} as recorded, SHA-256 {file_digest(image)}" in told


def test_snakemake_s_report_needs_no_network(finished):
    done = snakemake(finished, "--report", "page.html")
    assert done.returncode == 0, done.stdout[-3000:]
    page = (finished / "page.html").read_text("utf-8")
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=[\"']?https?:", page)
    assert "tailwind" in page
    shown = set(re.findall(r'"name": "([\w.]+)"', page))
    assert {"report.html", "table.csv", "grcsf.csv", "unetpp.csv"} <= shown


def test_a_second_call_finds_nothing_to_do(finished):
    again = snakemake(finished)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout
    assert not jobs(again.stdout)


@pytest.fixture
def copy(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    return tmp_path / "copy"


def test_a_changed_evaluation_scores_again_and_trains_nothing(copy):
    config = yaml.safe_load((copy / "config.yaml").read_text("utf-8"))
    config["datasets"]["head"]["evaluation"]["bootstrap_samples"] = 300
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    done = snakemake(copy)
    assert done.returncode == 0, done.stdout[-3000:]
    stages = {job.split(" ")[0] for job in jobs(done.stdout)}
    assert stages == {"evaluate", "compare", "report"}
    assert all(" head" in job for job in jobs(done.stdout))


def test_a_deleted_residual_store_alone_is_made_again(copy):
    stores = sorted((copy / "results/head/residual_maps/mrm").glob("*.zarr"))
    models = sorted((copy / "results").rglob("model.safetensors"))
    before = {path: (path / "zarr.json").stat().st_mtime_ns for path in stores}
    trained = {path: path.stat().st_mtime_ns for path in models}
    shutil.rmtree(stores[2])
    done = snakemake(copy)
    assert done.returncode == 0, done.stdout[-3000:]
    after = {path: (path / "zarr.json").stat().st_mtime_ns for path in stores}
    assert [path for path in stores if after[path] != before[path]] == [stores[2]]
    assert {path: path.stat().st_mtime_ns for path in models} == trained


def test_a_damaged_image_is_named_and_costs_nothing_else(copy):
    config = yaml.safe_load((copy / "config.yaml").read_text("utf-8"))
    source = config["datasets"]["head"]["source"]
    del source["phantom"]
    shutil.copytree(copy / "results/head/phantom", copy / "images")
    source["root"] = "images"
    config["datasets"] = {"head": config["datasets"]["head"]}
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    image = next((copy / "images").rglob("sub-r001s001*_T1w.nii.gz"))
    image.write_bytes(image.read_bytes()[:3000])
    done = snakemake(copy)
    assert done.returncode != 0
    assert re.search(r"error: 1 of 7 cases cannot be used", done.stdout)
    assert "Traceback" not in done.stdout
    *_, title, error, last = done.stdout.splitlines()
    assert title == "ingest failed (results/head/logs/ingest.log):"
    assert error == "error: 1 of 7 cases cannot be used"
    assert re.match(r"case sub-r001s001: .*sub-r001s001.*T1w.nii.gz: .*; fetch", last)
    assert (copy / "results/head/train_mae/shared/model.safetensors").exists()


def test_an_unwritable_results_folder_is_one_line(copy):
    (copy / "blocked.txt").write_text("a file, no folder")
    command = [sys.executable, "-m", "pipeline", "split", "--config", "config.yaml"]
    done = subprocess.run(
        [*command, "--dataset", "head", "--set", '{"results": "blocked.txt"}'],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        encoding="utf-8",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: ")
