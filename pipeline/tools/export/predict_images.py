"""`grcsf predict IMAGE…`: a bundle predicts images that were never ingested.

The images go through the stages themselves, in a results tree of their own, so that the pipeline
would make the same mask. A case is named after its image file; the seed and that name determine the
masks of the MAE passes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from grcsf.agatston import calcium_score
from grcsf.calcium import claim_candidates
from grcsf.components import lesion_sizes, voxel_volume_mm3
from pipeline.datasets.cases import CASE_NAME, NAME_RULE, CaseFiles
from pipeline.errors import PipelineError, findings_of
from pipeline.ingest import ingest_case
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.residual_maps import residual_maps
from pipeline.settings import EnsembleExperiment, GradCam, Resources, encoder_mae
from pipeline.settings.instances import instances_of, residual_instance
from pipeline.storage.files import make_output, read_json, replacing, write, write_json
from pipeline.storage.images.names import image_name
from pipeline.storage.layout import Layout, folder_of
from pipeline.storage.masks import Mask, read_hu, read_mask, write_on_source_grid
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export.bundle import Bundle, open_bundle
from pipeline.tools.export.page import prediction_page
from pipeline.tools.export.working_tree import working_tree

PER_IMAGE = ("ingest", "split", "residual_maps", "predict", "postprocess")
VOLUMES = ("probability", "uncertainty")  # each may be written as IMAGE-probability and so on
log = logging.getLogger(__name__)


def predict_images(
    images: Sequence[Path],
    model: Path,
    output: Path,
    resources: Resources,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
) -> None:
    """Write each image's mask, page and measures, and its probabilities if asked for.

    `uncertainty` is how far the networks of a bundle of several disagree.

    Raises:
        PipelineError: the bundle cannot be used, has a single network of which none is uncertain,
            masks would lie among the images, or some images cannot be used: the others are
            predicted first, then each of these gets a line.
    """
    files, faults = _named(images)
    volumes = [
        name for name, asked in zip(VOLUMES, (probabilities, uncertainty), strict=True) if asked
    ]
    _check_volumes(files, volumes)
    _check_apart(files, output)
    make_output(output)
    with working_tree(output) as tree:
        bundle = open_bundle(model, tree)
        if uncertainty and len(bundle.members) == 1:
            fault = (
                f"--uncertainty: found one network in {model}, expected several that may disagree"
            )
            raise PipelineError(f"{fault}; export it with --repeat all or --subset all")
        layout, dataset = Layout(tree, bundle.name), bundle.dataset
        for name, image in files.items():
            modality = dataset.source.modality or ""
            case = CaseFiles(name, image, None, role="unlabelled", modality=modality)
            # one by one, so that other images change no bit of a mask, and fill no disk
            try:
                entry, _ = ingest_case(layout, dataset.source, case, dataset.slices.plane)
                if "faults" in entry:
                    faults[name] = entry["faults"]
                    continue
                for note in entry["notes"]:
                    log.info("note: %s: %s", name, note)
                _run_stages(layout, bundle, {name: entry}, resources, uncertainty=uncertainty)
                _hand_over(layout, bundle, name, output, volumes)
            except Exception as error:  # whatever a library raises about one image
                found = findings_of(error, image, name)
                faults[name] = [str(each) if each.file else f"{image}: {each}" for each in found]
            finally:
                for stage in PER_IMAGE:
                    shutil.rmtree(layout.stage(stage), ignore_errors=True)
    if faults:
        unusable = sum(name in faults for name in files) + len(images) - len(files)
        lines = [f"{unusable} of {len(images)} images could not be used:", *chain(*faults.values())]
        raise PipelineError("\n".join(lines))


def _named(images: Sequence[Path]) -> tuple[dict[str, Path], dict[str, list[str]]]:
    """Each image by its name without the ending; and the faults of all others by name.

    Images that share a name are at fault, and so are images whose name is no file name.
    """
    named, faults = defaultdict(list), defaultdict(list)
    for image in images:
        name = image_name(image)
        if CASE_NAME.fullmatch(name):
            named[name].append(image)
        else:
            fault = f"{image}: found the name {name!r}, expected {NAME_RULE}; rename it"
            faults[str(image)].append(fault)
    for name, sharing in named.items():
        if len(sharing) > 1:
            listed = " and ".join(map(str, sharing))
            faults[name].append(f"{listed}: all would be called {name}; rename all but one")
    return {name: sharing[0] for name, sharing in named.items() if len(sharing) == 1}, faults


def _check_volumes(files: Mapping[str, Path], volumes: Sequence[str]) -> None:
    """Refuse an image whose mask would have the name of another's probability map, or the like."""
    for volume, (name, image) in product(volumes, files.items()):
        if other := files.get(f"{name}-{volume}"):
            raise PipelineError(
                f"{other}: its mask would be called as the {volume} map of {image}; rename it"
            )


def _check_apart(files: Mapping[str, Path], output: Path) -> None:
    """Refuse a folder that holds an image, or is one: a mask has its image's name."""
    for image in files.values():
        # Path.resolve raises at links that lead in a circle
        if os.path.realpath(output) in map(os.path.realpath, (image.parent, image)):
            raise PipelineError(
                f"--output: {output} holds the image {image}, which its mask could replace; "
                "choose another folder"
            )


def _run_stages(
    layout: Layout,
    bundle: Bundle,
    cases: Mapping[str, Any],
    resources: Resources,
    *,
    uncertainty: bool = False,
) -> None:
    dataset, subset = bundle.dataset, bundle.subset
    write_json(layout.cases, {"cases": dict(cases), "set_aside": {}, "outputs": []})
    nobody: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    subsets = {str(number): nobody for _, number in bundle.members}
    write_json(layout.split, {"subsets": subsets, "unlabelled": list(cases)})
    experiment, encoder = (
        dataset.experiments[bundle.experiment],
        encoder_mae(dataset, bundle.experiment),
    )
    for name, number in bundle.members:
        if experiment.residuals is not None:  # what members share is there after the first
            _make_maps(layout, bundle, experiment.residuals, number, resources)
        used = instances_of(dataset, name, number).residuals
        given = (bundle.maps, dataset.slices, resources, encoder, used)
        predict(layout, name, number, experiment, *given)
    if len(bundle.members) > 1:
        mean = EnsembleExperiment(ensemble=(bundle.experiment,), uncertainty=uncertainty)
        ensemble = (layout, bundle.result, subset, mean, bundle.maps, dataset.slices, resources)
        predict(*ensemble, members=bundle.members)
    postprocess(layout, bundle.result, subset, dataset.postprocess)


def _make_maps(
    layout: Layout, bundle: Bundle, name: str, subset: int, resources: Resources
) -> None:
    dataset, subsets = bundle.dataset, (subset,)
    chosen, slices = dataset.residuals[name], dataset.slices
    instance = residual_instance(dataset, name, subset)
    if isinstance(chosen, GradCam):
        source = dataset.trained(chosen.grad_cam, "for Grad-CAM")
        grad_cam_maps(layout, instance, "1of1", chosen, source, subsets, slices, resources)
        return
    maes = {part.mae: dataset.mae[part.mae] for part in chosen.maps}
    residual_maps(layout, instance, "1of1", chosen, maes, subsets, slices, bundle.seed, resources)


def _hand_over(
    layout: Layout, bundle: Bundle, name: str, output: Path, volumes: Sequence[str]
) -> None:
    store = open_store(layout.case_store(name))
    masks = layout.masks(bundle.result, bundle.subset)
    written = folder_of(masks) / read_json(masks)["cases"][name]["file"]
    with replacing(output / written.name) as temporary:
        shutil.copyfile(written, temporary)
    predicted = open_store(layout.prediction_store(bundle.result, bundle.subset, name))
    for volume in volumes:
        file = output / f"{name}-{volume}{written.name.removeprefix(name)}"
        write_on_source_grid(file, read_array(predicted, volume), store)
    mask = read_mask(layout, bundle.result, bundle.subset, name, store)
    spacing = [float(side) for side in store.attrs["spacing"]]  # type: ignore[union-attr,arg-type]
    sizes = lesion_sizes(mask)
    measured: dict[str, Any] = {
        "image": name,
        "lesions": len(sizes),
        "lesion_ml": float(sizes.sum() * voxel_volume_mm3(spacing) / 1000),
    }
    if bundle.dataset.postprocess.method == "calcium":
        measured["agatston"] = claimed_agatston(bundle, mask, read_hu(store), spacing)
    write(output / f"{name}.json", json.dumps(measured, indent=1) + "\n")
    page = prediction_page(layout, bundle, name, mask, measured)
    write(output / f"{name}.png", page)
    log.info("%s: %d lesions, %.3g ml", output / written.name, len(sizes), measured["lesion_ml"])


def claimed_agatston(
    bundle: Bundle, mask: Mask, hu: npt.NDArray[np.int16], spacing: Sequence[float]
) -> float:
    """The Agatston score of all candidates that the mask claims, as evaluate scores them."""
    evaluation, above = bundle.dataset.evaluation, bundle.dataset.postprocess.threshold_hu
    voters, step_mm = evaluation.majority_over, evaluation.agatston_slice_mm
    claimed = claim_candidates(mask, hu, threshold_hu=above, majority_over=voters)
    calcium = np.asarray(claimed > 0)
    score = calcium_score(calcium, hu, spacing, threshold_hu=above, reference_spacing_mm=step_mm)
    return score.agatston
