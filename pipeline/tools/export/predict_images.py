"""`grcsf predict IMAGE…`: a bundle predicts images that were never ingested.

The images go through the stages themselves, in a results tree of their own, so that the pipeline
would make the same mask. A case is named after its image file; the seed and that name determine the
masks of the MAE passes.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, compress
from pathlib import Path
from typing import Any, Literal

from pipeline.datasets.cases import CaseFiles, source_files
from pipeline.errors import PipelineError, findings_of
from pipeline.evaluation.cohort.measures import in_words, measure_mask
from pipeline.ingestion.case_stores import ingest_case
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.networks.prefetch import ahead, behind
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.prediction.bundle import open_bundle
from pipeline.prediction.dicom_seg import check_all_dicom, maker_of, seg_source
from pipeline.residual_maps import residual_maps
from pipeline.settings import EnsembleExperiment, GradCam, Resources, encoder_mae
from pipeline.settings.apply.bundle import Bundle
from pipeline.settings.instances import instances_of, residual_instance
from pipeline.storage.files import make_output, read_json, replacing, write, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.images.dicom.content import stated_modality
from pipeline.storage.images.dicom.new_segmentation import SegmentedSeries, segmentation_bytes
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.layout import Layout
from pipeline.storage.masks import read_mask, write_on_source_grid
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export.named_images import check_apart, check_volumes, named_images
from pipeline.tools.export.page import prediction_page
from pipeline.tools.export.working_tree import working_tree

IMAGES = ".images"  # which no data set is called, and so no bundle
MODELS = ("train_mae", "train_segmentation")
VOLUMES = ("probability", "uncertainty")  # each may be written as IMAGE-probability and so on
MaskFormat = Literal["nifti", "seg"]
log = logging.getLogger(__name__)


@dataclass
class _Image:
    """An image on its way through the stages, in a results tree of its own."""

    name: str
    file: Path
    layout: Layout
    entry: dict[str, Any] = field(default_factory=dict)  # of ingest's manifest
    series: SegmentedSeries | None = None  # to which a DICOM SEG will refer
    faults: list[str] = field(default_factory=list)

    @contextmanager
    def faults_kept(self) -> Iterator[None]:
        """Keep whatever a library raises about this one image."""
        try:
            yield
        except Exception as error:
            found = findings_of(error, self.file, self.name)
            self.faults += [
                str(replace(one, case=self.name)) if one.file else f"{self.file}: {one}"
                for one in found
            ]


def predict_images(
    images: Sequence[Path],
    model: Path,
    output: Path,
    resources: Resources,
    *,
    probabilities: bool = False,
    uncertainty: bool = False,
    mask_format: MaskFormat = "nifti",
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Write each image's mask, page and measures, and its probabilities if asked for.

    `uncertainty` is how far the networks of a bundle of several disagree. `tell` gets a line with
    each image's measures once they are written, and "" for each other.

    Raises:
        PipelineError: the bundle cannot be used, has a single network of which none is uncertain,
            masks would lie among the images or cannot be of this format, or some images cannot be
            used: the others are predicted first, then each of these gets a line.
    """
    volumes = list(compress(VOLUMES, (probabilities, uncertainty)))
    files, faults = named_images(images)
    check_volumes(files, volumes)
    check_apart(files, output)
    if mask_format == "seg":
        check_all_dicom(files.values())
    make_output(output)
    for _ in range(len(images) - len(files)):
        tell("")
    with working_tree(output) as tree:
        bundle = open_bundle(model, tree)
        _check_several(model, bundle, volumes)

        def read(item: tuple[str, Path]) -> _Image:
            return _read(tree, bundle, *item, mask_format)

        def finish(image: _Image) -> None:
            line = ""
            if not image.faults:
                with image.faults_kept():
                    line = _hand_over(bundle, image, output, volumes)
            if image.faults:
                faults[image.name] = image.faults
            shutil.rmtree(image.layout.root, ignore_errors=True)
            tell(line)

        # one by one, so that other images change no bit of a mask, and fill no disk; yet the next
        # one is read, and the page of the one before is drawn, while an image is predicted
        with closing(ahead(read, files.items())) as coming, behind(finish) as finish_later:
            for image in coming:
                if not image.faults:
                    with image.faults_kept():
                        ingested = image.layout, bundle, {image.name: image.entry}
                        _run_stages(*ingested, resources, uncertainty=uncertainty)
                finish_later(image)
    if faults:
        unusable = sum(name in faults for name in files) + len(images) - len(files)
        lines = [f"{unusable} of {len(images)} images could not be used:", *chain(*faults.values())]
        raise PipelineError("\n".join(lines))


def _check_several(model: Path, bundle: Bundle, volumes: Sequence[str]) -> None:
    """Refuse an uncertainty of one network alone."""
    if "uncertainty" in volumes and len(bundle.members) == 1:
        found = f"--uncertainty: found one network in {model}, expected several that may disagree"
        raise PipelineError(f"{found}; export it with --repeat all or --subset all")


def _read(tree: Path, bundle: Bundle, name: str, file: Path, mask_format: MaskFormat) -> _Image:
    """Ingest an image into a tree of its own, beside which the models lie."""
    models, dataset = Layout(tree, bundle.name), bundle.dataset
    image = _Image(name, file, Layout(tree / IMAGES / name, bundle.name))
    with image.faults_kept():
        for stage in MODELS:
            if models.stage(stage).exists():
                image.layout.stage(stage).parent.mkdir(parents=True, exist_ok=True)
                image.layout.stage(stage).symlink_to(models.stage(stage).absolute())
        modality = dataset.source.modality or ""
        case = CaseFiles(name, file, None, role="unlabelled", modality=modality)
        image.entry, _ = ingest_case(image.layout, dataset.source, case, dataset.slices.plane)
        image.faults += image.entry.get("faults", ())
        for note in image.entry.get("notes", ()):
            log.info("note: %s: %s", name, note)
        if not image.faults:
            _tell_other_modality(case)
            image.series = seg_source(file, bundle) if mask_format == "seg" else None
    return image


def _tell_other_modality(case: CaseFiles) -> None:
    """Warn of a DICOM image that states another modality than the model was trained on."""
    stated = stated_modality(source_files(case))
    if stated and case.modality and stated != case.modality:
        found = f"DICOM of modality {stated}, and the model was trained on {case.modality}"
        remedy = "look whether it is the right scan, or the right model"
        log.warning("%s: %s: %s; %s", case.case, case.image, found, remedy)


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


def _hand_over(bundle: Bundle, image: _Image, output: Path, volumes: Sequence[str]) -> str:
    """Write all that is asked for of one image; a line with its measures."""
    layout, name = image.layout, image.name
    store = open_store(layout.case_store(name))
    masks = layout.masks(bundle.result, bundle.subset)
    written = folder_of(masks) / read_json(masks)["cases"][name]["file"]
    if image.series is not None:
        array = read_volume(written, tilted=True).array
        write(output / f"{name}.dcm", segmentation_bytes(image.series, array, maker_of(bundle)))
    else:
        with replacing(output / written.name) as temporary:
            shutil.copyfile(written, temporary)
    predicted = open_store(layout.prediction_store(bundle.result, bundle.subset, name))
    for volume in volumes:
        file = output / f"{name}-{volume}{written.name.removeprefix(name)}"
        write_on_source_grid(file, read_array(predicted, volume), store)
    mask = read_mask(layout, bundle.result, bundle.subset, name, store)
    measures = measure_mask(bundle.dataset, mask, store)
    measured: dict[str, Any] = {
        "image": name,
        "lesions": measures.lesions,
        "lesion_ml": measures.lesion_ml,
    }
    if measures.agatston is not None:
        measured["agatston"] = measures.agatston
    write(output / f"{name}.json", json.dumps(measured, indent=1) + "\n")
    page = prediction_page(layout, bundle, name, mask, measured)
    write(output / f"{name}.png", page)
    return f"{name}: {in_words(measured)}"
