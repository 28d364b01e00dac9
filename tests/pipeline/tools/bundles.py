"""What tests of exported models share: bundles, damaged ones, and raw images."""

import json
import shutil
import zipfile

from pipeline.settings import configured, repeat_of
from pipeline.settings.apply.members import Member
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.masks import store_geometry
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export.export import export_run

SEED = 5


def exported(run, path, experiment="grcsf", members=()):
    """The bundle of one network, by its training's name, or of `members` (subset, repeat)."""
    chosen = [Member(*each) for each in members or [(1, repeat_of(experiment))]]
    export_run(*run, configured(experiment), chosen, SEED, path)
    return path


def raw(run, path, case="d"):
    store = open_store(run[0].case_store(case))
    write_volume(path, read_array(store, "image"), store_geometry(store))
    return path


def altered(model, **changes):
    record = json.loads((model / "bundle.json").read_text("utf-8"))
    (model / "bundle.json").write_text(json.dumps({**record, **changes}), "utf-8")


def rezipped(unpacked, folder, damage=lambda _: None, compression=zipfile.ZIP_STORED):
    """A bundle of these files, after `damage` has changed a copy of them in `folder`."""
    shutil.copytree(unpacked, folder)
    damage(folder)
    model = folder.with_suffix(".zip")
    with zipfile.ZipFile(model, "w", compression, compresslevel=1) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return model
