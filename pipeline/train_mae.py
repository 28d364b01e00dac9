"""Stage `train_mae`: a masked autoencoder learns slices without lesion (section 4.3).

Only lesion-free, non-empty slices of training cases are seen, those of all subsets together; never
a slice of a test case. Validation cases' lesion-free slices give the validation loss.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from grcsf.mae.build import build_masked_model
from grcsf.mae.model import MaskedAutoencoder
from pipeline.errors import PipelineError
from pipeline.networks.mae_training import MaeTraining
from pipeline.networks.public_checkpoints import checkpoint_digest, load_public_mae
from pipeline.networks.resume import is_first_process, take_back
from pipeline.networks.trainer import fit, per_process, seed_generators
from pipeline.networks.weights import finished, keep_model
from pipeline.settings import Mae, Resources, Slices
from pipeline.settings.paths import checkpoint_files
from pipeline.storage.files import file_digest, fingerprint, read_json
from pipeline.storage.intensity import shown_from
from pipeline.storage.layout import Layout, folder_of
from pipeline.storage.slices import SliceDataset, SliceSampler, slice_loader
from pipeline.storage.source_notes import looks_of, note_sources

VERSION = 1
log = logging.getLogger(__name__)


def train_mae(
    layout: Layout, name: str, settings: Mae, slices: Slices, seed: int, resources: Resources
) -> None:
    """Train one MAE, or use a public checkpoint as it is (`epochs: 0`).

    Raises:
        PipelineError: there is no lesion-free slice to learn from, or a checkpoint cannot be used.
    """
    cases = read_json(layout.cases)["cases"]
    # a checkpoint that is only used needs no slices
    train, validation = lesion_free_slices(layout, cases) if settings.epochs else ([], [])
    manifest = layout.mae(name)
    record: dict[str, Any] = {
        "mae": settings.model_dump(mode="json", exclude={"picture_epochs"}),
        "slices": slices.model_dump(mode="json"),
        "seed": seed,
    }
    used = {case: shown_from(cases[case], slices) for case, _ in (*train, *validation)}
    start = Path(settings.checkpoint) if settings.checkpoint else None
    if start and is_first_process():
        _note_checkpoint(layout, name, start)
    key = fingerprint(
        {
            **record,
            # what it holds counts, wherever it lies
            "mae": {**record["mae"], "checkpoint": None},
            "version": VERSION,
            "cases": used,
            "train": train,
            "validation": validation,
            "checkpoint": checkpoint_digest(start) if start else None,
        }
    )
    if resources.nodes == 1:  # of several, each would try it
        take_back(folder_of(manifest), key)
    if finished(manifest, key):
        return
    seed_generators(seed)
    model = build_masked_model(
        settings.architecture,
        settings.preset,
        image_size=settings.image_size,
        patch_size=settings.patch_size,
    )
    if start is not None and isinstance(model, MaskedAutoencoder):
        load_public_mae(model, start)
    if settings.epochs:
        log.info("MAE %s: %d training, %d validation slices", name, len(train), len(validation))
        module = MaeTraining(model, settings, seed, folder_of(manifest) / "pictures")
        loaders = _loaders(layout, train, validation, settings, slices, seed, resources)
        fit(
            module,
            loaders,
            manifest,
            key,
            title=f"MAE {name}",
            epochs=settings.epochs,
            precision=settings.precision,
            resources=resources,
            # the paper trains for a fixed number of epochs
            kept="last",
        )
        if not is_first_process():
            return
    keep_model(model, manifest, key, record)


def _note_checkpoint(layout: Layout, name: str, start: Path) -> None:
    files = checkpoint_files(start)
    looks = looks_of(files)
    note = layout.sources(f"train_mae {name}")
    note_sources(note, looks, {path: file_digest(path) for path in files})


def lesion_free_slices(
    layout: Layout, cases: Mapping[str, Mapping[str, Any]]
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """(case, z) of the lesion-free, non-empty slices of training and of validation cases.

    Raises:
        PipelineError: one of the two has none, or a test case is among the training cases.
    """
    subsets = read_json(layout.split)["subsets"].values()
    roles = {
        role: sorted({case for subset in subsets for case in subset[role]})
        for role in ("train", "validation", "test")
    }
    leaked = set(roles["train"]) & set(roles["test"])
    if leaked:
        raise PipelineError(
            f"split {layout.split}: {', '.join(sorted(leaked))} both train and test; delete it and "
            "run split again"
        )
    found = []
    for role in ("train", "validation"):
        chosen = [
            (case, z)
            for case in roles[role]
            for z in range(cases[case]["slices"])
            if z not in cases[case]["slices_with_lesion"] and z not in cases[case]["empty_slices"]
        ]
        if not chosen:
            raise PipelineError(
                f"MAE training on {layout.dataset}: the {len(roles[role])} {role} cases hold no "
                "slice without lesion; expected at least one: give cases whose volume reaches "
                "beyond the lesion, or a mae.checkpoint with epochs: 0"
            )
        found.append(chosen)
    return found[0], found[1]


def _loaders(
    layout: Layout,
    train: list[tuple[str, int]],
    validation: list[tuple[str, int]],
    settings: Mae,
    slices: Slices,
    seed: int,
    resources: Resources,
) -> tuple[DataLoader[Any], DataLoader[Any]]:
    stores = {case: layout.case_store(case) for case, _ in (*train, *validation)}
    order = SliceSampler([], range(len(train)), 1.0, seed)

    def loader(part: list[tuple[str, int]], sampler: SliceSampler | None) -> DataLoader[Any]:
        data = SliceDataset(part, stores, slices)
        # every process validates on all slices, in the batches that one alone would see
        size = per_process(settings.batch_size, resources) if sampler else settings.batch_size
        return slice_loader(data, size, sampler, resources.workers)

    return loader(train, order), loader(validation, None)
