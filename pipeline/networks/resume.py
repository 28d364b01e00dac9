"""The checkpoints that a training keeps, and which of them it resumes from."""

from __future__ import annotations

import logging
import os
import pickle
import time
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

from pipeline.errors import PipelineError, one_line
from pipeline.settings.instances import FOLD
from pipeline.storage.files import read_json, remove, replacing, write_json

log = logging.getLogger(__name__)
START_SECONDS = 600
# what torch raises for a checkpoint that is cut off, or in which bits are flipped
DAMAGED_FILE = (EOFError, pickle.UnpicklingError, zipfile.BadZipFile, IsADirectoryError)
UNREADABLE = (RuntimeError, KeyError, ValueError, *DAMAGED_FILE)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; reads none that has changed since.

    Lightning writes it to the machine's temporary folder; from there it is copied to another file
    system, and a job that is killed meanwhile leaves half of its only checkpoint.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write `checkpoint` to `path`, on a file system that has no `storage_options`."""
        if storage_options is not None:
            raise TypeError("storage_options: found some, expected None")
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)

    def load_checkpoint(self, path: str | Path, *args: Any, **options: Any) -> dict[str, Any]:
        """Read `path`; raises one of `UNREADABLE` where it is not what was written."""
        _check_sums(Path(path))
        return super().load_checkpoint(path, *args, **options)


class MovableCheckpoint(ModelCheckpoint):
    """Knows its best epoch after its folder was moved, or has another real path on another node.

    Lightning then forgets the best loss, and the next epoch, however bad, replaces the best one.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what a checkpoint remembers, with its files looked for in this folder."""
        paths = {
            name: self._here(state_dict[name])
            for name in ("best_model_path", "kth_best_model_path", "last_model_path")
        }
        scores = {self._here(path): score for path, score in state_dict["best_k_models"].items()}
        moved = {**paths, "best_k_models": scores, "dirpath": self.dirpath}
        super().load_state_dict({**state_dict, **moved})

    def _here(self, path: str) -> str:
        assert self.dirpath is not None
        return str(Path(self.dirpath, Path(path).name)) if path else ""


def is_first_process() -> bool:
    """Whether this process keeps the results of several that train together."""
    return bool(getattr(rank_zero_only, "rank", 0) == 0)


def await_start(folder: Path, wanted_fingerprint: str) -> None:
    """Wait until the first process has prepared the folder for this training.

    Raises:
        PipelineError: it did not.
    """
    until = time.monotonic() + START_SECONDS
    while not _is_of(folder, wanted_fingerprint):
        if time.monotonic() > until:
            raise PipelineError(
                f"{folder}: the first process of this training has not started it within "
                f"{START_SECONDS} s; see its node's output, and whether all nodes share this folder"
            )
        time.sleep(0.2)


def prepare_folder(folder: Path, wanted_fingerprint: str, wanted: Path) -> Path | None:
    """Return the checkpoint to resume from, or None; a training of other inputs is deleted first.

    A training resumes if the folder is of the same inputs and holds `wanted`, the checkpoint whose
    weights are kept in the end: the best one may be of an epoch that does not come again.
    """
    last = folder / "checkpoints" / "last.ckpt"
    if _is_of(folder, wanted_fingerprint):
        if not last.exists():
            return None
        if wanted.exists():
            log.info("resuming from %s", last)
            return last
        if is_first_process():
            log.info("%s is missing: starting anew", wanted)
            last.unlink()  # not the folder: others could take it for one of other settings
        return None
    if replaced := _own_parts(folder):
        log.info("%s holds a training of other settings or data: starting anew", folder)
        for part in replaced:
            remove(part)
    write_json(folder / "started.json", {"fingerprint": wanted_fingerprint})
    return None


def _own_parts(folder: Path) -> list[Path]:
    """What is to be deleted of a training's folder: all but the folds' trainings that lie in it."""
    if folder.is_symlink() or not folder.is_dir():
        return [folder] if os.path.lexists(folder) else []
    return [part for part in folder.iterdir() if not part.name.startswith(FOLD.strip("/"))]


def load_best(module: nn.Module, checkpoint: Path) -> None:
    """Put the weights of a checkpoint back into the module that was trained.

    Raises:
        PipelineError: the checkpoint is damaged.
    """
    try:
        _check_sums(checkpoint)
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict(state)
    except UNREADABLE as error:
        raise damaged_checkpoint(checkpoint, error) from error


def _check_sums(checkpoint: Path) -> None:
    """Compare a checkpoint with the sums that it holds: torch reads changed weights as they are.

    Raises:
        ValueError: a part has changed.
        zipfile.BadZipFile: it is cut off.
    """
    with zipfile.ZipFile(checkpoint) as archive:
        changed = archive.testzip()
    if changed is not None:
        raise ValueError(f"{changed} has changed since it was written")


def damaged_checkpoint(checkpoint: Path, error: Exception) -> PipelineError:
    """The error for a checkpoint that torch could not read."""
    folder = checkpoint.parent.parent
    return PipelineError(
        f"checkpoint {checkpoint}: damaged ({one_line(error)}); delete the folder {folder} to "
        "train anew"
    )


def _is_of(folder: Path, wanted_fingerprint: str) -> bool:
    started = folder / "started.json"
    return os.path.lexists(started) and read_json(started)["fingerprint"] == wanted_fingerprint
