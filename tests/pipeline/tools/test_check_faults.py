"""`grcsf check`: every fault of every case, told in one run."""

import gzip
import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from pipeline.errors import SEVERITIES
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.tools.check.page import write_page
from tests.pipeline.tools.checks import GRID, SHAPE, SOURCE, checked, told


def spoil_spacing(path, step):
    """Write another pixdim[1] (mm along x) into a compressed NIfTI file."""
    content = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(content[:80] + struct.pack("<f", step) + content[84:]))


@pytest.fixture
def broken(tmp_path):
    """A CSV of good and of variously broken cases, of which each has the fault of its name."""
    good, random = tmp_path / "set", np.random.default_rng(1)
    good.mkdir()
    label = np.zeros(SHAPE, np.uint8)
    label[2:4, 5:9, 5:10] = 1
    rows = ["case,image,label,group,role"]

    def add(case, *, label=label, grid=GRID, change=None):
        image = random.integers(-900, 300, SHAPE).astype(np.float32)
        if change is not None:
            change(image)
        write_volume(good / f"{case}.nii.gz", image, GRID)
        write_volume(good / f"{case}_mask.nii.gz", label, replace(grid, shape=label.shape))
        rows.append(f"{case},{case}.nii.gz,{case}_mask.nii.gz,,")

    add("good")
    add("nan", change=lambda image: image.put(0, np.nan))
    add("zero")
    spoil_spacing(good / "zero.nii.gz", 0.0)
    add("shifted", grid=replace(GRID, origin=(9.0, 0.0, 0.0)))
    add("resized", grid=replace(GRID, spacing=(3.0, 0.5, 0.6)))
    add("cropped", label=label[1:])
    add("flat")
    spoil_spacing(good / "flat_mask.nii.gz", 0.0)
    add("half")
    content = (good / "half.nii.gz").read_bytes()
    (good / "half.nii.gz").write_bytes(content[: len(content) // 2])
    add("values", label=label.astype(np.float32) * 0.4)
    add("below", label=label.astype(np.int16) * -1)
    add("twice")
    rows += ["twice,good.nii.gz,good_mask.nii.gz,,", "gone,gone.nii.gz,,,"]
    rows.append("bare,good.nii.gz,,,train")
    (good / "manifest.csv").write_text("\n".join(rows), "utf-8")
    return good


FAULTS = {
    "nan": "1 voxels with NaN or infinity",
    "zero": "spacing (3, 0.5, 0) mm (z, y, x)",
    "shifted": "label origin (9, 0, 0) mm",
    "resized": "label spacing (3, 0.5, 0.6) mm",
    "flat": "spacing (3, 0.5, 0) mm (z, y, x)",
    "cropped": "label shape (7, 24, 20)",
    "half": "truncated",
    "values": "labels that are no whole numbers",
    "below": "label -1",
    "twice": "the same case more than once",
    "gone": "gone.nii.gz not there",
    "bare": "role train without label",
}


def test_every_fault_of_every_case_is_told_in_one_run_as_records_of_one_form(tmp_path, broken):
    found = checked(tmp_path, broken, source={**SOURCE, "adapter": "manifest"})
    errors = told(found, "error")
    assert set(errors) == set(FAULTS)
    assert found.errors == len(FAULTS)
    for case, words in FAULTS.items():
        assert words in errors[case][0]
    assert [one.case for one in found.usable] == ["good"]
    assert found.disk["case stores"] > 0
    layout = Layout(tmp_path / "results", "ct")
    write_page(layout, found)
    page = layout.check(".html").read_text("utf-8")
    assert "http" not in page
    for words in FAULTS.values():
        assert words in page
    written = json.loads(layout.check(".json").read_text("utf-8"))
    assert written["counts"] == found.counts
    assert sum(written["counts"].values()) == len(written["findings"])
    order = [SEVERITIES.index(one["severity"]) for one in written["findings"]]
    assert order == sorted(order)
    keys = {"severity", "case", "file", "found", "expected", "remedy", "text"}
    for one in written["findings"]:
        assert {key: type(value) for key, value in one.items()} == dict.fromkeys(keys, str)
        assert "\n" not in one["text"]
        assert one["found"]
        assert one["found"] in one["text"]
        if one["severity"] != "note":
            assert one["remedy"], f"{one['text']}: nothing to be done is no warning"
