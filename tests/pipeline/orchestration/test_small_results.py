"""A split, scores and tables are compared with the record of the job that wrote them."""

import os

import pytest

from pipeline.orchestration.changed_results import ChangedResult, changed_results, set_aside
from pipeline.orchestration.record_writer import Inputs, JobDescription, recorded
from pipeline.storage.folders import record_of
from pipeline.storage.layout import Layout

OLDER = (1_577_836_800, 1_577_836_800)
SMALL = {
    "split": lambda layout: [layout.split],
    "evaluate": lambda layout: [layout.scores("unet++"), layout.summary("unet++")],
    "compare": lambda layout: [layout.table(".md"), layout.table(".csv")],
    "tabulate": lambda layout: [layout.chosen_table("t", suffix) for suffix in (".md", ".csv")],
    "draw": lambda layout: [layout.figure("f", suffix) for suffix in (".md", ".svg", ".png")],
}


def write_small(layout: Layout, stage: str, *, killed: bool = False, text: str = "{}") -> None:
    """A job of a stage that only writes small files, with its record."""
    written = SMALL[stage](layout)
    job = JobDescription(stage, layout.dataset, {}, layout.root, written, {}, seed=0, version=1)
    with recorded(job, lambda: Inputs({}, {})):
        for path in written:
            path.write_text(text)
        if killed:
            raise KeyboardInterrupt


@pytest.fixture
def small(tmp_path, monkeypatch) -> Layout:
    """A split, scores, a comparison, a table and a figure, with their records."""
    for slow in ("source_state", "loaded_packages"):
        monkeypatch.setattr(f"pipeline.orchestration.record_writer.{slow}", dict)
    layout = Layout(tmp_path, "heart")
    for stage in SMALL:
        write_small(layout, stage)
    return layout


@pytest.mark.parametrize(
    ("stage", "index"), [(stage, index) for stage in SMALL for index in (0, -1)]
)
def test_an_edited_small_result_is_told_in_one_line_and_set_aside(small, stage, index):
    declared, path = SMALL[stage](small)[0], SMALL[stage](small)[index]
    assert changed_results(small) == []
    reason = f"{path}: has changed since it was written"
    path.write_text("{ }")
    for times in (None, OLDER):
        os.utime(path, times)
        assert changed_results(small) == [ChangedResult(declared, {path: reason})]
    assert path.read_text() == "{ }"
    (line,) = set_aside(declared)
    aside = path.with_name(line.removeprefix("set aside as ").split(": ")[0])
    assert aside.read_text() == "{ }"
    assert (aside.name[0], aside.suffix) == (".", ".old"), "which prune finds"
    assert not path.exists()
    assert changed_results(small) == [], "Snakemake misses it by itself"
    write_small(small, stage)
    assert changed_results(small) == []


@pytest.mark.parametrize("stage", SMALL)
def test_a_small_result_that_was_only_touched_or_deleted_is_not_told(small, stage):
    files = SMALL[stage](small)
    files[-1].touch()
    os.utime(files[0], OLDER)
    assert changed_results(small) == []
    files[-1].unlink()
    assert changed_results(small) == []


@pytest.mark.parametrize("record", [None, "", "{", "[]", "{}", '{"format": 1}', '{"format": 9}'])
def test_without_a_sound_record_nothing_is_said_of_a_small_result(small, record):
    small.split.write_text("edited")
    path = record_of(small.split)
    path.unlink() if record is None else path.write_text(record)
    assert changed_results(small) == []
    assert set_aside(small.split) == []


def test_what_a_killed_job_has_written_is_not_compared_with_an_earlier_one_s(small):
    with pytest.raises(KeyboardInterrupt):
        write_small(small, "evaluate", killed=True, text='{"new": 1}')
    assert changed_results(small) == []
    write_small(small, "evaluate", text='{"new": 1}')
    assert changed_results(small) == []


def test_numbers_in_a_manifest_are_compared_as_well_as_what_it_lists(small):
    manifest = small.measures("1of2")
    manifest.parent.mkdir()
    job = JobDescription(
        "measure", small.dataset, {"batch": "1of2"}, small.root, [manifest], {}, seed=0, version=1
    )
    with recorded(job, lambda: Inputs({}, {})):
        manifest.write_text('{"cases": {}, "outputs": ["cases/a.dcm"]}')
    (lost,) = changed_results(small)
    assert "no longer there" in lost.lost
    manifest.write_text('{"cases": {"a": 99}, "outputs": []}')
    told = {manifest: f"{manifest}: has changed since it was written"}
    assert changed_results(small) == [ChangedResult(manifest, told)]
