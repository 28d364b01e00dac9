"""The split, scores and tables that were changed after their stage wrote them.

Snakemake takes one that was edited for a newer one, and makes all that follows from it. Here it is
compared with the SHA-256 in its record, whatever its time says: these files are small enough to be
read before every plan, and an older one in their place is noticed, too. Without a record nothing is
known and nothing said.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.files import file_digest
from pipeline.layout import record_of
from pipeline.records import read_record

# the first file that a job declares, which names its record
SMALL_RESULTS = ("split/split.json", "evaluate/*.csv", "compare/table.md", "tabulate/*.md")


def is_small_result(declared: Path) -> bool:
    """Whether a job's first file is a split, scores or a table, and lists nothing."""
    return any(declared.match(pattern) for pattern in SMALL_RESULTS)


def edited(declared: Path) -> Iterator[tuple[Path, str]]:
    """A job's files that are not as its record has them, each with what is wrong with it.

    Args:
        declared: the first of them.

    Raises:
        OSError: a file is not readable.
    """
    for name, digest in _recorded(declared).items():
        path = declared.with_name(name)
        try:
            changed = file_digest(path) != digest
        except FileNotFoundError:  # which Snakemake misses by itself
            continue
        if changed:
            yield path, f"{path}: has changed since it was written"


def _recorded(declared: Path) -> dict[str, str]:
    """SHA-256 of every file that a job has written; of none where that is not known."""
    try:
        content = read_record(record_of(declared))
    except PipelineError:  # nothing depends on a record: a missing or damaged one stops no plan
        return {}
    # a run that was cut off has noted nothing of what it wrote
    if content is None or not content["runs"][max(content["runs"])]["finished"]:
        return {}
    return {
        name: one["sha256"]
        for name, one in content["results"].items()
        if Path(name).stem == declared.stem and one["sha256"]
    }
