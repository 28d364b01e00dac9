"""What a job runs on and with: device, packages, and the state of the checkout."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parents[1]
SOURCES = ("pipeline", "grcsf", "workflow")
# the first part of a module's path, at the beginning of its row in the list of installed files
MODULE = re.compile(r'^"?([^/,."\n]+)(?:/[^,\n]*)?\.py"?,', re.MULTILINE)


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
    versions: dict[str, str] = {}
    for package, modules in _installed():
        if not loaded.isdisjoint(modules):
            name, version = _name_and_version(package)
            versions.setdefault(name, version)  # the first on the path is imported
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


@cache
def _installed() -> list[tuple[metadata.Distribution, set[str]]]:
    """Every installed package, and the names that it gives to import."""
    # `packages_distributions` makes a path of every file, which takes every job half a second
    return [(package, _modules(package)) for package in metadata.distributions()]


def _modules(package: metadata.Distribution) -> set[str]:
    if declared := (package.read_text("top_level.txt") or "").split():
        return set(declared)
    files = package.read_text("RECORD")
    if files is None:
        files = "".join(f"{file},\n" for file in package.files or ())
    return set(MODULE.findall(files))


@cache
def _name_and_version(package: metadata.Distribution) -> tuple[str, str]:
    about = package.metadata
    return about["Name"], about["Version"]


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
