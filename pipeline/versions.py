"""A stage's `VERSION`, read without importing the stage (and with it torch)."""

import ast
from pathlib import Path


def stage_version(stage: str) -> int:
    """The integer `VERSION` in `pipeline/<stage>.py`, raised when the stage's output changes."""
    source = Path(__file__).parent / f"{stage}.py"
    for node in ast.parse(source.read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
            return int(ast.literal_eval(node.value))
    raise ValueError(f"{source} has no VERSION")
