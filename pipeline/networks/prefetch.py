"""Reading ahead and writing behind, while this thread computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


def ahead(make: Callable[[S], T], items: Iterable[S], readers: int = 1) -> Iterator[T]:
    """`make` of every item in turn, of which the next ones are made in threads while one is in use.

    The first ones are begun by the call itself. One more than `readers` are in memory at a time.
    What making one raises is raised where it would be due.
    """
    rest = iter(items)
    pool = ThreadPoolExecutor(readers)
    coming = deque(pool.submit(make, item) for item in islice(rest, readers))

    def handed_on() -> Iterator[T]:
        with pool:
            while coming:
                made = coming.popleft().result()
                coming.extend(pool.submit(make, item) for item in islice(rest, 1))
                yield made

    return handed_on()


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
def behind(write: Callable[P, None], writers: int = 1) -> Iterator[Callable[P, None]]:
    """`write` in other threads: a call waits for the one `writers` before it, not for its own.

    What a call raises, a later one raises, or the end of the block, which waits for all.
    """
    with ThreadPoolExecutor(writers) as pool:
        waiting: deque[Future[None]] = deque()

        def later(*args: P.args, **kwargs: P.kwargs) -> None:
            if len(waiting) == writers:
                waiting.popleft().result()
            waiting.append(pool.submit(write, *args, **kwargs))

        yield later
        for one in waiting:
            one.result()
