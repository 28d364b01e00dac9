"""A chain of jobs as an indented tree, and as records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pipeline.evaluation.tables import WIDTH
from pipeline.storage.files import fingerprint
from pipeline.tools.trace.lineage import Chain, Link, Step

FEW = 2
FURTHER = 4  # columns: further indent of a continuation line
ORDER = ("kind", "mae", "residuals", "experiment", "table", "subset", "batch")


def tree(chain: Chain) -> Iterator[str]:
    """A paragraph for each job, its sources below it; then the raw files, and the broken links.

    A job that several others build on appears once, and so does a file that several have read.
    """
    shown: set[str] = set()
    yield from _subtree(chain, next(iter(chain.steps)), 0, shown)
    for step in chain.steps.values():
        if step.raw:
            yield from ("", f"{_title(step)} has read:")
            # with a larger indent, a digest does not fit a line
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
    """The chain as plain JSON values: jobs by record, each with its files and its sources."""
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


def _subtree(chain: Chain, key: str, indent: int, shown: set[str]) -> Iterator[str]:
    step, inside = chain.steps[key], indent + 2
    if key in shown:
        yield f"{' ' * indent}{_title(step)} (above)"
        return
    shown.add(key)
    *results, last = _listed(_results(step, chain.asked), ",")
    facts = _listed([last, *_circumstances(step)], " ·")
    yield from wrapped([f"{_title(step)}:", *results, *facts], indent)
    for link in step.inputs:
        if not link.holds:
            yield from wrapped([f"! {link.file},", f"which it read: {link.state}"], inside)
    for source in step.sources:
        yield from _subtree(chain, source, inside, shown)


def _listed(parts: Sequence[str], mark: str) -> list[str]:
    """The parts, with a mark after all but the last."""
    return [*(f"{part}{mark}" for part in parts[:-1]), parts[-1]]


def _title(step: Step) -> str:
    names: Mapping[str, Any] = step.content["names"]
    about = [f"{name} {names[name]}" for name in ORDER if name in names]
    return " ".join([step.content["stage"], step.content["dataset"], *about])


def _results(step: Step, asked: str) -> list[str]:
    """Few results by name; of many the number, the one asked for, and the broken ones."""
    counted = Counter(link.state for link in step.results)
    few = len(step.results) <= FEW
    counts = ", ".join(f"{count} {state}" for state, count in counted.items())
    named = [link for link in step.results if few or not link.holds or link.file == asked]
    lines = [] if few else [f"{len(step.results)} files, {counts}"]
    return [*lines, *(f"{link.file} {link.state}" for link in named)]


def _circumstances(step: Step) -> list[str]:
    began, run = step.made
    source = run["source"]
    facts = [
        f"settings {fingerprint(run['settings'])[:8]}",
        f"version {run['version']}",
        f"seed {run['seed']}",
        f"{began[:16].replace('T', ' ')} UTC",
    ]
    if run["finished"]:
        held = f"{run['peak_memory_bytes'] / 1e6:.0f} MB"
        facts += [f"{run['seconds']:.1f} s", held, run["device"]["name"]]
    cut_off = sum(not each["finished"] for each in step.content["runs"].values())
    if cut_off:
        facts.append(f"runs cut off: {cut_off}")
    commit = "no commit"
    if source is not None:
        changed = " with changes" if source["changed"] else ""
        commit = f"commit {source['commit'][:10]}{changed}"
    return [*facts, commit]


def _raw_files(chain: Chain, step: Step) -> Iterator[list[str]]:
    """A line for each raw file: all of them, or the chain's case's and the broken ones."""
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
    """Pieces in as few lines of a terminal as possible; none is broken, so that it can be copied.

    A piece that is too wide for a continuation line starts further left.
    """
    line = " " * indent + pieces[0]
    for piece in pieces[1:]:
        if len(line) + 1 + len(piece) <= WIDTH:
            line += f" {piece}"
        else:
            yield line
            line = " " * max(0, min(indent + FURTHER, WIDTH - len(piece))) + piece
    yield line
