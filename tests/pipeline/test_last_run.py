"""What a call finds of the one before it: edited code, and results recorded elsewhere."""

import copy

import pytest

from pipeline.files import write_json
from pipeline.last_run import (
    code_now,
    edited_code,
    imported,
    mark_of,
    note_code,
    note_recorded,
    recorded_elsewhere,
)
from pipeline.layout import STAGES, Layout


@pytest.fixture
def layout(tmp_path):
    mark_of.cache_clear()
    layout = Layout(tmp_path / "results", "heart")
    write_json(layout.cases, {"cases": {}, "outputs": []})
    return layout


@pytest.fixture
def code():
    return code_now()


def changed(code, *files, raised=()):
    later = copy.deepcopy(code)
    later["files"].update(dict.fromkeys(files, "other"))
    later["versions"].update(dict.fromkeys(raised, 99))
    return later


def test_every_file_and_version_is_in_the_note(code):
    assert {"grcsf/mae/model.py", "pipeline/settings/data.py"} <= set(code["files"])
    assert set(code["versions"]) == set(STAGES)


def test_before_the_first_run_and_without_a_change_nothing_is_told(layout, code):
    assert edited_code([layout], code) == ""
    note_code(layout, code)
    assert edited_code([layout], code) == ""


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("pipeline/split.py", "split"),
        ("grcsf/mae/adversarial.py", "train_mae"),
        ("grcsf/calcium.py", "postprocess, evaluate, compare, tabulate, report"),
    ],
)
def test_edited_code_names_the_stages_that_import_it(layout, code, file, stages):
    note_code(layout, code)
    line = edited_code([layout], changed(code, file))
    assert line.startswith(f"heart: {file} changed since the last run and no VERSION was raised")
    assert line.endswith(f"raise VERSION in pipeline/ of its stage ({stages})")
    assert "\n" not in line


def test_a_raised_version_of_a_stage_that_imports_it_is_enough(layout, code):
    note_code(layout, code)
    assert edited_code([layout], changed(code, "pipeline/split.py", raised=["split"])) == ""
    assert edited_code([layout], changed(code, "pipeline/split.py", raised=["train_mae"])) != ""


def test_code_that_no_stage_imports_is_not_told_of(layout, code):
    note_code(layout, code)
    assert edited_code([layout], changed(code, "pipeline/store_prune.py", "pipeline/new.py")) == ""


def test_several_data_sets_are_one_line(layout, code):
    other, new = Layout(layout.root, "head"), Layout(layout.root, "new")
    note_code(layout, code)
    note_code(other, changed(code, "pipeline/split.py"))
    now = changed(code, "pipeline/split.py")
    assert edited_code([layout, other, new], now).startswith("heart: pipeline/split.py changed")
    now = changed(now, "pipeline/predict.py")
    line = edited_code([layout, other, new], now)
    assert line.startswith("heart, head: pipeline/predict.py, pipeline/split.py changed since")
    assert "\n" not in line


def test_many_files_are_one_line(layout, code):
    note_code(layout, code)
    line = edited_code([layout], changed(code, *sorted(imported("report"))))
    assert " and " in line
    assert len(line) < 600


def test_every_stage_imports_itself():
    for stage in STAGES:
        assert f"pipeline/{stage}.py" in imported(stage)
    assert "grcsf/residuals.py" in imported("residual_maps")
    assert "grcsf/residuals.py" not in imported("split")


def test_results_are_looked_at_until_they_are_recorded_here(layout, code, tmp_path):
    records = tmp_path / ".snakemake"
    assert recorded_elsewhere(layout, records)
    note_code(layout, code)
    assert recorded_elsewhere(layout, records)
    note_recorded(layout, records)
    assert not recorded_elsewhere(layout, records)


def test_results_that_took_the_place_of_others_are_looked_at(layout, code, tmp_path):
    records = tmp_path / ".snakemake"
    note_code(layout, code)
    note_recorded(layout, records)
    ours = mark_of(layout)
    mark_of.cache_clear()
    write_json(layout.last_run, {"code": code, "mark": "of other results"})
    assert mark_of(layout) != ours
    assert recorded_elsewhere(layout, records)


def test_the_same_results_under_another_path_are_looked_at(layout, code, tmp_path):
    records = tmp_path / ".snakemake"
    note_code(layout, code)
    note_recorded(layout, records)
    moved = Layout(tmp_path / "moved", "heart")
    layout.root.rename(moved.root)
    assert recorded_elsewhere(moved, records)


def test_without_results_there_is_nothing_to_look_at(tmp_path):
    assert not recorded_elsewhere(Layout(tmp_path, "heart"), tmp_path)


def test_a_new_mark_stays_the_same_within_a_call(tmp_path):
    mark_of.cache_clear()
    layout = Layout(tmp_path, "heart")
    first = mark_of(layout)
    assert mark_of(layout) == first
    note_code(layout, {"files": {}, "versions": {}})
    mark_of.cache_clear()
    assert mark_of(layout) == first


def test_records_of_several_data_sets_do_not_share_a_file(layout, code, tmp_path):
    other = Layout(layout.root, "head")
    records = tmp_path / ".snakemake"
    for one in (layout, other):
        note_code(one, code)
        note_recorded(one, records)
    assert len(list((records / "grcsf").iterdir())) == 2
