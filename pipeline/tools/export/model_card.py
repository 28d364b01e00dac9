"""The model card of a bundle: what the model is, and what it is not for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.evaluation.tables import aligned
from pipeline.settings import Dataset, Experiment, GradCam

SHOWN_SCORES = {"dice": "Dice", "iou": "IoU", "precision": "Precision", "recall": "Recall"}
SHOWN_SCORES |= {"voe": "VOE", "fpr_percent": "FPR (%)"}


def model_card(record: Mapping[str, Any], dataset: Dataset) -> str:
    """The card as Markdown, from a bundle's description and settings."""
    name, experiment = record["experiment"], dataset.networks[record["experiment"]]
    size = " × ".join(map(str, dataset.slices.size))
    folds = dataset.split.folds
    part = "Fold" if folds else "Subset"
    return f"""# {name}, trained on {record["dataset"]}

Lesion segmentation, slice by slice, of 3D {dataset.source.modality or "medical"} images:
`{experiment.model}` of width {experiment.width}, {record["parameters"]:,} parameters, on slices of
{size} pixels scaled by {_scaling(dataset)}.{_neighbours(experiment)}
{_maps(dataset, experiment)}{_together(record)}

## Use

    grcsf predict IMAGE --model THIS --output FOLDER

IMAGE is a NIfTI, MetaImage or NRRD file, or a folder of DICOM slices. Masks lie on the image's
grid. A voxel is lesion from probability {dataset.postprocess.probability:g} on; post-processing:
`{dataset.postprocess.method}`.

## Trained on

{_trained(record, experiment, part, f"{folds} folds" if folds else "split")}

## Scores

{_scores(record, f"{part.lower()}s")}

## Not for

Diagnosis or treatment: this is research software. Images of other scanners, protocols, body parts
or pathologies than the training cases' will be segmented without a warning, and wrongly. The scores
above say nothing about them.

Weights can carry traces of the images that trained them. Whoever passes this bundle on sees to it
that the data set's terms allow that.

## Files

`bundle.json` holds all settings, stage and package versions, and the SHA-256 of every file of
weights. Loading it runs no code.
"""


def _together(record: Mapping[str, Any]) -> str:
    if "members" not in record:
        return ""
    return (
        f"\n\nAn ensemble of {len(record['members'])} such networks: a voxel's probability is the "
        "mean of theirs."
    )


def _trained(record: Mapping[str, Any], experiment: Experiment, part: str, whole: str) -> str:
    """The cases and seeds that the network learned from, or each of several."""
    of = f"of the data set's {whole} (digest `{record['split_digest'][:16]}`)"
    if "members" not in record:
        cases = record["cases"]
        return (
            f"{part} {record['subset']} {of}:\n{cases['train']} training, {cases['validation']} "
            f"validation, {cases['test']} test cases. Seed\n{record['seed']}{_repeat(record)}."
            f"{_labelled(experiment)}"
        )
    head = ["Network", part, "Repeat", "Seed", "Training", "Validation", "Test cases"]
    rows = [
        [
            f"`{member['file']}`",
            *(str(member[key]) for key in ("subset", "repeat", "seed")),
            *(str(member["cases"][role]) for role in ("train", "validation", "test")),
        ]
        for member in record["members"]
    ]
    table = aligned([head, *rows])
    return "\n\n".join(filter(None, (f"{part}s {of}:", table, _labelled(experiment).strip())))


def _repeat(record: Mapping[str, Any]) -> str:
    return f", repeat {record['repeat']}" if "repeat" in record else ""


def _labelled(experiment: Experiment) -> str:
    count = experiment.labelled_cases
    return "" if count is None else f" Of the training and validation cases, {count} were used."


def _scaling(dataset: Dataset) -> str:
    if dataset.slices.window:
        low, high = dataset.slices.window
        return f"the window {low:g} to {high:g} HU"
    low, high = dataset.slices.percentiles or (0, 100)
    return f"the image's own percentiles {low:g} and {high:g}"


def _neighbours(experiment: Experiment) -> str:
    count = experiment.neighbours
    plural = "s" if count > 1 else ""
    return f" Of each slice it sees {count} neighbour{plural} on each side, too." if count else ""


def _maps(dataset: Dataset, experiment: Experiment) -> str:
    if experiment.residuals is None:
        return "It sees no residual maps."
    chosen = dataset.residuals[experiment.residuals]
    into = ", as input channels" if experiment.residual_input else ""
    if isinstance(chosen, GradCam):
        return f"Beside the slice it sees the Grad-CAM of `{chosen.grad_cam}`{into}."
    listed = ", ".join(f"{part.passes} at {part.mask_ratio:.0%}" for part in chosen.maps)
    sign = "signed " if chosen.signed else ""
    return (
        f"Beside the slice it sees {len(chosen.maps)} {sign}residual maps of masked autoencoders "
        f"(passes: {listed} masked; `{chosen.masks}` masks){into}."
    )


def _scores(record: Mapping[str, Any], parts: str) -> str:
    scores = record["scores"]
    if scores is None:
        return "Not evaluated when this bundle was written."
    rows = [
        [title, f"{scores[key]['mean']:.3f}", _interval(scores[key])]
        for key, title in SHOWN_SCORES.items()
        if key in scores and scores[key]["mean"] is not None
    ]
    head = ["", "mean", f"{record['confidence']:.0%} interval"]
    patients = f"Means over the {record['patients']} test patients of all evaluated {parts}."
    if "repeats" in record:
        patients += f" Each patient's score is the mean over {record['repeats']} repeats."
    if "scored_as" in record:
        patients += (
            f" They are those of the experiment `{record['scored_as']}`, in which the repeats of "
            f"each of the {parts} are averaged."
        )
    elif "members" in record:
        patients += " They are those of single networks; the ensemble was not scored."
    return f"{aligned([head, *rows])}\n\n{patients}"


def _interval(score: Mapping[str, Any]) -> str:
    if score["low"] is None:
        return "–"
    return f"{score['low']:.3f} to {score['high']:.3f}"
