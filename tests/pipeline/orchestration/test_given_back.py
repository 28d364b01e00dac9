"""Residual stores that a call deletes when no job of its plan reads them, and when it does not."""

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.orchestration.call import Call
from pipeline.orchestration.changed_results import changed_results
from pipeline.orchestration.given_back import Batch, GivenBack, left
from pipeline.storage.batches import batch_of
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import (
    give_back,
    maps_there,
    residual_fingerprint,
    write_batch,
    write_residuals,
)

MAPS = np.zeros((1, 2, 4, 4), np.float16)
CASES = {name: batch_of(name, 2) for name in "abcdef"}
FIRST, SECOND = ([name for name, of in CASES.items() if of == f"{n}of2"] for n in (1, 2))


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "results", "brain")


def make(layout, batch):
    """What the job of a batch does."""
    for case in (case for case, of in CASES.items() if of == batch):
        write_residuals(layout, "mrm", case, MAPS, {"fingerprint": f"key of {case}"})
    keys = {case: f"key of {case}" for case, of in CASES.items() if of == batch}
    write_batch(layout, "mrm", batch, keys, given_back=True)


def stores(layout):
    return sorted(path.stem for _, path in layout.existing("store"))


def batch(layout, name, *, due=True, read=True):
    return Batch(layout, "mrm", name, due, read)


def test_a_batch_goes_when_its_last_reader_has_ended_and_the_other_stays(layout):
    maps, both = GivenBack(), [batch(layout, "1of2"), batch(layout, "2of2")]
    assert list(maps.begin(both)) == []
    for each in both:
        make(layout, each.batch)
    assert list(maps.look()) == []
    both[0].there.unlink()  # by Snakemake
    (line,) = maps.end(both, failed=True)
    assert f"{len(FIRST)} stores of residual_maps mrm 1of2" in line
    assert stores(layout) == SECOND
    assert list(layout.stage("residual_maps").rglob(".*")) == []
    assert changed_results(layout) == [], "none of them counts as lost"
    assert [residual_fingerprint(layout, "mrm", case) for case in "ab"] == ["key of a", "key of b"]


def test_a_job_that_has_not_ended_keeps_what_it_has_made(layout):
    make(layout, "1of2")
    again = batch(layout, "1of2")
    maps = GivenBack()
    list(maps.begin([again]))
    again.there.with_suffix(".json").unlink()  # by Snakemake, which starts the job
    list(maps.end([again], failed=True))
    assert stores(layout) == FIRST


def test_what_an_earlier_call_left_unread_goes_when_the_next_begins(layout):
    for name in ("1of2", "2of2"):
        make(layout, name)
    (line,) = GivenBack().begin([batch(layout, "1of2", due=False), batch(layout, "2of2")])
    assert "1of2" in line
    assert stores(layout) == SECOND


def test_stores_that_a_manifest_lists_are_never_given_back(layout):
    make(layout, "1of2")
    write_batch(layout, "mrm", "1of2", dict.fromkeys(FIRST, "key"), given_back=False)
    assert list(GivenBack().begin([batch(layout, "1of2", due=False)])) == []
    assert stores(layout) == FIRST


def test_a_call_that_fails_keeps_unread_maps_and_has_the_next_look_at_them(layout):
    maps, made = GivenBack(), batch(layout, "1of2")
    list(maps.begin([made]))
    make(layout, "1of2")
    list(maps.end([made], failed=True))
    assert stores(layout) == FIRST
    assert not made.there.exists()


def test_a_call_that_was_killed_leaves_its_batches_due(layout):
    make(layout, "1of2")
    assert left(layout) == [layout.residual_batch("mrm", "1of2")]
    call = Call([layout], lambda _: [])
    list(call.check())
    assert layout.residual_batch("mrm", "1of2") in call.due


@pytest.mark.parametrize(("read", "kept"), [(True, []), (False, FIRST)])
def test_maps_asked_for_by_name_stay_until_the_next_call(layout, read, kept):
    maps, made = GivenBack(), batch(layout, "1of2", read=read)
    list(maps.begin([made]))
    make(layout, "1of2")
    list(maps.end([made]))
    assert stores(layout) == kept
    assert not made.there.exists()
    list(GivenBack().end([batch(layout, "1of2", due=False, read=read)]))
    assert stores(layout) == []


def test_maps_of_other_fingerprints_go_as_the_batch_is_written(layout):
    make(layout, "1of2")
    keys = {case: f"key of {case}" for case in FIRST} | {FIRST[0]: "another"}
    write_batch(layout, "mrm", "1of2", keys, given_back=True)
    assert stores(layout) == FIRST[1:]
    assert residual_fingerprint(layout, "mrm", FIRST[0]) == "another"


def test_the_newest_batch_says_what_was_given_back(layout):
    write_json(layout.residual_batch("mrm", "1of1"), {"cases": {"a": "old"}, "given_back": True})
    make(layout, CASES["a"])
    give_back([layout.residual_store("mrm", "a")])
    assert residual_fingerprint(layout, "mrm", "a") == "key of a"
    assert maps_there(layout, "mrm", CASES["a"]).exists()
    with pytest.raises(PipelineError, match=r"case z: residual store .* run residual-maps again"):
        residual_fingerprint(layout, "mrm", "z")
