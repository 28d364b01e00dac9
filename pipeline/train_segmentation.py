"""Stage `train_segmentation`: a network learns lesions from slices and MRM (section 4.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader

from grcsf.losses import LOSSES
from grcsf.schedule import plateau_reductions, warmup_cosine
from pipeline.errors import PipelineError
from pipeline.files import read_json
from pipeline.fingerprints import fingerprint
from pipeline.intensity import shown_from
from pipeline.layout import Layout, folder_of
from pipeline.models import finished, keep_model, residual_fingerprint, weights_digest
from pipeline.networks import build_network, load_mae_encoder
from pipeline.resume import is_first_process, load_best, take_back
from pipeline.settings import Experiment, Mae, Resources, Slices, Training
from pipeline.slices import SliceDataset, SliceSampler, slice_loader
from pipeline.training import fit, per_process

VERSION = 1
log = logging.getLogger(__name__)


class SegmentationTraining(lightning.LightningModule):
    """The loss of section 3.4 under the schedule of section 4.3."""

    def __init__(self, network: nn.Module, settings: Training) -> None:
        super().__init__()
        self.network = network
        self._settings = settings
        self._loss = LOSSES[settings.loss]
        self._validation_losses: list[float] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, moments 0.9 and 0.999, of what is not frozen."""
        rate = self._settings.learning_rate
        learnt = [value for value in self.network.parameters() if value.requires_grad]
        return torch.optim.Adam(learnt, lr=rate, betas=(0.9, 0.999))

    def on_train_epoch_start(self) -> None:
        """Set the epoch's learning rate."""
        rate = learning_rate(self.current_epoch, self._settings, self._validation_losses)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate

    def training_step(self, batch: dict[str, Any], _: int) -> torch.Tensor:
        """Loss of one batch of slices."""
        logits, label = self._logits(batch), batch["label"]
        if self.trainer.world_size > 1:
            # Dice is of the whole batch's foreground, which no process sees alone
            logits = self.all_gather(logits, sync_grads=True).flatten(0, 1)  # type: ignore[union-attr]
            label = self.all_gather(label).flatten(0, 1)  # type: ignore[union-attr]
        loss: torch.Tensor = self._loss(logits, label)
        size = len(batch["image"])
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        """Loss of one validation batch."""
        loss = self._loss(self._logits(batch), batch["label"])
        size = len(batch["image"])
        self.log("validation_loss", loss, batch_size=size, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Remember the loss for the plateau rule."""
        self._validation_losses.append(float(self.trainer.callback_metrics["validation_loss"]))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the plateau rule has seen."""
        checkpoint["validation_losses"] = list(self._validation_losses)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the plateau rule where it stood."""
        self._validation_losses = list(checkpoint["validation_losses"])

    def _logits(self, batch: dict[str, Any]) -> torch.Tensor:
        logits: torch.Tensor = self.network(batch["image"], batch.get("residuals"))
        return logits  # (B, 1, h, w)


def learning_rate(epoch: int, settings: Training, validation_losses: Sequence[float]) -> float:
    """The rate of an epoch: warm-up and cosine, and on orCaScore halved at each plateau."""
    rate = warmup_cosine(
        epoch,
        settings.learning_rate,
        warmup_epochs=settings.warmup_epochs,
        factor=settings.warmup_factor,
        epochs=settings.epochs,
    )
    if settings.plateau is None:
        return rate
    reductions = plateau_reductions(validation_losses, settings.plateau.patience)
    return rate * settings.plateau.factor**reductions


def train_segmentation(
    layout: Layout,
    name: str,
    subset: int,
    settings: Experiment,
    residual_count: int,
    slices: Slices,
    seed: int,
    resources: Resources,
    mae: Mae | None = None,
) -> None:
    """Train one experiment on one subset; keep the best epoch by validation loss.

    `mae` is the MAE that `settings.mae_encoder` names: its encoder is what training starts from.
    """
    cases = read_json(layout.cases)["cases"]
    roles = read_json(layout.split)["subsets"][str(subset)]
    manifest = layout.model(name, subset)
    record = {
        "experiment": settings.model_dump(mode="json"),
        "residual_maps": residual_count,
        "slices": slices.model_dump(mode="json"),
        "seed": seed,
    }
    seen = {
        role: {case: _seen(layout, settings, slices, cases[case], case) for case in roles[role]}
        for role in ("train", "validation")
    }
    encoder = settings.mae_encoder
    start = weights_digest(layout.mae(encoder.mae)) if encoder else None
    key = fingerprint({**record, "version": VERSION, "cases": seen, "mae_weights": start})
    if resources.nodes == 1:  # of several, each would try it
        take_back(folder_of(manifest), key)
    if finished(manifest, key):
        return
    lightning.seed_everything(seed, verbose=False)
    network = build_network(settings, residual_count, slices, mae)
    if encoder and mae:
        # a training that goes on takes its checkpoint's weights afterwards
        load_mae_encoder(network, layout, encoder.mae, mae)
    module = SegmentationTraining(network, settings.training)
    loaders = tuple(
        _loader(layout, roles[role], cases, settings, slices, seed, resources, role == "train")
        for role in ("train", "validation")
    )
    log.info(
        "%s, subset %d: %d training, %d validation cases",
        name,
        subset,
        len(roles["train"]),
        len(roles["validation"]),
    )
    best = fit(
        module,
        (loaders[0], loaders[1]),
        manifest,
        key,
        title=f"{name}, subset {subset}",
        epochs=settings.training.epochs,
        precision=settings.training.precision,
        resources=resources,
        patience=settings.training.patience,
    )
    if not is_first_process():
        return
    load_best(module, best)
    keep_model(network, manifest, key, record)


def _seen(
    layout: Layout, settings: Experiment, slices: Slices, entry: Mapping[str, Any], case: str
) -> dict[str, Any]:
    """What training sees of a case is made from, for the fingerprint; `entry` is ingest's."""
    seen = {**shown_from(entry, slices), "label": entry["sha256_label"]}
    if settings.residuals is not None:
        seen["residuals"] = residual_fingerprint(layout, settings.residuals, case)
    return seen


def _loader(
    layout: Layout,
    names: Sequence[str],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Experiment,
    slices: Slices,
    seed: int,
    resources: Resources,
    training: bool,
) -> DataLoader[Any]:
    every = [(case, z) for case in names for z in range(cases[case]["slices"])]
    lesion = [i for i, (case, z) in enumerate(every) if z in cases[case]["slices_with_lesion"]]
    lesion_free = sorted(set(range(len(every))) - set(lesion))
    residual_stores = None
    if settings.residuals is not None:
        residual_stores = {case: layout.residual_store(settings.residuals, case) for case in names}
    order = SliceSampler(lesion, lesion_free, settings.training.lesion_free_fraction, seed)
    if len(order) == 0:
        role = "training" if training else "validation"
        raise PipelineError(
            f"{layout.dataset}: the {len(names)} {role} cases show no slice: none holds a lesion, "
            "and lesion_free_fraction leaves no other; raise it or split differently"
        )
    if not training:
        # one fixed mix of slices, as a training batch has it: the Dice loss of a batch without any
        # lesion says nothing
        every = [every[index] for index in order]
    data = SliceDataset(
        every,
        {case: layout.case_store(case) for case in names},
        slices,
        residual_stores,
    )
    whole = settings.training.batch_size
    if not training:
        # every process validates on all slices, in the batches that one alone would see
        return slice_loader(data, whole, None, resources.workers)
    return slice_loader(data, per_process(whole, resources), order, resources.workers)
