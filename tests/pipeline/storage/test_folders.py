"""Folders by digest: when there are any, what lies there, and what a set is called."""

from pathlib import Path

import pytest

from pipeline.storage.folders import MOST_IN_FOLDER, digest_folder, note_many
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import shared_store

HASHED = "ba"  # SHA-256 of "abc" begins with it


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path, "brain")


def test_the_folder_is_the_beginning_of_the_digest():
    assert digest_folder("abc") == HASHED


def test_few_cases_lie_flat_and_many_do_not(layout):
    note_many(layout.by_digest, MOST_IN_FOLDER)
    assert layout.case_store("abc") == layout.stage("ingest") / "abc.zarr"
    note_many(layout.by_digest, MOST_IN_FOLDER + 1)
    assert layout.case_store("abc") == layout.stage("ingest") / HASHED / "abc.zarr"
    note_many(layout.by_digest, 1)
    assert layout.case_store("abc").parent.name == HASHED, "also when most of them are gone"
    mask = layout.mask("unet", 1, "abc", ".mha")
    assert mask == layout.stage("postprocess") / "unet/subset-1" / HASHED / "abc.mha"


def test_what_lay_flat_goes_on_there_even_as_a_dangling_link(layout):
    link = layout.residual_store("mrm", "abc")
    link.parent.mkdir(parents=True)
    link.symlink_to("nowhere")
    note_many(layout.by_digest, MOST_IN_FOLDER + 1)
    assert layout.residual_store("mrm", "abc") == link
    link.unlink()
    assert layout.residual_store("mrm", "abc") != link


@pytest.mark.parametrize(
    ("stage", "store", "of"),
    [
        ("ingest", "abc.zarr", ""),
        ("ingest", "ba/abc.zarr", ""),
        ("residual_maps", "mrm/ba/abc.zarr", "mrm"),
        ("residual_maps", "mrm/fold-2/ba/abc.zarr", "mrm/fold-2"),
        ("residual_maps", "ba/abc.zarr", "ba"),  # a set may have such a name
        ("residual_maps", "ba/ba/abc.zarr", "ba"),
        ("predict", "unet/subset-1/ba/abc.zarr", "unet/subset-1"),
        ("predict", "unet/repeat-2/subset-1/ba/abc.zarr", "unet/repeat-2/subset-1"),
    ],
)
def test_every_store_is_found_and_of_its_set(layout, stage, store, of):
    path = layout.stage(stage) / store
    path.mkdir(parents=True)
    (path.parent / ".abc.zarr.0.tmp").mkdir()
    assert list(layout.existing("store")) == [(stage, path)]
    assert layout.set_of(stage, path) == of


def test_the_stores_of_a_set_come_one_after_the_other(layout):
    folders = [layout.stage("predict") / experiment / "subset-1" for experiment in ("a", "b")]
    stores = [folder / store for folder in folders for store in ("x.zarr", f"{HASHED}/abc.zarr")]
    for store in stores:
        store.mkdir(parents=True)
    assert [path for _, path in layout.existing("store")] == stores


def test_projects_of_few_and_many_cases_find_each_other_s_shared_stores(tmp_path):
    few, many = tmp_path / "abc/f.zarr", tmp_path / HASHED / "abc/f.zarr"

    def both() -> list[Path]:
        return [shared_store(tmp_path, "abc", "f", many=each) for each in (False, True)]

    assert both() == [few, many]
    many.mkdir(parents=True)
    assert both() == [many, many]
    assert shared_store(tmp_path, "abc", "other") == tmp_path / "abc/other.zarr"
    few.mkdir(parents=True)
    assert both() == [few, few]
