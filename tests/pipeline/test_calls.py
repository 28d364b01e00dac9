"""What a call says before it plans, and leaves when it ends."""

import pytest

from pipeline.calls import Call
from pipeline.claims import alone, claim_call, release_call
from pipeline.errors import PipelineError
from pipeline.last_run import mark_of
from pipeline.layout import Layout
from pipeline.stores import write_json


@pytest.fixture
def layouts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mark_of.cache_clear()
    return [Layout(tmp_path / "results", name) for name in ("heart", "head")]


def said(layouts):
    return list(Call(layouts).before_plan())


def stop(layout, *work):
    with pytest.raises(PipelineError), alone(layout, *work):
        raise KeyboardInterrupt


def made(layout):
    """A call that ends with a data set ingested."""
    call = Call([layout])
    call.begin()
    write_json(layout.cases, {"cases": {}, "outputs": []})
    call.end()


def test_a_first_call_has_nothing_to_say(layouts):
    assert said(layouts) == []


def test_one_line_tells_all_that_was_stopped_until_a_call_has_ended(layouts):
    stop(layouts[0], "train_mae", "m")
    stop(layouts[1], "predict", "unet", 2)
    line = (
        "stopped half-way, and now taken up where it stood: heart train_mae m, head predict unet 2"
    )
    assert said(layouts) == [line]
    call = Call(layouts)
    call.begin()
    assert said(layouts)[-1] == line
    call.end()
    assert said(layouts) == []


def test_a_data_set_that_something_works_on_is_left_as_it_is(layouts):
    write_json(layouts[0].cases, {"cases": {}, "outputs": ["not-there.zarr"]})
    with alone(layouts[0], "ingest"):
        (line,) = said(layouts)
    assert line.startswith("heart: ingest still runs (process ")
    assert layouts[0].cases.exists()
    held = claim_call(layouts[0])
    (line,) = said(layouts)
    assert line.startswith("heart: another call works on it (process ")
    assert layouts[0].cases.exists()
    release_call(held)
    assert said(layouts) == [f"withdrawn, because what it lists is not there: {layouts[0].cases}"]


def test_two_calls_on_one_data_set_are_one_too_many(layouts):
    first = Call(layouts[:1])
    first.begin()
    Call(layouts[1:]).begin()
    with pytest.raises(PipelineError, match="data set heart: another call works on its results"):
        Call(layouts).begin()
    first.end()


def test_results_of_a_call_that_failed_are_recorded_here_all_the_same(layouts):
    call = Call(layouts)
    call.begin()
    write_json(layouts[0].cases, {"cases": {}, "outputs": []})
    assert not any("not recorded" in line for line in said(layouts))


def test_results_from_elsewhere_are_looked_at_until_a_call_ends(layouts, tmp_path, monkeypatch):
    made(layouts[0])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (line,) = said(layouts)
    assert line.startswith("heart: its results were not recorded in this working directory")
    call = Call(layouts)
    call.begin()
    call.end()
    assert said(layouts) == []
