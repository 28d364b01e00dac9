"""What a call finds of the one before it: edited code, and results recorded elsewhere."""

import copy
import shutil

import pytest

import pipeline.orchestration.last_run
from pipeline.orchestration.last_run import (
    changed_code,
    code_now,
    imported,
    note_code,
    note_recorded,
    results_there,
    unrecorded,
)
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import STAGES, Layout, record_of


@pytest.fixture
def layout(tmp_path):
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
    assert changed_code([layout], code) == ""
    note_code(layout, code)
    assert changed_code([layout], code) == ""


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
    line = changed_code([layout], changed(code, file))
    assert line.startswith(f"heart: {file} changed since the last run and no VERSION was raised")
    assert line.endswith(f"raise VERSION in pipeline/ of its stage ({stages})")
    assert "\n" not in line


def test_a_raised_version_of_a_stage_that_imports_it_is_enough(layout, code):
    note_code(layout, code)
    assert changed_code([layout], changed(code, "pipeline/split.py", raised=["split"])) == ""
    assert changed_code([layout], changed(code, "pipeline/split.py", raised=["train_mae"])) != ""


def test_code_that_no_stage_imports_is_not_told_of(layout, code):
    note_code(layout, code)
    assert (
        changed_code([layout], changed(code, "pipeline/tools/store/prune.py", "pipeline/new.py"))
        == ""
    )


def test_several_data_sets_are_one_line(layout, code):
    other, new = Layout(layout.root, "head"), Layout(layout.root, "new")
    note_code(layout, code)
    note_code(other, changed(code, "pipeline/split.py"))
    now = changed(code, "pipeline/split.py")
    assert changed_code([layout, other, new], now).startswith("heart: pipeline/split.py changed")
    now = changed(now, "pipeline/predict.py")
    line = changed_code([layout, other, new], now)
    assert line.startswith("heart, head: pipeline/predict.py, pipeline/split.py changed since")
    assert "\n" not in line


def test_many_files_are_one_line(layout, code):
    note_code(layout, code)
    line = changed_code([layout], changed(code, *sorted(imported("report"))))
    assert " and " in line
    assert len(line) < 600


def test_every_stage_imports_itself():
    for stage in STAGES:
        assert f"pipeline/{stage}.py" in imported(stage)
    assert "grcsf/residuals.py" in imported("residual_maps")
    assert "grcsf/residuals.py" not in imported("split")


@pytest.fixture
def records(tmp_path):
    """Snakemake's folder in a working directory."""
    return tmp_path / ".snakemake"


@pytest.fixture
def recorded(layout, code, records):
    """Results that a call has made here."""
    note_code(layout, code)
    note_recorded(layout, records, {layout.cases})
    return layout


def test_results_are_looked_at_until_they_are_recorded_here(layout, code, records):
    assert unrecorded(layout, records) == {layout.cases}
    note_code(layout, code)
    assert unrecorded(layout, records) == {layout.cases}
    note_recorded(layout, records)
    assert unrecorded(layout, records) == {layout.cases}, "a call has begun, and was killed"
    note_recorded(layout, records, {layout.cases})
    assert unrecorded(layout, records) == set()


def test_what_a_call_did_not_look_at_is_looked_at_by_the_next(layout, code, records):
    write_json(layout.split, {})
    write_json(layout.masks("unet", 1), {})
    note_code(layout, code)
    note_recorded(layout, records, {layout.cases, layout.split})
    assert unrecorded(layout, records) == {layout.masks("unet", 1)}
    note_recorded(layout, records, {layout.cases})
    assert unrecorded(layout, records) == {layout.masks("unet", 1)}
    layout.masks("unet", 1).unlink()
    assert unrecorded(layout, records) == set(), "Snakemake itself misses what is not there"


def test_what_a_call_has_begun_with_is_recorded_here_however_it_ends(layout, code, records):
    layout.cases.unlink()
    note_code(layout, code)
    note_recorded(layout, records)
    write_json(layout.cases, {})
    assert unrecorded(layout, records) == set()


def test_results_put_back_from_a_copy_are_looked_at(recorded, records, tmp_path):
    shutil.copytree(recorded.root, tmp_path / "backup")
    note_recorded(recorded, records, {recorded.cases})
    shutil.rmtree(recorded.root)
    shutil.copytree(tmp_path / "backup", recorded.root)
    assert unrecorded(recorded, records) == {recorded.cases}


def test_a_copy_of_what_is_there_may_be_put_back(recorded, records, code, tmp_path):
    shutil.copytree(recorded.root, tmp_path / "backup")
    note_code(recorded, code)  # by a call that has nothing to do
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


def test_records_of_several_data_sets_do_not_share_a_file(layout, code, records):
    other = Layout(layout.root, "head")
    for one in (layout, other):
        note_code(one, code)
        note_recorded(one, records)
    assert len(list((records / "grcsf").iterdir())) == 2
