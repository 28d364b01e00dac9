"""What happens to a small file: every kind of damage that a test tries."""

import os
from pathlib import Path

from pipeline.storage.files import remove


def _folder(path: Path) -> None:
    remove(path)
    path.mkdir()
    (path / "inside").write_text("x")


def _pipe(path: Path) -> None:
    remove(path)
    os.mkfifo(path)


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 9),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "list": lambda path: path.write_text("[]"),
    "nothing in it": lambda path: path.write_text("{}"),
    "other types": lambda path: path.write_text(
        '{"code": 3, "mark": [], "files": [1], "runs": 5, "unrecorded": {}, "outputs": 7}'
    ),
    "deep": lambda path: path.write_text("[" * 100_000),
    "long number": lambda path: path.write_text('{"files": ' + "9" * 6000 + "}"),
    "folder": _folder,
    "pipe": _pipe,
}
