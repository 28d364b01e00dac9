"""A planted store: only what this software writes is ever decoded."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import zarr

from pipeline.errors import PipelineError
from pipeline.storage.layout import Layout
from pipeline.storage.residual_store import find_or_link, shared_store
from pipeline.storage.zarr_store import is_current, open_store, write_store

MAPS = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float16).reshape(2, 3, 8, 8)


class Run:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def write(path, maps=MAPS, **attributes):
    write_store(path, {"residual": maps}, {"fingerprint": "f", **attributes}, slice_axis=1)
    return path


def edited(change, name="residual/zarr.json"):
    def edit(path):
        content = json.loads((path / name).read_text("utf-8"))
        change(content)
        (path / name).write_text(json.dumps(content), "utf-8")

    return edit


def inner(content):
    return content["codecs"][0]["configuration"]


def second_version(path):
    """A Zarr v2 store whose filter unpickles what it reads."""
    attributes = json.loads((path / "zarr.json").read_text("utf-8"))["attributes"]
    shutil.rmtree(path)
    (path / "residual").mkdir(parents=True)
    (path / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zattrs").write_text(json.dumps(attributes))
    array = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None}
    array |= {"order": "C", "compressor": None, "filters": [{"id": "pickle"}]}
    (path / "residual" / ".zarray").write_text(json.dumps(array))
    (path / "residual" / "0").write_bytes(pickle.dumps(Run()))


def pipe_in_place(path):
    (path / "zarr.json").unlink()
    os.mkfifo(path / "zarr.json")


def more_arrays(path):
    zarr.open_group(path, mode="a").create_array("more", shape=(2,), dtype="i2")


PLANTED = {
    "version 2": second_version,
    "codec": edited(lambda c: inner(c)["codecs"].append({"name": "numcodecs.pickle"})),
    "index codec": edited(lambda c: inner(c)["index_codecs"].insert(0, {"name": "gzip"})),
    "outer codec": edited(lambda c: c["codecs"].append({"name": "blosc", "configuration": {}})),
    "data type": edited(lambda c: c.update(data_type="object")),
    "extension type": edited(lambda c: c.update(data_type={"name": "numpy.datetime64"})),
    "shape": edited(lambda c: c.update(shape=[2, 3, 8, 9])),
    "huge": edited(lambda c: c.update(shape=[10**6] * 4)),
    "chunks": edited(lambda c: inner(c).update(chunk_shape=[1, 1, 1, 1])),
    "transformers": edited(lambda c: c.update(storage_transformers=[{"name": "x"}])),
    "deep": lambda path: (path / "zarr.json").write_text("[" * 10**5),
    "consolidated": edited(lambda c: c.update(consolidated_metadata={"x": 1}), "zarr.json"),
    "arrays": more_arrays,
    "pipe": pipe_in_place,
}


@pytest.mark.parametrize("planted", PLANTED)
def test_a_store_that_this_software_does_not_write_is_refused_unread(
    tmp_path, monkeypatch, planted
):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "a.zarr")
    PLANTED[planted](path)
    seen = []
    opened = zarr.open_group
    monkeypatch.setattr(zarr, "open_group", lambda *a, **b: seen.append(a) or opened(*a, **b))
    with pytest.raises(PipelineError, match=f"^store {path}: "):
        open_store(path)
    assert not seen
    assert not is_current(path, "f")
    assert not (tmp_path / "executed").exists()


def test_an_image_has_the_shape_that_its_attributes_tell(tmp_path):
    with pytest.raises(PipelineError, match=r"residual has the shape \[2, 3, 8, 8\], expected \[3"):
        open_store(write(tmp_path / "a.zarr", shape=[3, 8, 8]))


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (MAPS[:1], r"found residuals \(1, 3, 8, 8\) float16, expected \(2, 3, 8, 8\) float16"),
        (MAPS.astype(np.float32), "float32, expected"),
        (np.full_like(MAPS, np.nan), "no finite numbers"),
        (np.where(MAPS > 0.5, np.inf, MAPS).astype(np.float16), "no finite numbers"),
    ],
)
def test_maps_of_another_form_are_one_line_when_they_are_linked(tmp_path, maps, said):
    layout = Layout(tmp_path / "results", "brain", tmp_path / "cache")
    shared = write(shared_store(tmp_path / "cache", "a", "f"), maps)
    with pytest.raises(PipelineError, match=f"{shared}: .*{said}") as raised:
        find_or_link(layout, "mrm", "a", "f", MAPS.shape)
    assert len(str(raised.value).splitlines()) == 1
    assert not os.path.lexists(layout.residual_store("mrm", "a"))


def test_values_that_their_digest_does_not_fit_are_not_linked(tmp_path):
    layout = Layout(tmp_path / "results", "brain", tmp_path / "cache")
    shared = write(shared_store(tmp_path / "cache", "a", "f"))
    other = write(tmp_path / "other.zarr", MAPS / 2)
    shutil.rmtree(shared / "residual")
    (other / "residual").rename(shared / "residual")
    with pytest.raises(PipelineError, match="residual has changed since it was written"):
        find_or_link(layout, "mrm", "a", "f", MAPS.shape)
