"""What a job runs on and with: device, packages, and the state of the checkout."""

from __future__ import annotations

import functools
import os
import platform
import re
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
SOURCES = ("pipeline", "grcsf", "workflow")


def device() -> tuple[dict[str, Any], int | None]:
    """The device that the process has used, and its peak memory in bytes on a GPU, else None."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        names = [torch.cuda.get_device_name(card) for card in range(torch.cuda.device_count())]
        return {"type": "cuda", "name": ", ".join(names)}, int(torch.cuda.max_memory_allocated())
    return {"type": "cpu", "name": _processor()}, None


def loaded_packages() -> dict[str, str]:
    """The version of every installed package of which the process has imported anything."""
    loaded = {name.partition(".")[0] for name in sys.modules}
    packages: dict[str, str] = {}
    for modules, package, version in _installed_packages():
        if loaded & modules:
            # of a package that is installed twice the first is the one that is imported
            packages.setdefault(package, version)
    return dict(sorted(packages.items(), key=lambda package: package[0].lower()))


@functools.cache
def _installed_packages() -> list[tuple[set[str], str, str]]:
    """The modules, name and version of each."""
    return [
        (_modules_of(distribution), distribution.metadata["Name"], distribution.version)
        for distribution in metadata.distributions()
    ]


def _modules_of(distribution: metadata.Distribution) -> set[str]:
    """What can be imported of a package, by its own list.

    `metadata.packages_distributions` also looks whether each file is there: half a second a job.
    """
    if listed := distribution.read_text("top_level.txt"):
        return set(listed.split())
    files = (distribution.read_text("RECORD") or "").splitlines()
    return {re.split(r"[/.,]", file, maxsplit=1)[0] for file in files}


def source_state() -> dict[str, Any] | None:
    """Commit of the checkout, and which of its sources differ from it; None without git."""
    # an installed package may lie in a repository that says nothing of it
    if _git("ls-files", "--error-unmatch", "pipeline/__init__.py") is None:
        return None
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--", *SOURCES)
    if commit is None or changed is None:
        return None
    return {"commit": commit.strip(), "changed": [line[3:] for line in changed.splitlines()]}


def _git(*arguments: str) -> str | None:
    # variables of a git that called us, as of a hook, would lead to another repository
    environment = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
    command = ["git", "-C", str(PACKAGE.parent), *arguments]
    try:
        return subprocess.check_output(
            command, env=environment, stderr=subprocess.DEVNULL, encoding="utf-8", timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    """The processor's name; its architecture where the system does not say."""
    model = _search(r"^model name\s*:\s*(.+)$", "/proc/cpuinfo").strip()
    return model or platform.processor() or platform.machine()


def peak_resident() -> int:
    """The most memory that this process has held so far, in bytes."""
    # `getrusage` also remembers the program that started this one, whose size a child takes over
    if peak := _search(r"^VmHWM:\s+(\d+) kB", "/proc/self/status"):
        return int(peak) * 1024
    # in units of 1,024 bytes, but on macOS of 1
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _search(pattern: str, file: str) -> str:
    """The group of a pattern in a file of the system, or "" where there is none."""
    try:
        match = re.search(pattern, Path(file).read_text("utf-8", "replace"), re.MULTILINE)
    except OSError:
        return ""
    return match[1] if match else ""
