"""Stores read by zarrs: the same values, in workers too, and damage is noticed as well."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
import zarr

from pipeline.cli import job
from pipeline.errors import PipelineError
from pipeline.storage.slices import SliceDataset, slice_loader
from pipeline.storage.zarr_store import open_store, read_array, verify_store, write_store
from tests.pipeline.results import SLICES

PATH = "zarrs.ZarrsCodecPipeline"


@pytest.fixture
def zarrs(monkeypatch):
    pytest.importorskip("zarrs")
    monkeypatch.setenv("ZARR_CODEC_PIPELINE__PATH", PATH)  # for workers, which import zarr anew
    with zarr.config.set({"codec_pipeline.path": PATH}):
        yield


def dataset(layout):
    chosen = [(case, z) for case in "abc" for z in range(6)]
    return SliceDataset(chosen, {case: layout.case_store(case) for case in "abc"}, SLICES)


def test_slices_are_the_same_here_and_in_workers(ingested, request):
    plain = dataset(ingested)
    expected = torch.stack([plain[index]["image"] for index in range(len(plain))])
    request.getfixturevalue("zarrs")
    data = dataset(ingested)
    torch.testing.assert_close(data[7]["image"], expected[7], rtol=0, atol=0)
    batches = slice_loader(data, 4, None, 1)  # this process has read: a forked one would hang
    read = torch.cat([batch["image"] for batch in batches])
    torch.testing.assert_close(read, expected, rtol=0, atol=0)


def test_stores_have_the_same_bytes(tmp_path, request):
    arrays = {"image": np.random.default_rng(0).integers(0, 400, (16, 64, 64), dtype=np.int16)}

    def written(name):
        write_store(tmp_path / name, arrays, {})
        return (tmp_path / name / "image/c/0/0/0").read_bytes()

    plain = written("plain.zarr")
    request.getfixturevalue("zarrs")
    assert all(written(f"{number}.zarr") == plain for number in range(30))


@pytest.mark.usefixtures("zarrs")
def test_a_flipped_bit_is_noticed(ingested):
    path = ingested.case_store("a")
    verify_store(path)
    (shard,) = [file for file in (path / "image" / "c").rglob("*") if file.is_file()]
    content = bytearray(shard.read_bytes())
    content[len(content) // 3] ^= 4
    shard.write_bytes(content)
    with pytest.raises(PipelineError, match="image cannot be read"):
        read_array(open_store(path), "image")


def config(tmp_path):
    dataset = {
        "source": {"adapter": "atlas", "root": "."},
        "slices": {"size": [32, 32], "percentiles": [0, 99.9]},
        "experiments": {"unet": {"model": "unet"}},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"store": {"codecs": "zarrs"}, "datasets": {"a": dataset}}))
    return path


def test_the_configuration_chooses_it_for_zarr_and_for_workers(tmp_path):
    pytest.importorskip("zarrs")
    code = (
        "import json, os, sys; from pathlib import Path\n"
        "from pipeline.cli.job import open_jobs\n"
        "open_jobs(Path(sys.argv[1]), '')\n"
        "import zarr\n"
        "print(json.dumps(zarr.config.get('codec_pipeline.path')))\n"
    )
    environment = {key: os.environ[key] for key in os.environ if not key.startswith("ZARR_")}
    ended = subprocess.run(
        [sys.executable, "-c", code, config(tmp_path)],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(ended.stdout) == PATH


def test_without_the_package_it_is_refused_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(job.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PipelineError, match=r"store\.codecs: found zarrs, which is not installed"):
        job.open_jobs(config(tmp_path), "")
