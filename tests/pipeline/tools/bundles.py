"""What tests of exported models share: bundles, damaged ones, and raw images."""

import json
import shutil

from pipeline.storage.masks import store_geometry
from pipeline.storage.volumes import write_volume
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export.bundle import export_run

SEED = 5


def exported(run, path, experiment="grcsf"):
    export_run(*run, experiment, 1, SEED, path)
    return path


def raw(run, path, case="d"):
    store = open_store(run[0].case_store(case))
    write_volume(path, read_array(store, "image"), store_geometry(store))
    return path


def altered(model, **changes):
    record = json.loads((model / "bundle.json").read_text("utf-8"))
    (model / "bundle.json").write_text(json.dumps({**record, **changes}), "utf-8")


def rezipped(model, damage):
    """The bundle again, after `damage` has changed its unpacked folder."""
    folder = model.with_suffix("")
    shutil.unpack_archive(model, folder)
    damage(folder)
    shutil.make_archive(str(folder), "zip", folder)
    return model
