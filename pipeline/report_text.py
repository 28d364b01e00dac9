"""The report's sentences, and the comparison's Markdown as HTML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from pipeline.case_view import shown_residuals
from pipeline.settings import Dataset, GradCam


def emphasis(text: str) -> Markup:
    r"""The comparison's Markdown as HTML: `**best**`, `\*`, and intervals set small."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    marked = re.sub(r"(?<=[\d>*] )(\[[^\]]+, [^\]]+\])$", r"<small>\1</small>", marked)
    return Markup(marked.replace("\\*", "*"))


def residual_note(dataset: Dataset) -> str:
    """What the residual maps in the pictures are; nothing where no experiment has any."""
    name = shown_residuals(dataset)
    if name is None:
        return ""
    chosen = dataset.residuals[name]
    if isinstance(chosen, GradCam):
        return (
            f"Maps ({name}): Grad-CAM of {chosen.grad_cam}, where its deepest features speak for a "
            "lesion, each slice over its own maximum; the green line is the reference."
        )
    formula = {
        "abs": "the absolute difference between the image and its reconstruction",
        "squared": "the squared difference between the image and its reconstruction",
        "ssim": "1 − the local structural similarity of the image and its reconstruction",
    }[chosen.difference]
    passes = " and ".join(str(one.passes) for one in chosen.maps)
    return (
        f"Residual maps ({name}): {formula} by a masked autoencoder that has learned lesion-free "
        f"slices only, averaged over {passes} passes of {chosen.masks} masks. Bright is what the "
        "autoencoder could not foresee: lesions, and also edges and fine texture. Both maps of a "
        "case share one scale; the green line is the reference."
    )


def data_summary(dataset: Dataset, manifest: Mapping[str, Any]) -> str:
    """How many cases of which kind there are, from ingest's manifest."""
    cases, aside = manifest["cases"], len(manifest["set_aside"])
    labelled = sum(case["labelled"] for case in cases.values())
    groups = len({case["group"] for case in cases.values() if case["group"]})
    origin = "synthetic cases (phantoms)" if dataset.source.phantom else "cases"
    return (
        f"{len(cases)} {origin}: {labelled} with a reference, {len(cases) - labelled} without"
        + (f", {aside} set aside" if aside else "")
        + (f"; {groups} groups" if groups else "")
        + f". Split by {dataset.split.by}."
    )
