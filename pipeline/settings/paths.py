"""The files and folders that a configuration names."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.errors import PipelineError
from pipeline.settings.configuration import Settings
from pipeline.settings.data import EXTERNAL, HEALTHY, Source
from pipeline.settings.recipes.start import PRETRAINED
from pipeline.settings.section import CONTROL

FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # as Hugging Face prefers them
WEIGHT_KINDS = [".pth", ".pt", ".bin", ".safetensors"]
SAM_FOLDER = ("model.safetensors", "config.json")
SAM_CHECKPOINTS = (
    "sam_vit_h_4b8939.pth of github.com/facebookresearch/segment-anything, or a folder with "
    "config.json and model.safetensors of huggingface.co/facebook/sam-vit-huge"
)
KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def file_refusal(path: Path) -> str:
    """Why a path leads to no regular file, or "": opening a pipe waits, and a device never ends."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except FileNotFoundError:
        return "not there"
    except OSError as error:
        return error.strerror or str(error)
    except ValueError:
        return "a path with a NUL character"
    return "" if kind == stat.S_IFREG else f"found {KINDS.get(kind, 'no file')}, expected a file"


def checkpoint_files(path: Path) -> list[Path]:
    """The files of a public checkpoint: its weights, and Hugging Face's `config.json` beside them.

    Raises:
        PipelineError: there is no such file, or the folder holds no weights.
    """
    if path.is_dir():
        weights = [path / name for name in FOLDER_WEIGHTS if (path / name).is_file()]
        if not weights:
            fault = f"checkpoint {path}: a folder without {' or '.join(FOLDER_WEIGHTS)}"
            expected = "expected one saved by Hugging Face's ViTMAE, or correct mae.checkpoint"
            raise PipelineError(f"{fault}; {expected}")
        return checkpoint_files(weights[0])
    if refusal := file_refusal(path):
        raise PipelineError(f"checkpoint {path}: {refusal}; correct mae.checkpoint")
    config = path.parent / "config.json"  # also describes a single file of its folder
    return [path, config] if path.name in FOLDER_WEIGHTS and config.is_file() else [path]


def sam_files(path: Path | None, key: str) -> list[Path]:
    """The files of a public SAM: a `.pth` alone, or Hugging Face's weights and `config.json`.

    Args:
        path: as the configuration gives it.
        key: where in the configuration.

    Raises:
        PipelineError: none is given, or there are no such files.
    """
    if path is None:
        found = f"{key}: not given, and SAM has weights that are not trained here"
        raise PipelineError(f"{found}; expected the path of {SAM_CHECKPOINTS}; fetch one")
    files = [path / name for name in SAM_FOLDER] if path.is_dir() else [path]
    refusals = [f"{file.name}: {refusal}" for file in files if (refusal := file_refusal(file))]
    if refusals and (path / "pytorch_model.bin").exists():
        refusals.append("pytorch_model.bin is not read, since it may hold code")
    if not refusals and files == [path] and path.suffix != ".pth":
        refusals.append(f"a file of kind {path.suffix!r}")
    if refusals:
        raise PipelineError(f"{key}: {path}: {'; '.join(refusals)}; expected {SAM_CHECKPOINTS}")
    return files


def pretrained_files(model: str, given: Sequence[str], key: str) -> list[Path]:
    """The files of weights in its authors' form that a network starts from.

    Args:
        model: of `PRETRAINED`.
        given: as the configuration gives them.
        key: where in the configuration.

    Raises:
        PipelineError: one is not there, or of a kind that is not read; see also `source_root`.
    """
    kinds = [*WEIGHT_KINDS, ".npz"] if model == "trans_unet" else WEIGHT_KINDS
    files = [expanded(name, key) for name in given]
    for file in files:
        refusal = file_refusal(file)
        if not refusal and file.suffix not in kinds:
            refusal = f"found a file of kind {file.suffix!r}, expected {', '.join(kinds)}"
        if refusal:
            raise PipelineError(f"{key}: {file}: {refusal}; it takes {PRETRAINED[model]}")
    return files


def source_root(settings: Settings, dataset: str) -> Path:
    """The folder that the adapter reads: the one given, or the one where phantoms are written.

    Raises:
        PipelineError: `root` names an environment variable that is not set, or is no path.
    """
    source = settings.datasets[dataset].source
    if source.root is None:
        return Path(settings.results) / dataset / "phantom"
    return expanded(source.root, f"datasets.{dataset}.source.root")


def store_root(settings: Settings) -> Path | None:
    """The folder of residual stores that several projects share; errors as in `source_root`."""
    root = settings.store.root
    return None if root is None else expanded(root, "store.root")


class FurtherImage(NamedTuple):
    """An image beside those that the adapter lists; of healthy scans it may be a folder of them.

    With a `source` it is the folder of an external data set, which that says how to read.
    """

    path: Path
    role: str = "unlabelled"
    source: Source | None = None


def further_images(settings: Settings, dataset: str) -> list[FurtherImage]:
    """Images of `source.also_predict`, those of `source.healthy`, and external data sets."""
    chosen = settings.datasets[dataset]
    source, key = chosen.source, f"datasets.{dataset}.source"
    predicted = [expanded(image, f"{key}.also_predict") for image in source.also_predict]
    healthy = [expanded(image, f"{key}.healthy") for image in source.healthy]
    external = [
        FurtherImage(
            expanded(each.root or "", f"datasets.{dataset}.external.{name}.root"),
            f"{EXTERNAL}{name}",
            chosen.source_of(f"{EXTERNAL}{name}"),
        )
        for name, each in chosen.external.items()
    ]
    scans = [FurtherImage(path, HEALTHY) for path in healthy]
    return [*map(FurtherImage, predicted), *scans, *external]


def expanded(given: str, key: str) -> Path:
    """A path of the configuration with its variables and `~` filled in; errors: `source_root`."""
    path = os.path.expandvars(given)
    if "$" in path:
        problem = "whose environment variable is not set; set it or write the path out"
        raise PipelineError(f"{key}: found {given!r}, {problem}")
    if CONTROL.search(path):
        raise PipelineError(f"{key}: found {given!r}, expected a path without control characters")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        problem = "whose user is not known here; write the path out"
        raise PipelineError(f"{key}: found {given!r}, {problem}") from None
