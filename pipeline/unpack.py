"""Stage `unpack`: a bundle's networks, put where those of trainings lie."""

from __future__ import annotations

import logging
from pathlib import Path

from pipeline.prediction.bundle import open_bundle
from pipeline.prediction.inputs import weights_manifest
from pipeline.storage.files import write_json
from pipeline.storage.layout import Layout
from pipeline.storage.roles import check_nobody_trains

VERSION = 1
log = logging.getLogger(__name__)


def unpack(layout: Layout, model: Path) -> None:
    """Write the weights of a bundle and their manifests, and a manifest of all of them.

    Weights that are there already stay as they are.

    Raises:
        PipelineError: the bundle is damaged, or the results are of a study that has trained.
    """
    check_nobody_trains(layout)
    bundle = open_bundle(model, layout.root)
    manifests = [weights_manifest(layout, weights) for weights in bundle.weights.values()]
    log.info("%s: %d files of weights", model, len(manifests))
    content = {"weights": dict(bundle.files), "outputs": []}
    write_json(layout.unpacked, content)
