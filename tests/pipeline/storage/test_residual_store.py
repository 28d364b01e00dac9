"""A folder of residual stores that several projects and users share."""

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline import residual_maps as stage
from pipeline.errors import PipelineError
from pipeline.orchestration.changed_results import changed_results
from pipeline.settings import store_root
from pipeline.settings.reading import validate
from pipeline.storage import residual_store
from pipeline.storage.files import read_json
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import shared_store, write_residuals
from pipeline.storage.zarr_store import open_store, read_array, verify_store
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES
from tests.pipeline.storage.stores import as_another_user

MAPS = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float16).reshape(2, 3, 8, 8)


def find_or_link(*of_a_store):
    return residual_store.find_or_link(*of_a_store, MAPS.shape)


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


@pytest.mark.parametrize("made_before", [False, True])
def test_a_project_with_its_own_shared_folder_can_be_moved(tmp_path, monkeypatch, made_before):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if made_before:
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
    assert [file.name for file in path.parent.iterdir()] == ["a.zarr"]
    if not gone:
        verify_store(shared_store(shared, "a", "old"))
    write(project(tmp_path, shared))
    assert path.is_symlink(), "and the store for a link again"
    np.testing.assert_array_equal(read(alone), MAPS)


def test_what_is_damaged_in_or_vanishes_from_the_shared_folder_is_made_again(tmp_path, shared):
    layout = project(tmp_path, shared)
    write(layout)
    manifest = layout.residual_batch("mrm", "1of1")
    manifest.write_text('{"outputs": ["a.zarr"]}')
    assert changed_results(layout) == []
    damaged = shared_store(shared, "a", "f") / "zarr.json"
    damaged.write_text("{")
    assert not find_or_link(layout, "mrm", "a", "f")
    write(layout)
    np.testing.assert_array_equal(read(layout), MAPS)
    shutil.rmtree(shared)
    assert not find_or_link(layout, "mrm", "a", "f")
    assert [change.manifest for change in changed_results(layout)] == [manifest]
    write(layout)
    np.testing.assert_array_equal(read(layout), MAPS)


def test_a_cache_of_another_user_is_read_and_never_written(open_folder):
    cache, layout = open_folder / "cache", project(open_folder / "other", open_folder / "cache")
    write(project(open_folder / "owner", cache))
    (open_folder / "other").mkdir()
    (open_folder / "other").chmod(0o777)
    before = sorted(cache.rglob("*"))
    for path in (cache, cache / "a"):
        path.chmod(0o555)

    def read_and_make():
        """Read what it has, and make what it lacks; the messages."""
        messages = []
        handler = logging.Handler()
        handler.emit = lambda record: messages.append(record.getMessage())
        logging.getLogger("pipeline.storage.residual_store").addHandler(handler)
        assert [find_or_link(layout, "mrm", case, "f") for case in "ab"] == [True, False]
        for case in "bc":
            write(layout, case)
        assert [read(layout, case).shape for case in "abc"] == [MAPS.shape] * 3
        links = [layout.residual_store("mrm", case).is_symlink() for case in "abc"]
        assert links == [True, False, False]
        return [line for line in messages if "not writable" in line]

    (message,) = as_another_user(read_and_make)
    assert message.startswith(f"store.root {cache}: not writable for you")
    assert sorted(cache.rglob("*")) == before


def test_residual_maps_of_a_second_project_are_found_and_read_the_same(
    trained_once, residuals_once, caplog, tmp_path
):
    caplog.set_level(logging.INFO)
    settings = RESIDUALS, {"shared": MAE}, (1,), SLICES, 5, RESOURCES
    layouts = [residuals_once]
    for number, due in ((1, "5 to make"), (2, "0 to make")):
        root = tmp_path / str(number)
        shutil.copytree(trained_once.root, root)
        layouts.append(replace(trained_once, root=root, shared=tmp_path / "cache"))
        stage.residual_maps(layouts[-1], "mrm", "1of1", *settings)
        assert f"mrm 1of1: 5 cases, {due}" in caplog.messages
    first, *others = [read_json(layout.residual_batch("mrm", "1of1")) for layout in layouts]
    assert others == [first, first]
    for case in "abcde":
        alone, *cached = [read(layout, case) for layout in layouts]
        for maps in cached:
            np.testing.assert_array_equal(maps, alone)


def test_the_root_may_name_an_environment_variable(monkeypatch):
    dataset = {
        "source": {"adapter": "manifest", "root": "x"},
        "slices": {"window": [0, 1]},
        "experiments": {"u": {"model": "unet"}},
    }
    settings = validate({"store": {"root": "$GRCSF_CACHE/maps"}, "datasets": {"d": dataset}}, "c")
    monkeypatch.setenv("GRCSF_CACHE", "/scratch")
    assert store_root(settings) == Path("/scratch/maps")
    monkeypatch.delenv("GRCSF_CACHE")
    with pytest.raises(PipelineError, match=r"store\.root: found '\$GRCSF_CACHE/maps'"):
        store_root(settings)
