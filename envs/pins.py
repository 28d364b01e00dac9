"""Writes environments and container from what the stages import: `python envs/pins.py`.

Each environment holds everything that its stages need, and the container what all of them need, at
the versions of constraints.txt, and nothing of the package itself: that is taken from the checkout.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from importlib import metadata
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
STAGES = {
    "data": ("phantom", "ingest", "split", "postprocess", "evaluate"),
    # to tabulate, as the table may count the networks' MACs; to draw passes of the MAE again
    "torch": (
        *("unpack", "train_mae", "residual_maps", "train_segmentation", "predict"),
        *("tabulate", "draw"),
    ),
    "report": ("compare", "report", "measure"),
}
PYTHON = "3.11.13"
PIP = "25.3"
# What another package imports only when this is used, without asking for it to be installed.
USED_BY = {
    "lightning.pytorch.loggers.TensorBoardLogger": ["tensorboard"],
    "pydicom.pixels": ["gdcm", "jpeg_ls", "openjpeg", "pylibjpeg", "rle"],
}


def pins(lines: Iterable[str]) -> dict[str, str]:
    """Distribution name → version of lines such as `numpy==2.4.6`, comments left out."""
    found = (line.strip().split("==") for line in lines if line.strip() and line[0] != "#")
    return {canonicalize_name(name): version for name, version in found}


def constraints() -> dict[str, str]:
    """Every pinned version of the project."""
    return pins((ROOT / "constraints.txt").read_text("utf-8").splitlines())


def environment_text(name: str) -> str:
    """The content of `envs/<name>.yaml`."""
    listed = "".join(f"      - {pin}\n" for pin in pinned(STAGES[name]))
    return (
        f"# For {', '.join(STAGES[name])}. Written by envs/pins.py from constraints.txt.\n"
        "channels:\n  - conda-forge\n"
        f"dependencies:\n  - python={PYTHON}\n  - pip={PIP}\n  - pip:\n{listed}"
    )


def container_text() -> str:
    """The content of `envs/grcsf.def`."""
    listed = " \\\n".join(f"        {pin}" for pin in pinned(chain.from_iterable(STAGES.values())))
    return (
        "# For all stages. Written by envs/pins.py from constraints.txt.\n"
        "# To build it: apptainer build envs/grcsf.sif envs/grcsf.def\n"
        f"Bootstrap: docker\nFrom: python:{PYTHON}-slim-bookworm\n\n"
        "%post\n"
        "    # the records of results ask git for the commit of the checkout\n"
        "    apt-get update\n"
        "    apt-get install --yes --no-install-recommends git\n"
        "    rm -rf /var/lib/apt/lists/*\n"
        f"    pip install --no-cache-dir pip=={PIP}\n"
        f"    pip install --no-cache-dir --no-deps \\\n{listed}\n"
        "    pip check\n"
    )


def pinned(stages: Iterable[str]) -> list[str]:
    """`name==version` of everything that these stages need."""
    known = constraints()
    return [f"{name}=={known[name]}" for name in sorted(distributions(packages_of(stages)))]


def packages_of(stages: Iterable[str]) -> set[str]:
    """Top-level third-party packages that are imported on the way to these stages."""
    # what every command imports, the last two when it begins
    waiting = [
        "pipeline.cli",
        "pipeline.__main__",
        "pipeline.orchestration.record_writer",
        "pipeline.orchestration.job_files",
    ]
    for stage in stages:
        waiting += [f"pipeline.{stage}", f"pipeline.datasets.phantoms.{stage}"]
    seen: set[str] = set()
    outside: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        if module.split(".")[0] not in {"pipeline", "grcsf"}:
            outside.add(module.split(".")[0])
        elif file := _module_file(module):
            waiting += [*_imports(file), *filter(None, [module.rpartition(".")[0]])]
    return outside


def distributions(packages: Iterable[str]) -> set[str]:
    """Everything that has to be installed for these packages, on this kind of machine."""
    providers = metadata.packages_distributions()
    waiting = [(provider, "") for name in packages for provider in providers.get(name, [])]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for needed in map(Requirement, metadata.requires(name) or []):
            environment = {"python_version": PYTHON, "extra": extra}
            if needed.marker is None or needed.marker.evaluate(environment):
                waiting += [(canonicalize_name(needed.name), one) for one in ("", *needed.extras)]
    return {canonicalize_name(name) for name, _ in seen}


def _module_file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    return next(
        (one for one in (path / "__init__.py", path.with_suffix(".py")) if one.exists()), None
    )


def _imports(file: Path) -> set[str]:
    """Dotted names that a file imports: the command line's at its top only, else anywhere."""
    tree = ast.parse(file.read_text("utf-8"))
    found = set()
    for node in tree.body if file.parent.name == "cli" else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
            found.add(ast.literal_eval(node.args[0]))
    return found.union(*(USED_BY[name] for name in found & set(USED_BY)))


if __name__ == "__main__":
    for chosen in STAGES:
        (ROOT / "envs" / f"{chosen}.yaml").write_text(environment_text(chosen), "utf-8")
    (ROOT / "envs" / "grcsf.def").write_text(container_text(), "utf-8")
