"""What a call finds of the one before it: changed code, and results recorded elsewhere."""

import shutil
from unittest.mock import DEFAULT, Mock

import pytest

from pipeline.orchestration import last_run
from pipeline.orchestration.last_run import (
    changed_code,
    note_code,
    note_recorded,
    results_there,
    unrecorded,
)
from pipeline.storage.files import write_json
from pipeline.storage.folders import record_of
from pipeline.storage.layout import Layout

CODE = {"commit": "a" * 40, "changed": []}
LATER = {"commit": "b" * 40, "changed": ["pipeline/split.py"]}


@pytest.fixture
def layout(layouts):
    write_json(layouts[0].cases, {"cases": {}, "outputs": []})
    return layouts[0]


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
    lines = changed_code([layout, *others], {"commit": "c" * 40, "changed": []})
    assert [line.partition(":")[0] for line in lines] == ["heart, head", "lung"]


@pytest.fixture
def recorded(layout):
    """Results that a call has made here."""
    note_code(layout, CODE)
    note_recorded(layout, {layout.cases})
    return layout


def test_results_are_looked_at_until_they_are_recorded_here(layout, layouts):
    assert unrecorded(layouts[1]) == set(), "without results there is nothing to look at"
    write_json(layout.split, {})
    assert unrecorded(layout) == {layout.cases, layout.split}
    note_code(layout, CODE)
    assert unrecorded(layout) == {layout.cases, layout.split}
    note_recorded(layout)
    assert unrecorded(layout) == {layout.cases, layout.split}, "a call has begun, and was killed"
    note_recorded(layout, {layout.cases})
    assert unrecorded(layout) == {layout.split}, "the next call looks at what this one did not"
    note_recorded(layout, {layout.cases})
    assert unrecorded(layout) == {layout.split}
    layout.split.unlink()
    assert unrecorded(layout) == set(), "Snakemake itself misses what is not there"
    write_json(layout.mae("m"), {})
    assert unrecorded(layout) == set(), "what the call has made is recorded, however it ends"
    layout.last_run.unlink()
    assert unrecorded(layout) == {layout.cases, layout.mae("m")}


@pytest.mark.parametrize("changed", [True, False])
def test_results_put_back_are_looked_at_if_they_had_changed(recorded, tmp_path, changed):
    shutil.copytree(recorded.root, tmp_path / "backup")
    # a call that has nothing to do notes the code alone
    note_recorded(recorded, {recorded.cases}) if changed else note_code(recorded, CODE)
    shutil.rmtree(recorded.root)
    shutil.copytree(tmp_path / "backup", recorded.root)
    assert unrecorded(recorded) == ({recorded.cases} if changed else set())


@pytest.mark.parametrize("written", [0, 1])
def test_a_call_killed_between_the_marks_leaves_what_is_looked_at(recorded, monkeypatch, written):
    write = Mock(side_effect=[*[DEFAULT] * written, KeyboardInterrupt], wraps=write_json)
    monkeypatch.setattr(last_run, "write_json", write)
    with pytest.raises(KeyboardInterrupt):
        note_recorded(recorded)
    assert unrecorded(recorded) == ({recorded.cases} if written else set())


def test_results_are_those_of_their_place_and_no_record_store_or_note(recorded, tmp_path):
    moved = Layout(tmp_path / "moved", "heart")
    recorded.root.rename(moved.root)
    assert unrecorded(moved) == {moved.cases}
    declared = {moved.cases, moved.residual_batch("mrm", "1of2"), moved.masks("unet", 1)}
    declared |= {moved.table(".csv"), moved.chosen_table("t", ".md"), moved.report}
    others = {moved.case_store("c") / "zarr.json", moved.residual_store("mrm", "c") / "zarr.json"}
    others |= {moved.mask("unet", 1, "c", ".json"), moved.last_run, moved.sources("ingest")}
    for path in declared | others | set(map(record_of, declared)):
        write_json(path, {})
    assert results_there(moved) == declared
