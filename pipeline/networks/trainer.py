"""What all trainings share: the Lightning trainer, its callbacks, and the lines for its errors.

A training has a folder beside its manifest, with `checkpoints/last.ckpt` (every epoch) and, where
the best epoch's weights are kept, these in `best.ckpt`, `history.csv` (a row for each epoch),
`tensorboard/` or what another logger writes, and at the end `model.safetensors` with `model.json`.
Snakemake does not know the folder, so a failed or interrupted job keeps it.
"""

from __future__ import annotations

import csv
import importlib.util
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import lightning
import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.data import DataLoader

from grcsf.augmentation import Strengths, draw_variations, varied
from pipeline.errors import PipelineError
from pipeline.networks.devices import compile_fault, compute_device
from pipeline.networks.history import read_history
from pipeline.networks.resume import (
    UNREADABLE,
    MovableCheckpoint,
    WholeCheckpoints,
    await_start,
    damaged_checkpoint,
    is_first_process,
    prepare_folder,
)
from pipeline.settings import Augment, Resources
from pipeline.storage.files import replacing
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout
from pipeline.storage.slices import share_cache

log = logging.getLogger(__name__)
# importing Lightning sets a level at which it names devices and services that are not in use
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
LOSSES = ("train_loss", "validation_loss")
PRECISIONS = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


class Patience(EarlyStopping):
    """Early stopping that still holds after a resume."""

    def on_train_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Train no further epoch if patience had already run out at the checkpoint."""
        if self.wait_count >= self.patience:
            trainer.should_stop = True


class EpochHistory(Callback):
    """Appends a row for each epoch to `history.csv`: losses, learning rate, seconds.

    `further` metrics that the module logs follow. A resumed training first removes the rows of
    epochs that it runs again.
    """

    def __init__(self, path: Path, title: str, further: Sequence[str] = ()) -> None:
        self.columns = ("epoch", *LOSSES, "learning_rate", "seconds", *further)
        self._logged = (*LOSSES, *further)
        self._path = path
        self._title = title
        self._started = 0.0

    def on_train_start(self, trainer: lightning.Trainer, *_: object) -> None:
        """Keep only the rows of epochs before the first one to run."""
        if not trainer.is_global_zero:
            return
        rows = [row for row in read_history(self._path) if row["epoch"] < trainer.current_epoch]
        with (
            replacing(self._path) as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            # a training may go on that an earlier version began, which logged less
            writer = csv.DictWriter(file, self.columns, restval="nan", extrasaction="ignore")
            writer.writeheader()
            writer.writerows({**row, "epoch": int(row["epoch"])} for row in rows)

    def on_train_epoch_start(self, *_: object) -> None:
        """Start the epoch's clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        """Write the epoch's row."""
        if not trainer.is_global_zero:
            return
        metrics = trainer.callback_metrics
        row = {
            "epoch": trainer.current_epoch,
            **{name: float(metrics[name]) for name in self._logged},
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
            "seconds": round(time.monotonic() - self._started, 2),
        }
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns).writerow(row)
        text = "%s: epoch %d of %s: loss %.4f, validation %.4f, %.1f s"
        figures = row["train_loss"], row["validation_loss"], row["seconds"]
        log.info(text, self._title, row["epoch"] + 1, trainer.max_epochs, *figures)


def seed_generators(seed: int) -> None:
    """Seed the generators of Python, numpy and torch, before a network draws its weights."""
    lightning.seed_everything(seed, verbose=False)


def augmented(
    module: lightning.LightningModule,
    batch: Mapping[str, Any],
    index: int,
    augment: Augment | None,
    seed: int,
) -> Mapping[str, Any]:
    """A training batch with its slices varied, as (seed, epoch, batch) decides."""
    if augment is None:
        return batch
    # every process draws for the whole batch, and takes what is for its own slices, which the
    # sampler deals out in turn
    rank, processes = module.global_rank, module.trainer.world_size
    count, drawn_from = len(batch["image"]) * processes, (seed, module.current_epoch, index)
    variations = draw_variations(Strengths(**augment.model_dump()), count, drawn_from)
    return varied(batch, variations[rank::processes])


def fit(
    module: lightning.LightningModule,  # logs `train_loss` and `validation_loss` in each epoch
    loaders: tuple[DataLoader[Any], DataLoader[Any]],  # training, validation
    manifest: Path,  # the training's folder is named after it
    wanted_fingerprint: str,  # of all that the result depends on
    *,
    title: str,  # for messages
    epochs: int,  # at most
    precision: str,
    resources: Resources,
    kept: Literal["best", "last"] = "best",  # by validation loss
    patience: int | None = None,  # epochs without a lower validation loss
    further: Sequence[str] = (),  # metrics of each epoch that the module logs beside the losses
    logger: Logger,  # see `training_logger`
) -> Path:
    """Train, or resume an interrupted training of the same inputs; return the kept checkpoint.

    Raises:
        PipelineError: the checkpoint is damaged, a GPU is missing, or memory is too small.
    """
    compute_device(resources.gpus)  # refuses a missing GPU before anything is written
    share_cache(loaders, resources.cache_mb, resources.readers, resources.cache_device)
    folder = folder_of(manifest)
    if not is_first_process():
        await_start(folder, wanted_fingerprint)
    wanted = folder / "checkpoints" / f"{kept}.ckpt"
    checkpoint = prepare_folder(folder, wanted_fingerprint, wanted)
    trainer = _trainer(
        resources,
        logger=logger,
        max_epochs=epochs,
        strategy=strategy_of(module, resources.processes),
        precision=PRECISIONS[precision],
        callbacks=[
            EpochHistory(folder / "history.csv", title, further),
            *_checkpoints(folder / "checkpoints", kept),
            *([] if patience is None else [Patience("validation_loss", patience=patience)]),
        ],
    )
    try:
        trainer.fit(module, *loaders, ckpt_path=checkpoint, weights_only=True)
    except (PipelineError, *UNREADABLE) as error:
        fault = user_fault(error, title, checkpoint if trainer.global_step == 0 else None)
        if fault is None:
            raise
        raise fault from error
    if trainer.interrupted:
        raise KeyboardInterrupt
    return wanted


def training_logger(kind: str, layout: Layout, manifest: Path, title: str) -> Logger:
    """What draws a training's curves, for Lightning; `kind` is the setting `logger`.

    TensorBoard and Weights & Biases write to the training's own folder, MLflow to a file store that
    all trainings of the data set share. None of them sends anything, unless the variables of its
    own (MLFLOW_TRACKING_URI, WANDB_MODE) say so.

    Raises:
        PipelineError: the extra is not installed.
    """
    if kind == "tensorboard":
        return TensorBoardLogger(folder_of(manifest), name="tensorboard", version="")
    if importlib.util.find_spec(kind) is None:
        raise PipelineError(
            f"{title}: logger: found {kind}, which is not installed; install the extra "
            f"(pip install 'grcsf[{kind}]') or set logger: tensorboard"
        )
    if kind == "mlflow":
        # several jobs may write to files at once, unlike to a database on a cluster's disk
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        where = os.environ.get("MLFLOW_TRACKING_URI") or layout.stage("mlflow").absolute().as_uri()
        return MLFlowLogger(title, tracking_uri=where)
    os.environ.setdefault("WANDB_SILENT", "true")  # the log says what a training does
    offline = os.environ.get("WANDB_MODE", "offline") == "offline"
    return WandbLogger(title, folder_of(manifest), offline=offline, project="grcsf")


def _trainer(resources: Resources, **options: Any) -> lightning.Trainer:
    """Lightning's trainer on these resources, with its own `options`."""
    return lightning.Trainer(
        **options,
        accelerator="gpu" if resources.gpus else "cpu",
        devices=max(1, resources.gpus),
        num_nodes=resources.nodes,
        plugins=[environment_of(resources.nodes), WholeCheckpoints()],
        enable_progress_bar=sys.stderr.isatty() and log.isEnabledFor(logging.INFO),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # SliceSampler divides its slices itself
        sync_batchnorm=resources.gpus > 0 and resources.processes > 1,
        log_every_n_steps=1,
    )


def _checkpoints(folder: Path, kept: Literal["best", "last"]) -> list[Callback]:
    # `save_last` would write the last epoch only if it is also the best
    last = MovableCheckpoint(folder, filename="last", enable_version_counter=False)
    if kept == "last":
        return [last]
    best = MovableCheckpoint(
        folder,
        filename="best",
        monitor="validation_loss",
        save_weights_only=True,  # a training resumes from the last
        enable_version_counter=False,
    )
    return [best, last]  # the last one remembers which was best


def user_fault(error: Exception, title: str, checkpoint: Path | None) -> PipelineError | None:
    """The error that a user should see for one of torch, or None.

    `checkpoint` is the file that torch was reading, if any.
    """
    if (fault := compile_fault(error)) is not None:
        return fault
    if isinstance(error, torch.OutOfMemoryError):
        return PipelineError(
            f"{title}: the graphics card's memory is too small for this training; choose a smaller "
            "batch_size or a card with more"
        )
    if isinstance(error, PipelineError):  # of a reading process: torch wraps it in a traceback
        _, raised, line = str(error).rpartition(f"{PipelineError.__name__}: ")
        return PipelineError(line.strip()) if raised else None
    # raised in a signal's handler, wherever the program is: inside a lock another error follows
    causes: list[BaseException] = [error]
    while (before := causes[-1].__context__) is not None:
        causes.append(before)
    if any("DataLoader worker (pid" in str(cause) for cause in causes):
        return PipelineError(
            f"{title}: a process that loads slices was killed, mostly for want of memory; lower "
            "resources.workers or resources.cache_mb, or give more memory, and run again: the "
            "training goes on from its last epoch"
        )
    return damaged_checkpoint(checkpoint, error) if checkpoint is not None else None


def environment_of(nodes: int) -> ClusterEnvironment:
    """How the processes of a training find each other.

    On one node this process starts the others itself, also in a SLURM job, which has one task. On
    several nodes `srun` has started them all, and SLURM, not Lightning, restarts a lost job.
    """
    return LightningEnvironment() if nodes == 1 else SLURMEnvironment(auto_requeue=False)


def strategy_of(module: lightning.LightningModule, processes: int) -> str:
    """How Lightning divides a training among processes, one for each GPU.

    With two networks that take turns, one has no gradients in a backward pass. Distributed training
    waits for them forever unless it looks for unused parameters.
    """
    if processes < 2:
        return "auto"
    return "ddp" if module.automatic_optimization else "ddp_find_unused_parameters_true"
