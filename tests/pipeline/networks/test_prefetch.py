"""Reading ahead and writing behind lose nothing and hide no fault."""

import threading
from unittest.mock import Mock

import pytest

from pipeline.networks.prefetch import ahead, behind, one_behind


@pytest.mark.parametrize("readers", [1, 2, 9])
def test_items_come_in_order_and_few_ahead(readers):
    made, seen = [], []

    def make(number):
        made.append(number)
        return number * 10

    for number in ahead(make, range(5), readers):
        seen.append(number)
        assert len(made) <= len(seen) + readers
    assert seen == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("readers", [1, 2])
def test_a_fault_of_making_comes_where_it_is_due(readers):
    def make(number):
        if number == 2:
            raise OSError("disk gone")
        return number

    due = ahead(make, (1, 2), readers)
    assert next(due) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(due)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_an_item_is_handed_on_when_the_next_one_has_been_made(count):
    remaining, seen = iter(range(count)), []
    for number in one_behind(remaining):
        seen.append(number)
        assert remaining.__length_hint__() == max(count - len(seen) - 1, 0)
    assert seen == list(range(count))


@pytest.mark.parametrize("writers", [1, 2])
def test_all_is_written_before_the_block_ends_in_order_by_one_writer(writers):
    allowed, written = threading.Event(), []

    def slow(number):
        assert allowed.wait(timeout=30)
        written.append(number)

    with behind(slow, writers) as write:
        write(0)
        assert written == [], "the call has not waited for its own write"
        allowed.set()
        for number in range(1, 20):
            write(number)
            assert writers > 1 or len(written) >= number, "at most one write waits"
    assert (written if writers == 1 else sorted(written)) == list(range(20))


@pytest.mark.parametrize("more", [0, 3])
def test_a_fault_of_writing_is_raised(more):
    refuse = Mock(side_effect=OSError("disk full"))

    def write_all():
        with behind(refuse) as write:
            for number in range(1 + more):
                write(number)

    with pytest.raises(OSError, match="disk full"):
        write_all()
    assert refuse.call_count == 1, "nothing is written after a fault"
