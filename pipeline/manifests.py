"""Manifests that no longer tell the truth.

A job's declared output is a manifest; the stores, models and masks that it lists under `outputs`
are not declared, because Snakemake deletes the declared outputs of a job that fails. So Snakemake
cannot miss a store that somebody deleted: a manifest whose outputs have vanished is withdrawn, and
its job runs again and makes only what is missing. The workflow asks for every manifest by name,
because Snakemake does not miss a file between others that are up to date.
"""

import json
from pathlib import Path

from pipeline.layout import is_record

MANIFESTS = (
    "*/ingest/manifest.json",
    "*/train_mae/*.json",
    "*/residual_maps/*/*.json",
    "*/train_segmentation/*/*.json",
    "*/predict/*/*.json",
    "*/postprocess/*/*.json",
)


def withdraw_untrue(results: Path) -> list[Path]:
    """Delete the manifests below `results` that list an output which is not there.

    Args:
        results: the folder of all data sets' results; it need not exist.

    Returns:
        The deleted manifests, sorted. A manifest that cannot be read, or that does not say what
        its outputs are, is deleted too: its stage writes it anew.
    """
    found = sorted(path for pattern in MANIFESTS for path in results.glob(pattern))
    found = [path for path in found if not is_record(path)]
    untrue = [path for path in found if not _is_true(path)]
    for path in untrue:
        path.unlink()
    return untrue


def _is_true(manifest: Path) -> bool:
    try:
        content = json.loads(manifest.read_text("utf-8"))
        return all((manifest.parent / output).exists() for output in content["outputs"])
    except (ValueError, KeyError, TypeError):
        return False
