"""Text for a terminal: tables that are Markdown and aligned, too, and lines that are wrapped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

WIDTH = 79
FURTHER = 4  # columns that a line's continuation stands further in


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of a header and its rows; all columns but the first are numbers."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [
        " | ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])
        for row in [rows[0], rule, *rows[1:]]
    ]
    return "\n".join(f"| {line} |" for line in lines)


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
