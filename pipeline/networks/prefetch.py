"""Reads ahead and writes behind in other threads, while this thread computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S], readers: int = 1) -> Generator[T, None, None]:
    """`make(item)` of every item in turn; threads make the next ones while one is in use.

    The call itself starts the first ones. At most `readers` + 1 are in memory. An error is raised
    in its item's turn. Whoever stops before the end closes it, which waits for what is being made.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(readers)
    coming = deque(pool.submit(make, item) for item in islice(rest, readers))

    def handed_on() -> Generator[T, None, None]:
        with pool:
            while coming:
                made = coming.popleft().result()
                coming.extend(pool.submit(make, item) for item in islice(rest, 1))
                yield made

    return handed_on()


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """The same items, each handed on once the next is there.

    A GPU so has the next batch queued while this thread waits for the results of one.
    """
    rest = iter(items)
    for before in rest:
        for item in rest:
            yield before
            before = item
        yield before


@contextmanager
def behind(write: Callable[P, None], writers: int = 1) -> Iterator[Callable[P, None]]:
    """`write` in other threads: a call waits only for the call `writers` before it.

    A later call raises the error of an earlier one, or the end of the block, which waits for all.
    """
    with ThreadPoolExecutor(writers) as pool:
        waiting: deque[Future[None]] = deque()

        def later(*args: P.args, **kwargs: P.kwargs) -> None:
            if len(waiting) == writers:
                waiting.popleft().result()
            waiting.append(pool.submit(write, *args, **kwargs))

        yield later
        for writing in waiting:
            writing.result()
