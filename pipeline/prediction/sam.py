"""SAM, zero-shot: each slice of a case in boxes round what another experiment has found there.

Nothing is drawn and nothing learnt. Slices without prompt stay empty, and cost nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

from grcsf.intensity import scale_window
from grcsf.models.peers.sam import Boxes, Sam, prompt_boxes, random_sam
from pipeline.errors import PipelineError
from pipeline.networks.devices import compute_device
from pipeline.networks.public_checkpoints import load_public_sam
from pipeline.prediction.inputs import checkpoint_key, checkpoint_of
from pipeline.prediction.predictor import Predictor, Probability
from pipeline.settings import Resources, SamExperiment, Slices
from pipeline.storage.batches import ALL, batch_part, read_parts
from pipeline.storage.files import file_digest, fingerprint
from pipeline.storage.folders import folder_of
from pipeline.storage.intensity import image_key, intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.masks import Mask, read_mask
from pipeline.storage.source_notes import file_stats, write_source_note
from pipeline.storage.zarr_store import Store, read_array

SEED = 0  # of `checkpoint: random`; recorded with each prediction
log = logging.getLogger(__name__)


def sam_predictor(
    layout: Layout,
    name: str,
    subset: int,
    settings: SamExperiment,
    slices: Slices,
    resources: Resources,
    tested: Sequence[str],
    further: Sequence[str],
    batch: str = ALL,
) -> Predictor:
    """SAM for all `tested` cases, and those of the `further` ones that the prompts have a mask of.

    Raises:
        PipelineError: SAM's checkpoint, or the masks that prompt it, are not given or not there.
    """
    files = checkpoint_of(layout.dataset, name, settings)
    stats = file_stats(files)
    digests = {file: file_digest(file) for file in files}
    manifest = layout.predictions(name, batch_part(subset, batch))
    note = layout.sources(layout.work_of(manifest))
    write_source_note(note, stats, digests)
    # its content counts, and neither path nor names
    checkpoint = fingerprint({"files": list(digests.values())}) if files else f"random, {SEED}"
    prompts = layout.masks(settings.prompts, subset)
    masks = read_parts(prompts)
    remedy = f"which prompts {name}; run predict and postprocess of {settings.prompts} again"
    if lacking := [case for case in tested if case not in masks]:
        raise PipelineError(*(f"case {case}: no mask in {prompts}, {remedy}" for case in lacking))
    cases = [*tested, *(case for case in further if case in masks)]

    @cache
    def network() -> Sam:
        if not files:
            log.warning("%s: a small SAM of random weights: its masks mean nothing", name)
            return random_sam(SEED).to(compute_device(resources.gpus))
        weights = files[0] if files[0].suffix == ".pth" else files[0].parent
        sam = load_public_sam(weights, checkpoint_key(layout.dataset, name))
        return sam.to(compute_device(resources.gpus))

    def key(case: str, store: Store) -> dict[str, Any]:
        return {
            "sam": checkpoint,
            "boxes": settings.boxes,
            "prompts": file_digest(folder_of(prompts) / masks[case]["file"]),
            **image_key(store.attrs, slices),
        }

    def probability(case: str, store: Store) -> Probability:
        mask = read_mask(layout, settings.prompts, subset, case, store)
        return segment_case(network(), store, mask, slices, settings.boxes)

    def attributes() -> dict[str, Any]:
        return {"parameters": sum(value.numel() for value in network().parameters())}

    return Predictor(cases, key, probability, attributes)


def segment_case(
    sam: Sam, store: Store, prompts: Mask, slices: Slices, boxes: Boxes
) -> Probability:
    """What SAM finds in a case `(z, y, x)`: 1 in the union of its boxes' masks, else 0.

    Args:
        sam: with its weights.
        store: of the case.
        prompts: (z, y, x) bool, 1 = lesion, on the store's grid.
        slices: how intensities are scaled; the size is SAM's own.
        boxes: as `prompt_boxes` takes them.

    Raises:
        PipelineError: SAM's output is no number.
    """
    limits = intensity_range(store.attrs, slices)
    found = np.zeros(prompts.shape, np.float16)
    for z in np.flatnonzero(prompts.any(axis=(1, 2))).tolist():
        image = torch.from_numpy(scale_window(read_array(store, "image", z), *limits))
        with torch.inference_mode():
            logits = sam.segment(image, prompt_boxes(prompts[z], boxes))
        if not bool(torch.isfinite(logits).all()):
            case = store.attrs.get("case", store.store_path)
            fault = f"case {case}: SAM's output is no number in slice {z}"
            raise PipelineError(f"{fault}; its checkpoint may be damaged, fetch it again")
        found[z] = (logits > 0).cpu().numpy()
    return found
