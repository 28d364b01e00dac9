"""Reading ahead and writing behind, while this thread computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, of which the next one is made in another thread while one is in use.

    Two are in memory at a time. What making one raises is raised where it would be due.
    """
    rest = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as reader:
        coming: Future[T | object] = reader.submit(next, rest, end)
        while (item := coming.result()) is not end:
            coming = reader.submit(next, rest, end)
            yield item  # type: ignore[misc]  # all but `end` are of T


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The same items, each handed on when the one after it has been made.

    So a GPU has the next batch queued while the results of one are awaited and put away.
    """
    rest = iter(items)
    for before in rest:
        for item in rest:
            yield before
            before = item
        yield before


@contextmanager
def behind(write: Callable[P, None]) -> Iterator[Callable[P, None]]:
    """`write` in another thread: a call waits only for the one before it, not for its own.

    What a call raises, the next one raises, or the end of the block, which waits for the last.
    """
    with ThreadPoolExecutor(1) as writer:
        last: Future[None] | None = None

        def later(*args: P.args, **kwargs: P.kwargs) -> None:
            nonlocal last
            if last is not None:
                last.result()
            last = writer.submit(write, *args, **kwargs)

        yield later
        if last is not None:
            last.result()
