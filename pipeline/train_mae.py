"""Stage `train_mae`: trains a masked model on the lesion-free slices of training cases (4.3)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader

from grcsf.mae.build import MaskedModel
from grcsf.mae.model import MaskedAutoencoder
from pipeline.datasets.subsets import healthy_roles
from pipeline.errors import PipelineError
from pipeline.networks.build import masked_model
from pipeline.networks.history import compare_losses, read_history
from pipeline.networks.mae_training import MaeTraining, baseline_losses
from pipeline.networks.nodes import per_process
from pipeline.networks.public_checkpoints import checkpoint_digest, load_public_mae
from pipeline.networks.resume import is_first_process
from pipeline.networks.trainer import fit, seed_generators, training_logger
from pipeline.networks.weights import keep_model, reuse_finished
from pipeline.settings import HEALTHY, Mae, Resources, Slices
from pipeline.settings.instances import fold_of, shown
from pipeline.settings.paths import checkpoint_files
from pipeline.storage.files import file_digest, fingerprint, read_json
from pipeline.storage.folders import folder_of
from pipeline.storage.intensity import image_key
from pipeline.storage.layout import Layout
from pipeline.storage.slices import SliceDataset, SliceSampler, slice_loader
from pipeline.storage.source_notes import file_stats, write_source_note

VERSION = 1
if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

log = logging.getLogger(__name__)
Loaders = tuple[DataLoader[Any], DataLoader[Any]]
Cases = Mapping[str, Mapping[str, Any]]  # as ingest lists them
TwoParts = tuple[list[tuple[str, int]], list[tuple[str, int]]]  # to train, to validate


def train_mae(
    layout: Layout, name: str, settings: Mae, slices: Slices, seed: int, resources: Resources
) -> None:
    """Train one masked model, or take over a public checkpoint unchanged (`epochs: 0`).

    Raises:
        PipelineError: slices are missing, a checkpoint is unfit, or the training fails or diverges.
    """
    cases = read_json(layout.cases)["cases"]
    # without training, no slices are needed
    train, validation = _slices(layout, cases, name, settings, seed)
    manifest, title = layout.mae(name), f"MAE {shown(name)}"
    record: dict[str, Any] = {
        "mae": settings.model_dump(mode="json", exclude={"picture_epochs"}),
        "slices": slices.of_networks(),
        "seed": seed,
    }
    start = Path(settings.checkpoint) if settings.checkpoint else None
    if start and is_first_process():
        _note_checkpoint(layout, name, start)
    parts = {
        **record,
        # the content of a checkpoint counts, not its path
        "mae": {**record["mae"], "checkpoint": None},
        "version": VERSION,
        "cases": {case: image_key(cases[case], slices) for case, _ in (*train, *validation)},
        "train": train,
        "validation": validation,
        "checkpoint": checkpoint_digest(start) if start else None,
    }
    key = fingerprint(parts)
    if reuse_finished(manifest, key):
        return
    seed_generators(seed)
    model = _fresh_model(settings, start)
    losses: dict[str, float] = {}
    if settings.is_trained:
        loaders = _loaders(layout, train, validation, settings, slices, seed, resources)
        board = training_logger(settings.logger, layout, manifest, title)
        _train(model, loaders, manifest, key, title, settings, seed, resources, board)
        if not is_first_process():
            return
        in_order = _loaders(layout, train, validation, settings, slices, None, resources)
        baselines = baseline_losses(*in_order, settings, seed)
        history = read_history(folder_of(manifest) / "history.csv")
        epochs = settings.epochs_over(len(train))
        losses = compare_losses(title, history, epochs, baselines)
    keep_model(model, manifest, key, record, losses)


def _train(
    model: MaskedModel,
    loaders: Loaders,
    manifest: Path,
    key: str,
    title: str,
    settings: Mae,
    seed: int,
    resources: Resources,
    board: Logger,
) -> None:
    """Train a masked model for all its steps.

    Raises:
        PipelineError: its adversarial term would never begin, or what `fit` raises.
    """
    train, validation = (len(loader.dataset) for loader in loaders)  # type: ignore[arg-type]
    epochs = settings.epochs_over(train)
    judge = settings.adversarial
    if judge and settings.steps and judge.start_epoch >= epochs:
        raise PipelineError(
            f"{title}: adversarial.start_epoch: found {judge.start_epoch}, expected "
            f"less than the {epochs} epochs that {settings.steps} steps make, or it would change "
            "nothing"
        )
    length = f"{settings.steps} steps in {epochs} epochs" if settings.steps else f"{epochs} epochs"
    log.info("%s: %d training, %d validation slices; %s", title, train, validation, length)
    pictures = folder_of(manifest) / "pictures"
    fit(
        MaeTraining(model, settings, seed, pictures, compiled=resources.compile),
        loaders,
        manifest,
        key,
        title=title,
        epochs=epochs,
        precision=settings.precision,
        resources=resources,
        kept="last",  # the paper trains for a fixed number of epochs
        logger=board,
    )


def _fresh_model(settings: Mae, start: Path | None) -> MaskedModel:
    """A masked model with the weights of a checkpoint, or with random ones."""
    model = masked_model(settings)
    if start is not None and isinstance(model, MaskedAutoencoder):
        load_public_mae(model, start)
    return model


def _note_checkpoint(layout: Layout, name: str, start: Path) -> None:
    """Note the checkpoint's files, so that a plan notices when one is replaced."""
    stats = file_stats(checkpoint_files(start))
    digests = {path: file_digest(path) for path in checkpoint_files(start)}
    write_source_note(layout.sources(layout.work_of(layout.mae(name))), stats, digests)


def _slices(layout: Layout, cases: Cases, name: str, settings: Mae, seed: int) -> TwoParts:
    """The slices that an MAE learns from and is validated on; none if it is not trained."""
    if not settings.is_trained:
        return [], []
    if settings.slices_of == "healthy":
        return healthy_slices(layout, cases, seed)
    return lesion_free_slices(layout, cases, fold_of(name))


def healthy_slices(layout: Layout, cases: Cases, seed: int) -> TwoParts:
    """(case, z) of the non-empty slices of healthy scans: a tenth of the scans validates.

    Raises:
        PipelineError: there are fewer than two scans, or either part has no slice.
    """
    healthy = (name for name, case in cases.items() if case["role"] == HEALTHY)
    try:
        train, validation = healthy_roles(healthy, seed)
    except PipelineError as error:
        raise PipelineError(f"MAE training on {layout.dataset}: {error}") from None
    return _without_lesion(layout, cases, {"train": train, "validation": validation})


def lesion_free_slices(layout: Layout, cases: Cases, fold: int | None = None) -> TwoParts:
    """(case, z) of the lesion-free, non-empty slices of training and of validation cases.

    They are those of all subsets, or of one fold. All healthy scans train, too. What is validated
    stays the same with and without them.

    Raises:
        PipelineError: either has none, or a case both trains and tests.
    """
    divided = read_json(layout.split)["subsets"]
    subsets = list(divided.values()) if fold is None else [divided[str(fold)]]
    roles = {
        role: sorted({case for subset in subsets for case in subset[role]})
        for role in ("train", "validation", "test")
    }
    if leaked := set(roles["train"]) & set(roles["test"]):
        fault = f"{', '.join(sorted(leaked))} both train and test"
        raise PipelineError(f"split {layout.split}: {fault}; delete it and run split again")
    healthy = sorted(name for name, case in cases.items() if case["role"] == HEALTHY)
    train = [*roles["train"], *healthy]
    return _without_lesion(layout, cases, {"train": train, "validation": roles["validation"]})


def _without_lesion(layout: Layout, cases: Cases, parts: Mapping[str, Sequence[str]]) -> TwoParts:
    """The slices of both parts, of which neither may be empty."""
    lesion_free = []
    for role, names in parts.items():
        chosen = []
        for case in names:
            unfit = {*cases[case]["slices_with_lesion"], *cases[case]["empty_slices"]}
            chosen += [(case, z) for z in range(cases[case]["slices"]) if z not in unfit]
        if not chosen:
            raise PipelineError(
                f"MAE training on {layout.dataset}: the {len(names)} {role} cases hold no "
                "slice without lesion; expected at least one: give cases whose volume reaches "
                "beyond the lesion, or a mae.checkpoint with epochs: 0"
            )
        lesion_free.append(chosen)
    return lesion_free[0], lesion_free[1]


def _loaders(
    layout: Layout,
    train: list[tuple[str, int]],
    validation: list[tuple[str, int]],
    settings: Mae,
    slices: Slices,
    seed: int | None,
    resources: Resources,
) -> Loaders:
    """Training slices in the seed's order, or as they come without one; validation slices."""
    stores = {case: layout.case_store(case) for case, _ in (*train, *validation)}
    order = None if seed is None else SliceSampler([], range(len(train)), 1.0, seed)

    def loader(part: list[tuple[str, int]], sampler: SliceSampler | None) -> DataLoader[Any]:
        # without labels, which healthy scans have none of: a batch holds slices of both
        data = SliceDataset(part, stores, slices, labels=False)
        # every process validates on all slices, in the batches of a single process
        size = per_process(settings.batch_size, resources) if sampler else settings.batch_size
        return slice_loader(data, size, sampler, resources.workers)

    return loader(train, order), loader(validation, None)
