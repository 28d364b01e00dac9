"""A chain of jobs as an indented tree, and as records for machines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.storage.files import fingerprint
from pipeline.tools.trace.lineage import Chain, Link, Step

FEW = 2
ORDER = ("kind", "mae", "residuals", "experiment", "table", "subset", "batch")


def tree(chain: Chain) -> Iterator[str]:
    """A paragraph a job, what made a result below it; then the raw files, and what is broken.

    A job that several others build on is told once, and so is a file that several have read.
    """
    told: set[str] = set()
    yield from _subtree(chain, next(iter(chain.steps)), 0, told)
    for step in chain.steps.values():
        if step.raw:
            yield from ("", f"{_title(step)} has read:")
            # further in, a digest would not fit a line
            yield from (line for file in _raw_files(chain, step) for line in wrapped(file, 2))
    count = len({link.file for link in chain.links})
    unread = len({link.file for link in chain.links if link.state == "not read"})
    yield ""
    if chain.broken:
        broken = {link.file: link.state for link in chain.broken}
        yield f"{len(broken)} of {count} files are not as recorded:"
        yield from (f"  {file}: {state}" for file, state in broken.items())
    else:
        rest = f"; {unread} of them were not read (--quick)" if unread else ""
        yield f"all {count} files are there, as recorded{rest}"


def as_records(chain: Chain) -> dict[str, Any]:
    """The chain as plain JSON values: steps by record, each with its files and its sources."""
    return {
        "root": str(chain.root),
        "asked": chain.asked,
        "case": chain.case or None,
        "steps": {
            key: {
                **{part: step.content[part] for part in ("stage", "dataset", "names", "runs")},
                "made": step.made[0],
                "settings_sha256": fingerprint(step.made[1]["settings"]),
                "results": [asdict(link) for link in step.results],
                "inputs": [asdict(link) for link in step.inputs],
                "raw": [asdict(link) for link in step.raw],
                "sources": step.sources,
            }
            for key, step in chain.steps.items()
        },
        "broken": [asdict(link) for link in chain.broken],
    }


def _subtree(chain: Chain, key: str, indent: int, told: set[str]) -> Iterator[str]:
    step, inside = chain.steps[key], indent + 2
    if key in told:
        yield f"{' ' * indent}{_title(step)} (above)"
        return
    told.add(key)
    *results, last = _listed(_results(step, chain.asked), ",")
    facts = _listed([last, *_circumstances(step)], " ·")
    yield from wrapped([f"{_title(step)}:", *results, *facts], indent)
    for link in step.inputs:
        if not link.holds:
            yield from wrapped([f"! {link.file},", f"which it read: {link.state}"], inside)
    for source in step.sources:
        yield from _subtree(chain, source, inside, told)


def _listed(parts: Sequence[str], mark: str) -> list[str]:
    """All but the last with a mark after it."""
    return [*(f"{part}{mark}" for part in parts[:-1]), parts[-1]]


def _title(step: Step) -> str:
    names: Mapping[str, Any] = step.content["names"]
    about = [f"{name} {names[name]}" for name in ORDER if name in names]
    return " ".join([step.content["stage"], step.content["dataset"], *about])


def _results(step: Step, asked: str) -> list[str]:
    """The results by name where there are few; of many how many, the asked, and what is broken."""
    counted = Counter(link.state for link in step.results)
    few = len(step.results) <= FEW
    counts = ", ".join(f"{count} {state}" for state, count in counted.items())
    named = [link for link in step.results if few or not link.holds or link.file == asked]
    told = [] if few else [f"{len(step.results)} files, {counts}"]
    return [*told, *(f"{link.file} {link.state}" for link in named)]


def _circumstances(step: Step) -> list[str]:
    began, run = step.made
    source = run["source"]
    told = [
        f"settings {fingerprint(run['settings'])[:8]}",
        f"version {run['version']}",
        f"seed {run['seed']}",
        f"{began[:16].replace('T', ' ')} UTC",
    ]
    if run["finished"]:
        held = f"{run['peak_memory_bytes'] / 1e6:.0f} MB"
        told += [f"{run['seconds']:.1f} s", held, run["device"]["name"]]
    cut_off = sum(not one["finished"] for one in step.content["runs"].values())
    if cut_off:
        told.append(f"runs cut off: {cut_off}")
    commit = "no commit"
    if source is not None:
        changed = " with changes" if source["changed"] else ""
        commit = f"commit {source['commit'][:10]}{changed}"
    return [*told, commit]


def _raw_files(chain: Chain, step: Step) -> Iterator[list[str]]:
    """A line a raw file: all, or those of the case in question and the broken ones."""
    others: list[Link] = []
    for link in step.raw:
        if chain.case and link.case not in ("", chain.case) and link.holds:
            others.append(link)
            continue
        of = [f"{link.case}:"] if link.case else []
        yield [*of, f"{link.file} {link.state},", f"SHA-256 {link.sha256}"]
    if others:
        yield [f"and {len(others)} raw files of other cases: {others[0].state}"]


def wrapped(pieces: Sequence[str], indent: int) -> Iterator[str]:
    """Pieces in as few lines as fit a terminal, each whole: paths and digests are to be copied.

    A piece that is too wide where a continuation starts begins as far left as it needs.
    """
    line = " " * indent + pieces[0]
    for piece in pieces[1:]:
        if len(line) + 1 + len(piece) <= WIDTH:
            line += f" {piece}"
        else:
            yield line
            line = " " * max(0, min(indent + FURTHER, WIDTH - len(piece))) + piece
    yield line


WIDTH = 79
FURTHER = 4  # columns that a line's continuation stands further in
