"""Which files a public checkpoint consists of; the workflow asks, and must not wait for torch."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError

# In the order in which Hugging Face's own loading prefers them.
FOLDER_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


def checkpoint_files(path: Path) -> list[Path]:
    """The weights of a checkpoint, and the `config.json` that Hugging Face's lie beside.

    Raises:
        PipelineError: there is no such file, or the folder holds no weights.
    """
    if path.is_dir():
        weights = [path / name for name in FOLDER_WEIGHTS if (path / name).is_file()]
        if not weights:
            raise PipelineError(
                f"checkpoint {path}: a folder without {' or '.join(FOLDER_WEIGHTS)}; expected one "
                "saved by Hugging Face's ViTMAE, or correct mae.checkpoint"
            )
        return checkpoint_files(weights[0])
    if not path.is_file():
        raise PipelineError(f"checkpoint {path}: not there; correct mae.checkpoint")
    # one file of a Hugging Face folder is described by the folder's configuration all the same
    config = path.parent / "config.json"
    return [path, config] if path.name in FOLDER_WEIGHTS and config.is_file() else [path]
