"""Stage `unpack`: a bundle's networks, put where those of trainings lie."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.prediction.bundle import open_bundle
from pipeline.prediction.inputs import weights_manifest
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout

VERSION = 1
log = logging.getLogger(__name__)


def unpack(layout: Layout, model: Path) -> None:
    """Write the weights of a bundle and their manifests, and a manifest of all of them.

    Weights that are there already stay as they are.

    Raises:
        PipelineError: the bundle is damaged, or the results are of a study that has trained.
    """
    check_apart(layout)
    bundle = open_bundle(model, layout.root)
    manifests = [weights_manifest(layout, weights) for weights in bundle.weights.values()]
    log.info("%s: %d files of weights", model, len(manifests))
    content = {"weights": dict(bundle.files), "outputs": []}
    write_json(layout.unpacked, content)


def check_apart(layout: Layout) -> None:
    """Refuse the results of a study, whose networks and cases those of a cohort would replace.

    Raises:
        PipelineError: its split has cases that train.
    """
    subsets = read_json(layout.split).get("subsets", {}) if layout.split.exists() else {}
    if any(roles.get("train") for roles in subsets.values()):
        found = f"found the results of a study in {layout.root / layout.dataset}"
        expected = "expected a folder without it for those of an applied model"
        raise PipelineError(f"results: {found}, {expected}; give another `results`")
