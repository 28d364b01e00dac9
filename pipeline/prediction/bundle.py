"""Unpacks a bundle as trained models of a results tree.

Loading runs no code: safetensors and JSON, checked against digests and the settings' schema, and
nothing is inflated or built that these settings do not need.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.prediction.bundle_checks import (
    check_parameters,
    check_readable,
    check_weights,
    expected_networks,
)
from pipeline.prediction.inputs import weights_manifest
from pipeline.settings.apply.bundle import DAMAGED_ZIP, Bundle, invalid, member, read_bundle
from pipeline.settings.apply.members import own_files
from pipeline.storage.files import file_digest, replacing, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.layout import Layout


def open_bundle(path: Path, into: Path) -> Bundle:
    """Unpack a bundle as trained models of a results tree at `into`, ready for the stages.

    Weights that are there already stay as they are.

    Raises:
        PipelineError: it is no bundle, of another format, damaged, or its settings are not valid.
    """
    bundle = read_bundle(path)
    try:
        networks = expected_networks(bundle.dataset, bundle.weights)
    except Exception as error:  # settings that pass may still build nothing
        raise invalid(path, error) from error
    first = networks[own_files(bundle.weights, bundle.experiment)[0]]
    check_parameters(path, first, bundle.parameters)
    for name, network in networks.items():
        check_weights(path, name, network)
    layout = Layout(into, bundle.name)
    for name, file in bundle.weights.items():
        manifest, digest = weights_manifest(layout, file), bundle.files.get(name)
        weights = folder_of(manifest) / "model.safetensors"
        if not weights.is_file() or file_digest(weights) != digest:
            _unpack(path, name, weights, digest)
        outputs = [os.path.relpath(weights, manifest.parent)]
        write_json(manifest, {"weights_sha256": digest, "outputs": outputs})
    return bundle


def _unpack(path: Path, name: str, into: Path, digest: str | None) -> None:
    """Copy one file out of a zip: read by its name, never to a path that the zip names."""
    into.parent.mkdir(parents=True, exist_ok=True)
    try:
        with (
            replacing(into) as temporary,
            zipfile.ZipFile(path) as archive,
            archive.open(member(archive, name)) as file,
        ):
            with temporary.open("wb") as written:
                shutil.copyfileobj(file, written)
            if file_digest(temporary) != digest:
                raise PipelineError(f"bundle {path}: {name} is damaged; export or fetch it again")
            check_readable(path, name, temporary)
    except KeyError:
        raise PipelineError(f"bundle {path}: {name} is not there") from None
    except DAMAGED_ZIP as error:
        raise PipelineError(f"bundle {path}: {name} is damaged ({error})") from error
