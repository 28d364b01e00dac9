"""What a call finds of the one before it: changed code, and results recorded elsewhere."""

import shutil

import pytest

import pipeline.orchestration.last_run
from pipeline.orchestration.last_run import (
    changed_code,
    note_code,
    note_recorded,
    results_there,
    unrecorded,
)
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout, record_of


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "results", "heart")
    write_json(layout.cases, {"cases": {}, "outputs": []})
    return layout


CODE = {"commit": "a" * 40, "changed": []}
LATER = {"commit": "b" * 40, "changed": ["pipeline/split.py"]}


@pytest.mark.parametrize(
    ("before", "now", "line"),
    [
        (CODE, CODE, None),
        (CODE, LATER, "aaaaaaaaaa → bbbbbbbbbb + 1 edited"),
        (LATER, {**LATER, "changed": []}, "bbbbbbbbbb + 1 edited → bbbbbbbbbb"),
        (CODE, None, None),
        (None, CODE, None),
        ({"files": {"pipeline/split.py": "x"}, "versions": {"split": 1}}, CODE, None),
    ],
    ids=["same", "commit", "edits", "no git", "no git before", "an older version's note"],
)
def test_changed_code_is_one_line_where_git_knows_it(layout, before, now, line):
    assert changed_code([layout], now) == [], "there was no call before"
    note_code(layout, before)
    start = f"heart: code changed since the last run ({line}); nothing runs again because of it"
    assert changed_code([layout], now) == ([f"{start} unless VERSION was raised"] if line else [])


def test_data_sets_of_the_same_code_share_a_line(layout):
    others = [Layout(layout.root, name) for name in ("head", "lung", "new")]
    for before, other in zip((CODE, CODE, LATER), (layout, *others), strict=False):
        note_code(other, before)
    now = {"commit": "c" * 40, "changed": []}
    lines = changed_code([layout, *others], now)
    assert [line.partition(":")[0] for line in lines] == ["heart, head", "lung"]


@pytest.fixture
def records(tmp_path):
    """Snakemake's folder in a working directory."""
    return tmp_path / ".snakemake"


@pytest.fixture
def recorded(layout, records):
    """Results that a call has made here."""
    note_code(layout, CODE)
    note_recorded(layout, records, {layout.cases})
    return layout


def test_results_are_looked_at_until_they_are_recorded_here(layout, records):
    assert unrecorded(layout, records) == {layout.cases}
    note_code(layout, CODE)
    assert unrecorded(layout, records) == {layout.cases}
    note_recorded(layout, records)
    assert unrecorded(layout, records) == {layout.cases}, "a call has begun, and was killed"
    note_recorded(layout, records, {layout.cases})
    assert unrecorded(layout, records) == set()


def test_what_a_call_did_not_look_at_is_looked_at_by_the_next(layout, records):
    write_json(layout.split, {})
    write_json(layout.masks("unet", 1), {})
    note_code(layout, CODE)
    note_recorded(layout, records, {layout.cases, layout.split})
    assert unrecorded(layout, records) == {layout.masks("unet", 1)}
    note_recorded(layout, records, {layout.cases})
    assert unrecorded(layout, records) == {layout.masks("unet", 1)}
    layout.masks("unet", 1).unlink()
    assert unrecorded(layout, records) == set(), "Snakemake itself misses what is not there"


def test_what_a_call_has_begun_with_is_recorded_here_however_it_ends(layout, records):
    layout.cases.unlink()
    note_code(layout, CODE)
    note_recorded(layout, records)
    write_json(layout.cases, {})
    assert unrecorded(layout, records) == set()


def test_results_put_back_from_a_copy_are_looked_at(recorded, records, tmp_path):
    shutil.copytree(recorded.root, tmp_path / "backup")
    note_recorded(recorded, records, {recorded.cases})
    shutil.rmtree(recorded.root)
    shutil.copytree(tmp_path / "backup", recorded.root)
    assert unrecorded(recorded, records) == {recorded.cases}


def test_a_copy_of_what_is_there_may_be_put_back(recorded, records, tmp_path):
    shutil.copytree(recorded.root, tmp_path / "backup")
    note_code(recorded, CODE)  # by a call that has nothing to do
    shutil.rmtree(recorded.root)
    shutil.copytree(tmp_path / "backup", recorded.root)
    assert unrecorded(recorded, records) == set()


def test_results_that_went_on_elsewhere_are_looked_at(recorded, records, tmp_path):
    elsewhere = tmp_path / "elsewhere" / ".snakemake"
    note_recorded(recorded, elsewhere, {recorded.cases})
    assert unrecorded(recorded, elsewhere) == set()
    assert unrecorded(recorded, records) == {recorded.cases}


@pytest.mark.parametrize("written", [0, 1])
def test_a_call_killed_between_the_marks_leaves_what_is_looked_at(
    recorded, records, monkeypatch, written
):
    calls = []

    def killed(*arguments):
        if len(calls) == written:
            raise KeyboardInterrupt
        calls.append(arguments)
        write_json(*arguments)

    monkeypatch.setattr(pipeline.orchestration.last_run, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        note_recorded(recorded, records)
    assert unrecorded(recorded, records) == ({recorded.cases} if written else set())


def test_results_without_their_mark_are_looked_at(recorded, records):
    recorded.last_run.unlink()
    assert unrecorded(recorded, records) == {recorded.cases}


def test_records_of_a_mark_that_was_kept_for_ever_are_not_believed(recorded, records):
    (path,) = (records / "grcsf").iterdir()
    write_json(path, {"mark": read_json(path)["mark"]})
    assert unrecorded(recorded, records) == {recorded.cases}


def test_the_same_results_under_another_path_are_looked_at(recorded, records, tmp_path):
    moved = Layout(tmp_path / "moved", "heart")
    recorded.root.rename(moved.root)
    assert unrecorded(moved, records) == {moved.cases}


def test_without_results_there_is_nothing_to_look_at(tmp_path):
    assert unrecorded(Layout(tmp_path, "heart"), tmp_path) == set()


def test_results_are_all_that_is_declared_and_no_record_store_or_note(layout):
    declared = {
        layout.cases,
        layout.split,
        layout.mae("m"),
        layout.residual_batch("mrm", "1of2"),
        layout.model("unet", 1),
        layout.predictions("unet", 1),
        layout.masks("unet", 1),
        layout.scores("unet"),
        layout.summary("unet"),
        layout.table(".md"),
        layout.table(".csv"),
        layout.chosen_table("t", ".md"),
        layout.chosen_table("t", ".csv"),
        layout.report,
    }
    others = {
        layout.case_store("c") / "zarr.json",
        layout.residual_store("mrm", "c") / "zarr.json",
        layout.mask("unet", 1, "c", ".json"),
        layout.last_run,
        layout.sources("ingest"),
        *map(record_of, declared),
    }
    for path in declared | others:
        write_json(path, {})
    assert results_there(layout) == declared


def test_records_of_several_data_sets_do_not_share_a_file(layout, records):
    other = Layout(layout.root, "head")
    for each in (layout, other):
        note_code(each, CODE)
        note_recorded(each, records)
    assert len(list((records / "grcsf").iterdir())) == 2
