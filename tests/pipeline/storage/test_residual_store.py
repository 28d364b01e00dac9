"""A folder of residual stores that several projects and users share."""

import errno
import logging
import multiprocessing
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from grcsf.mae.build import build_masked_model
from pipeline import residual_maps as stage
from pipeline.errors import PipelineError
from pipeline.networks.weights import keep_model
from pipeline.orchestration.changed_results import changed_results
from pipeline.residual_maps import residual_maps
from pipeline.settings import store_root
from pipeline.settings.reading import validate
from pipeline.storage import residual_store, zarr_store
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import find_or_link, shared_store, write_residuals
from pipeline.storage.zarr_store import open_store, read_array, verify_store

MAPS = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float16).reshape(2, 3, 8, 8)
NOBODY = 65534


@pytest.fixture(autouse=True)
def _tell_again():
    residual_store._warn_once.cache_clear()


@pytest.fixture
def shared(tmp_path):
    return tmp_path / "cache"


def project(folder, shared):
    return Layout(folder / "results", "brain", shared)


def write(layout, case="a", key="f", maps=MAPS):
    write_residuals(layout, "mrm", case, maps, {"fingerprint": key, "case": case})


def read(layout, case="a"):
    return read_array(open_store(layout.residual_store("mrm", case)), "residual")


def test_what_one_project_made_another_links(tmp_path, shared):
    first, second = project(tmp_path / "1", shared), project(tmp_path / "2", shared)
    assert not find_or_link(first, "mrm", "a", "f")
    write(first)
    assert find_or_link(second, "mrm", "a", "f")
    np.testing.assert_array_equal(read(second), MAPS)
    link = second.residual_store("mrm", "a")
    assert link.is_symlink()
    assert link.resolve() == shared_store(shared, "a", "f")
    assert [path.name for path in link.parent.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("found", [False, True])
def test_a_project_with_its_own_shared_folder_can_be_moved(tmp_path, monkeypatch, found):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if found:
        write(project(here / "first", Path("cache")))
        assert find_or_link(Layout(Path("results"), "brain", Path("cache")), "mrm", "a", "f")
    else:
        write(Layout(Path("results"), "brain", Path("cache")))
    here.rename(tmp_path / "there")
    moved = Layout(tmp_path / "there" / "results", "brain")
    np.testing.assert_array_equal(read(moved), MAPS)


def test_a_link_out_of_the_project_stays_true_when_the_project_is_moved(tmp_path, shared):
    write(project(tmp_path / "deep" / "here", shared))
    (tmp_path / "deep" / "here").rename(tmp_path / "there")
    np.testing.assert_array_equal(read(project(tmp_path / "there", shared)), MAPS)


@pytest.mark.parametrize(("case", "key"), [("a", "g"), ("b", "f")])
def test_other_settings_and_other_names_have_stores_of_their_own(tmp_path, shared, case, key):
    layout = project(tmp_path, shared)
    write(layout)
    assert not find_or_link(layout, "mrm", case, key)
    write(layout, case, key, MAPS / 2)
    np.testing.assert_array_equal(read(layout, case), MAPS / 2)
    verify_store(shared_store(shared, "a", "f"))
    assert find_or_link(layout, "mrm", "a", "f"), "going back to old settings makes nothing anew"
    np.testing.assert_array_equal(read(layout), MAPS)


def test_a_store_in_the_results_makes_room_for_the_link(tmp_path, shared):
    write(project(tmp_path, None), key="old")
    write(project(tmp_path, shared))
    np.testing.assert_array_equal(read(project(tmp_path, shared)), MAPS)
    folder = project(tmp_path, shared).residual_store("mrm", "a").parent
    assert [path.name for path in folder.iterdir()] == ["a.zarr"]


@pytest.mark.parametrize("gone", [False, True])
def test_a_link_makes_room_for_a_store_in_the_results(tmp_path, shared, gone):
    write(project(tmp_path, shared), key="old")
    if gone:
        shutil.rmtree(shared)
    alone = project(tmp_path, None)
    write(alone, maps=MAPS / 2)
    path = alone.residual_store("mrm", "a")
    assert not path.is_symlink()
    np.testing.assert_array_equal(read(alone), MAPS / 2)
    assert [one.name for one in path.parent.iterdir()] == ["a.zarr"]
    if not gone:
        verify_store(shared_store(shared, "a", "old"))


def test_a_link_makes_room_where_the_shared_folder_takes_no_more(tmp_path, shared, monkeypatch):
    layout = project(tmp_path, shared)
    write(layout, key="old")
    write_store = residual_store.write_store

    def refused(path, *arguments, **options):
        if shared in path.parents:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        write_store(path, *arguments, **options)

    monkeypatch.setattr(residual_store, "write_store", refused)
    write(layout, maps=MAPS / 2)
    assert not layout.residual_store("mrm", "a").is_symlink()
    np.testing.assert_array_equal(read(layout), MAPS / 2)
    verify_store(shared_store(shared, "a", "old"))


def test_the_store_of_a_faster_job_stays_as_it_is(tmp_path, shared):
    write(project(tmp_path / "1", shared))
    before = shared_store(shared, "a", "f").stat().st_ino
    write(project(tmp_path / "2", shared))
    assert shared_store(shared, "a", "f").stat().st_ino == before


def test_what_vanishes_from_the_shared_folder_is_missed(tmp_path, shared):
    layout = project(tmp_path, shared)
    write(layout)
    manifest = layout.residual_batch("mrm", "1of1")
    manifest.write_text('{"outputs": ["a.zarr"]}')
    assert changed_results(layout) == []
    shutil.rmtree(shared)
    assert not find_or_link(layout, "mrm", "a", "f")
    assert [one.manifest for one in changed_results(layout)] == [manifest]
    write(layout)
    np.testing.assert_array_equal(read(layout), MAPS)


def test_a_damaged_shared_store_is_made_again(tmp_path, shared):
    layout = project(tmp_path, shared)
    write(layout)
    (shared_store(shared, "a", "f") / "zarr.json").write_text("{")
    with pytest.raises(PipelineError, match=f"store {shared_store(shared, 'a', 'f')}: damaged"):
        read(layout)
    assert not find_or_link(layout, "mrm", "a", "f")
    write(layout)
    verify_store(shared_store(shared, "a", "f"))


def use_as_another(folder, results):
    """In a process without rights to the cache: read what it has, and make what it lacks."""
    told = []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("pipeline.storage.residual_store").addHandler(handler)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    layout = Layout(results, "brain", folder / "cache")
    assert find_or_link(layout, "mrm", "a", "f")
    assert not find_or_link(layout, "mrm", "b", "f")
    for case in "bc":
        write(layout, case)
    assert [read(layout, case).shape for case in "abc"] == [MAPS.shape] * 3
    assert [layout.residual_store("mrm", case).is_symlink() for case in "abc"] == [
        True,
        False,
        False,
    ]
    told = [line for line in told if "not writable" in line]
    assert len(told) == 1
    assert told[0].startswith(f"store.root {folder / 'cache'}: not writable for you")


def test_a_cache_of_another_user_is_read_and_never_written():
    folder = Path(tempfile.mkdtemp(prefix="grcsf-test-"))
    try:
        folder.chmod(0o755)
        write(project(folder / "owner", folder / "cache"))
        before = sorted((folder / "cache").rglob("*"))
        for path in (folder / "cache", folder / "cache" / "a"):
            path.chmod(0o555)
        (folder / "other").mkdir()
        (folder / "other").chmod(0o777)
        results = folder / "other" / "results"
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=use_as_another, args=(folder, results))
        child.start()
        child.join()
        assert child.exitcode == 0
        assert sorted((folder / "cache").rglob("*")) == before
    finally:
        for path in (folder / "cache", folder / "cache" / "a"):
            path.chmod(0o755)
        shutil.rmtree(folder)


def make_beside(folder, results):
    """In a process of another user, who may write to the cache and not read what it has."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    layout = Layout(results, "brain", folder / "cache")
    assert not find_or_link(layout, "mrm", "a", "f")
    write(layout)
    assert not layout.residual_store("mrm", "a").is_symlink()
    assert find_or_link(layout, "mrm", "a", "f")


def test_a_store_that_is_closed_to_another_user_stays_in_its_place():
    if os.geteuid() != 0:
        pytest.skip("needs root, to act as another user")
    folder = Path(tempfile.mkdtemp(prefix="grcsf-test-"))
    try:
        folder.chmod(0o755)
        write(project(folder / "owner", folder / "cache"))
        for path in (folder / "cache", folder / "cache" / "a"):
            path.chmod(0o777)
        kept = shared_store(folder / "cache", "a", "f")
        kept.chmod(0o700)
        (folder / "other").mkdir()
        (folder / "other").chmod(0o777)
        fork = multiprocessing.get_context("fork")
        child = fork.Process(target=make_beside, args=(folder, folder / "other" / "results"))
        child.start()
        child.join()
        assert child.exitcode == 0
        verify_store(kept)
        assert list((folder / "cache" / "a").iterdir()) == [kept]
    finally:
        shutil.rmtree(folder)


def test_residual_maps_of_a_second_project_are_found_and_read_the_same(
    ingested, tmp_path, mae, residuals, slices, resources, caplog
):
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    keep_model(model, ingested.mae("shared"), "x", {})
    plain = tmp_path / "plain"
    shutil.copytree(ingested.root, plain)
    shutil.copytree(ingested.root, tmp_path / "second")
    arguments = ("mrm", "1of1", residuals, {"shared": mae}, (1,), slices, 5, resources)
    layouts = [
        replace(ingested, root=root, shared=shared)
        for root, shared in [
            (plain, None),
            (ingested.root, tmp_path / "cache"),
            (tmp_path / "second", tmp_path / "cache"),
        ]
    ]
    with caplog.at_level(logging.INFO):
        for layout in layouts:
            residual_maps(layout, *arguments)
    assert [text for text in caplog.messages if "to make" in text] == [
        "mrm 1of1: 5 cases, 5 to make",
        "mrm 1of1: 5 cases, 5 to make",
        "mrm 1of1: 5 cases, 0 to make",
    ]
    manifests = [read_json(layout.residual_batch("mrm", "1of1")) for layout in layouts]
    assert manifests[0] == manifests[1] == manifests[2]
    for case in "abcde":
        first, *others = [read(layout, case) for layout in layouts]
        for other in others:
            np.testing.assert_array_equal(first, other)


@pytest.mark.parametrize("change", ["version of the stage", "version of stores"])
def test_stores_of_an_older_version_are_made_again(
    ingested, mae, residuals, slices, resources, caplog, monkeypatch, change
):
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    keep_model(model, ingested.mae("shared"), "x", {})

    def made_anew():
        caplog.clear()
        with caplog.at_level(logging.INFO):
            residual_maps(
                ingested, "mrm", "1of1", residuals, {"shared": mae}, (1,), slices, 5, resources
            )
        (told,) = [text for text in caplog.messages if "to make" in text]
        return told.removeprefix("mrm 1of1: 5 cases, ")

    assert made_anew() == "5 to make"
    if change == "version of the stage":
        monkeypatch.setattr(stage, "VERSION", stage.VERSION + 1)
    else:
        path = ingested.residual_store("mrm", "a") / "zarr.json"
        text = path.read_text("utf-8")
        version = f'"store_version": {zarr_store.STORE_VERSION}'
        assert version in text
        path.write_text(text.replace(version, '"store_version": 0'), "utf-8")
    assert made_anew() == ("5 to make" if change == "version of the stage" else "1 to make")
    for case in "abcde":
        verify_store(ingested.residual_store("mrm", case))
    assert made_anew() == "0 to make"


def test_the_root_may_name_an_environment_variable(monkeypatch):
    base = {
        "datasets": {
            "d": {
                "source": {"adapter": "manifest", "root": "x"},
                "slices": {"window": [0, 1]},
                "experiments": {"u": {"model": "unet"}},
            }
        }
    }
    assert store_root(validate(base, "c")) is None
    settings = validate({**base, "store": {"root": "$GRCSF_CACHE/maps"}}, "c")
    monkeypatch.setenv("GRCSF_CACHE", "/scratch")
    assert store_root(settings) == Path("/scratch/maps")
    monkeypatch.delenv("GRCSF_CACHE")
    with pytest.raises(PipelineError, match=r"store\.root: found '\$GRCSF_CACHE/maps'"):
        store_root(settings)
