"""A foreign bundle is compared with its own settings before anything is inflated, built or run."""

import hashlib
import json
import os
import zipfile
from zipfile import ZIP_DEFLATED

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from pipeline.errors import PipelineError
from pipeline.prediction.bundle import open_bundle
from tests.pipeline.tools.bundles import altered, rezipped

MORE = 20 * 2**20
WEIGHTS, MAE = "network.safetensors", "mae-shared.safetensors"


def refusal(model, tmp_path):
    with pytest.raises(PipelineError) as raised:
        open_bundle(model, tmp_path / "tree")
    (line,) = str(raised.value).splitlines()
    assert not any(path.is_file() for path in (tmp_path / "tree").rglob("*"))
    return line


def resettled(*keys, value):
    """A change of one of the settings that a bundle brings along."""

    def change(folder):
        settings = json.loads((folder / "bundle.json").read_text("utf-8"))["settings"]
        inner = settings
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        altered(folder, settings=settings)

    return change


def reweighed(change, name=WEIGHTS):
    """A change of the weights, which the digests do not tell."""

    def write(folder):
        weights = load_file(folder / name)
        first = min(weights)
        change(weights, first)
        save_file(weights, folder / name)

    return write


def reheaded(change, name=WEIGHTS):
    """A change of the header of the weights, with digests that agree."""

    def write(folder):
        content = (folder / name).read_bytes()
        end = 8 + int.from_bytes(content[:8], "little")
        header = json.dumps(change(json.loads(content[8:end]))).encode()
        content = len(header).to_bytes(8, "little") + header + content[end:]
        (folder / name).write_bytes(content)
        files = json.loads((folder / "bundle.json").read_text("utf-8"))["files"]
        altered(folder, files={**files, name: hashlib.sha256(content).hexdigest()})

    return write


def misplaced(header):
    for weight in header.values():
        if "data_offsets" in weight:
            weight["data_offsets"] = [10**18, 10**18 + 1]
    return header


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (resettled("experiments", "grcsf", "width", value=100_000), "less than or equal to 1024"),
        (resettled("experiments", "grcsf", "width", value=8), "parameters, its settings make"),
        (resettled("mae", "shared", "image_size", value=10**9), "less than or equal to 4096"),
        (resettled("mae", "shared", "image_size", value=4096), "patches of a slice, expected"),
        (resettled("mae", "shared", "image_size", value=64), f"{MAE} has F32 of shape"),
        (resettled("slices", "size", value=[10**6, 10**6]), "less than or equal to 4096"),
        (resettled("split", "subsets", value=10**9), "less than or equal to 1000"),
        (resettled("residuals", "mrm", "maps", 0, "passes", value=10**9), "or equal to 256"),
        (lambda folder: altered(folder, parameters=1), "found 1 parameters"),
        (lambda folder: altered(folder, subset=2), "subset: found 2"),
        (lambda folder: altered(folder, dataset="a" * 5000), "at most 200 characters"),
        (lambda folder: (folder / "bundle.json").write_text("[" * 10**5), "no readable bundle"),
        (lambda folder: (folder / "bundle.json").write_text("9" * 6000), "no readable bundle"),
        (reweighed(lambda w, key: w.update({key: w[key].astype(np.float16)})), "has F16 of shape"),
        (reweighed(lambda w, key: w.update({key: w[key][:1]})), "has F32 of shape"),
        (reweighed(lambda w, key: w.pop(key)), "has nothing as"),
        (reweighed(lambda w, _: w.update(more=np.zeros(1))), "has F64 of shape"),
        (lambda folder: (folder / WEIGHTS).write_bytes(b"\xff" * 99), f"{WEIGHTS} is damaged"),
        (reheaded(lambda _: None), "its header is no mapping"),
        (lambda folder: altered(folder, seed=1.5), "Input should be a valid integer)"),
        (lambda folder: altered(folder, experiment="other"), "it has no 'other'"),
    ],
)
def test_settings_and_weights_must_be_of_each_other(unpacked, tmp_path, damage, said):
    assert said in refusal(rezipped(unpacked, tmp_path / "run", damage), tmp_path)


def test_weights_at_impossible_places_are_the_bundles_fault(unpacked, tmp_path):
    model = rezipped(unpacked, tmp_path / "run", reheaded(misplaced))
    with pytest.raises(PipelineError, match=f"^bundle .*zip: {WEIGHTS} is damaged .Error while"):
        open_bundle(model, tmp_path / "tree")


def test_a_file_of_weights_is_not_inflated_beyond_what_its_settings_need(unpacked, tmp_path):
    def inflated(folder):
        with (folder / WEIGHTS).open("ab") as file:
            file.truncate(file.tell() + MORE)

    model = rezipped(unpacked, tmp_path / "run", inflated, ZIP_DEFLATED)
    assert "bytes, expected" in refusal(model, tmp_path)
    # a zip may also claim less than it holds
    data = model.read_bytes()
    with zipfile.ZipFile(model) as archive:
        whole = archive.getinfo(WEIGHTS).file_size
    claimed = (whole - MORE).to_bytes(4, "little")
    model.write_bytes(data.replace(whole.to_bytes(4, "little"), claimed))
    with pytest.raises(PipelineError, match=f"{WEIGHTS} is damaged"):
        open_bundle(model, tmp_path / "tree")
    assert sum(path.stat().st_size for path in (tmp_path / "tree").rglob("*")) < MORE


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "compression", "said"),
    [
        (["../../escaped"], ZIP_DEFLATED, "leads out of it"),
        (["/escaped"], ZIP_DEFLATED, "leads out of it"),
        ([WEIGHTS], ZIP_DEFLATED, "twice"),
        (["a.txt"], zipfile.ZIP_BZIP2, "compressed in a way"),
    ],
)
def test_names_in_a_zip_are_plain_and_each_once(unpacked, tmp_path, names, compression, said):
    model = rezipped(unpacked, tmp_path / "run")
    with zipfile.ZipFile(model, "a") as archive:
        for name in names:
            archive.writestr(name, "x", compression)
    assert said in refusal(model, tmp_path)


def put_link(path):
    path.symlink_to("/dev/zero")


def put_circle(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("put", "said"),
    [(os.mkfifo, "found a pipe"), (put_link, "found a device"), (put_circle, "symbolic links")],
)
def test_only_a_regular_file_is_opened(tmp_path, put, said):
    put(tmp_path / "run.zip")
    assert said in refusal(tmp_path / "run.zip", tmp_path)
