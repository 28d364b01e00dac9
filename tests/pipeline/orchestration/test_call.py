"""What a call says before it plans, and leaves when it ends."""

import os

import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration import call as call_module
from pipeline.orchestration.call import Call
from pipeline.orchestration.last_run import RECORDS
from pipeline.orchestration.locks import list_locks, lock_dataset, locked
from pipeline.storage.files import read_json, write_json
from pipeline.storage.source_notes import file_stats, write_source_note
from tests.pipeline.orchestration.calls import (
    check,
    job,
    made,
    partial,
    planned,
    pretrained,
    ran,
    stop,
    whole,
)


def test_only_what_a_call_does_is_taken_up_and_the_rest_is_not_forgotten(layouts):
    assert check(layouts) == [], "a first call has nothing to say"
    stop(layouts[0], "train_mae", "m")
    stop(layouts[0], "predict", "unet", 2)
    stop(layouts[1], "split")
    line = "stopped half-way: heart predict unet 2, heart train_mae m, head split"
    assert check(layouts) == [line]
    ingest = job(layouts[0], "ingest", due=False)
    assert ran(layouts, partial(ingest, job(layouts[0], "split"))) == [line]
    taken = (job(layouts[0], "train_mae m"), job(layouts[1], "split"))
    lines = ran(layouts, partial(ingest, *taken))
    assert lines == [line, "taken up where it stood: heart train_mae m, head split"]
    assert check(layouts) == ["stopped half-way: heart predict unet 2"]
    # a call that finds nothing to do forgets what is made, or what no configuration has
    assert list(Call(layouts, pretrained).finish(whole(ingest))) == []
    assert check(layouts) == []
    assert list_locks(layouts[0]) == []


def test_a_partial_call_does_not_use_up_what_is_said_of_changed_code(layouts, monkeypatch):
    monkeypatch.setattr(call_module, "source_state", lambda: {"commit": "a", "changed": []})
    made(layouts[0])
    monkeypatch.setattr(call_module, "source_state", lambda: {"commit": "b", "changed": []})
    plan = (job(layouts[0], "ingest"), job(layouts[0], "split"))
    for _ in range(2):
        (line,) = ran(layouts, partial(*plan))
        assert line.startswith("heart: code changed since the last run (a → b)")
    assert len(ran(layouts, whole(*plan))) == 1
    assert check(layouts) == []


def test_a_data_set_that_a_call_works_on_is_left_as_it_is(layouts):
    made(layouts[0])
    write_json(layouts[0].cases, {"cases": {}, "outputs": ["not-there.zarr"]})
    held = lock_dataset(layouts[0])
    (line,) = check(layouts)
    assert line.startswith("heart: another call works on it (process ")
    held.close()
    (line,), due = planned(layouts)
    assert line.startswith(f"no longer there, though {layouts[0].cases} lists it: ")
    assert due == {layouts[0].cases}


def test_of_a_stage_that_still_runs_only_its_own_outputs_are_left_alone(layouts, tmp_path):
    layout = layouts[0]
    made(layout)
    (tmp_path / "image").write_bytes(b"read")
    stats = file_stats([tmp_path / "image"])
    write_source_note(layout.sources("ingest"), stats, {tmp_path / "image": "of other content"})
    os.utime(tmp_path / "image", (1_500_000_000, 1_500_000_000))
    first, second = layout.predictions("unet", 1), layout.predictions("unet", 2)
    for manifest in (layout.cases, first, second):
        write_json(manifest, {"cases": {}, "outputs": ["not-there"]})
    with locked(layout, "predict", "unet", 2):
        lines, due = planned(layouts)
        assert due == {layout.cases, first}
        assert lines[0].startswith("heart: predict unet 2 still runs (process ")
        assert lines[-1] == f"heart: replaced since ingest read it: {tmp_path / 'image'}"
    with locked(layout, "ingest"):
        lines, due = planned(layouts)
        assert due == {first, second}
        assert not any("replaced" in line for line in lines)
    RECORDS.joinpath("grcsf").rename("other records")
    with locked(layout, "predict", "unet", 2):
        lines, due = planned(layouts)
        assert due == {layout.cases, first}
        assert any("not recorded in this working directory" in line for line in lines)


def test_two_calls_on_one_data_set_are_one_too_many(layouts):
    first = Call(layouts[:1], pretrained)
    first.lock()
    Call(layouts[1:], pretrained).lock()
    with pytest.raises(PipelineError, match="data set heart: another call works on its results"):
        Call(layouts, pretrained).lock()
    idle = Call(layouts, pretrained).finish(whole())
    assert list(idle) == [], "nothing was to be done, and nothing is noted"
    list(first.finish(whole()))


def test_results_of_a_call_that_failed_are_recorded_here_all_the_same(layouts):
    call = Call(layouts, pretrained)
    call.lock()
    list(call.prepare(whole(job(layouts[0], "ingest", layouts[0].cases))))
    write_json(layouts[0].cases, {"cases": {}, "outputs": []})
    assert not any("not recorded" in line for line in check(layouts))


def mark(layout):
    return read_json(layout.last_run)["mark"]


def test_a_call_marks_the_data_sets_that_it_makes_something_of_and_no_other(layouts):
    for layout in layouts:
        made(layout)
    before = [mark(layout) for layout in layouts]
    idle = job(layouts[0], "ingest", layouts[0].cases, due=False)
    assert list(Call(layouts, pretrained).finish(whole(idle))) == []
    assert [mark(layout) for layout in layouts] == before, "nothing was to be done"
    call, plan = Call(layouts, pretrained), whole(idle, job(layouts[1], "split", layouts[1].split))
    list(call.check())
    assert [mark(layout) for layout in layouts] == before, "a plan changes nothing"
    call.lock()
    list(call.prepare(plan))
    begun = mark(layouts[1])
    list(call.finish(plan))
    assert len({before[1], begun, mark(layouts[1])}) == 3, "a copy may be made at any time"
    assert mark(layouts[0]) == before[0]
    assert check(layouts) == []


def test_results_from_elsewhere_are_looked_at_until_a_call_ends(layouts, tmp_path, monkeypatch):
    made(layouts[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_json(layouts[0].masks("unet", 1), {"outputs": []})
    (line,), due = planned(layouts)
    assert line.startswith("heart: its results were not recorded in this working directory")
    assert due == {layouts[0].cases, layouts[0].masks("unet", 1)}
    assert ran(layouts, partial()) == [line], "without a job of the data set"
    assert ran(layouts, partial(job(layouts[0], "ingest", layouts[0].cases))) == [line]
    unmade = {layouts[0].masks("unet", 1)}  # of which that call had no job
    assert planned(layouts) == ([], unmade), "it is told once"
