"""A finished project that grows: new stores lie in folders by digest, and every reader finds them.

A case whose stores and masks are gone stands for one that has joined.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.orchestration.changed_results import changed_results
from pipeline.settings import Dataset
from pipeline.storage import folders
from pipeline.storage.files import file_digest, read_json
from pipeline.storage.folders import digest_folder, record_of
from pipeline.storage.layout import Layout
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.store.inventory import list_stores, store_faults
from pipeline.tools.store.prune import needless
from tests.pipeline.tools.calls import STAGES, call, stage, trace

pytestmark = pytest.mark.slow
GRCSF = ["--experiment", "grcsf"]


@pytest.fixture(scope="module")
def grown(finished, tmp_path_factory):
    """The working directory, and the case whose stores are gone and made again by digest."""
    folder = tmp_path_factory.mktemp("grown") / "project"
    shutil.copytree(finished, folder)
    layout = Layout(Path("results"), "heart")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(folders, "MOST_IN_FOLDER", 3)
        case = read_json(layout.split)["subsets"]["1"]["test"][0]
        for path in list(layout.root.rglob(f"{case}.*")):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for arguments in STAGES:
            stage(*arguments)
    return folder, case


@pytest.fixture
def layout(grown, monkeypatch):
    monkeypatch.chdir(grown[0])
    return Layout(Path("results"), "heart")


@pytest.fixture
def case(grown):
    return grown[1]


def of_case(layout, case):
    """Its store, maps and probabilities with their arrays, and its mask."""
    stores = {
        layout.case_store(case): "image",
        layout.residual_store("mrm", case): "residual",
        layout.prediction_store("grcsf", 1, case): "probability",
    }
    return stores, layout.mask("grcsf", 1, case, ".mha")


def test_a_new_case_lies_by_digest_and_the_others_stay(layout, case, finished):
    stores, mask = of_case(layout, case)
    assert {path.parent.name for path in [*stores, mask]} == {digest_folder(case)}
    assert mask.with_name(f"{case}.json").exists()
    flat = {path.relative_to(finished) for path in finished.glob("results/heart/**/*.zarr")}
    there = set(layout.root.glob("heart/**/*.zarr"))
    others = {path for path in flat if path.stem != case}
    assert others
    assert others <= there
    assert {path.stem for path in there - others} == {case}


def test_results_are_those_of_flat_folders(layout, case, finished):
    stores, mask = of_case(layout, case)
    before, flat = of_case(Layout(finished / "results", "heart"), case)
    for (path, name), other in zip(stores.items(), before, strict=True):
        made, earlier = (read_array(open_store(each), name) for each in (path, other))
        np.testing.assert_array_equal(made, earlier)
    assert flat.parent.name == "subset-1"
    assert file_digest(mask) == file_digest(flat)
    scores = layout.scores("grcsf")
    assert scores.read_bytes() == (finished / scores).read_bytes()


def test_every_command_finds_the_stores(layout, finished):
    content = yaml.safe_load(Path("config.yaml").read_text("utf-8"))["datasets"]["heart"]
    dataset = Dataset.model_validate(content)
    kept, before = (
        {(store.group, store.case) for store in list_stores(each)}
        for each in (layout, Layout(finished / "results", "heart"))
    )
    assert kept == before
    assert not any(fault for _, fault in store_faults(layout, dataset))
    assert not list(needless({layout: [dataset]}))
    assert changed_results(layout) == []
    command = ["derivatives", "--config", "config.yaml", "--dataset", "heart", *GRCSF]
    assert call(*command, "--output", "bids")[0] == 0
    assert len(list(Path("bids").rglob("*_mask.nii.gz"))) == 3


def test_a_trace_follows_the_case_alone(layout, case):
    _, mask = of_case(layout, case)
    code, told = trace(mask)
    assert code == 0, told
    assert told.rstrip().endswith("files are there, as recorded")
    assert f"postprocess/grcsf/subset-1/{digest_folder(case)}/{case}.mha" in told
    assert f"predict/grcsf/subset-1/{digest_folder(case)}/{case}.zarr" in told
    other = next(one for one in read_json(layout.split)["subsets"]["1"]["test"] if one != case)
    assert f"subset-1/{other}.mha" not in told


def test_a_stage_that_finds_all_made_leaves_it_and_its_run(layout, case):
    _, mask = of_case(layout, case)
    record = record_of(layout.masks("grcsf", 1))
    before = read_json(record)["results"]
    stage("postprocess", *GRCSF)
    assert read_json(record)["results"] == before
    assert f"subset-1/{digest_folder(case)}/{mask.name}" in before


def test_a_mask_edited_there_is_told(layout, case):
    _, mask = of_case(layout, case)
    content = mask.read_bytes()
    mask.write_bytes(content + b" ")
    told = [line for result in changed_results(layout) for line in result.messages]
    mask.write_bytes(content)
    assert any(f"not as it was made: {mask}" in line for line in told)
