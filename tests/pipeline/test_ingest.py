"""From files to case stores: what the settings of `source` choose of an image and its label."""

import errno
import os

import nibabel
import numpy as np
import pytest

from pipeline.datasets import list_cases, loading
from pipeline.errors import PipelineError
from pipeline.ingest import ingest, read_case
from pipeline.settings import Slices, Source
from pipeline.storage.files import read_json
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.source_notes import source_changes
from pipeline.storage.zarr_store import open_store, read_array

SHAPE = (4, 12, 10)  # z, y, x


@pytest.fixture
def folder(tmp_path):
    """A CSV of one case: an image of two volumes, and a label with the values 1, 2 and 3."""
    random = np.random.default_rng(0)
    image = random.normal(100, 5, (2, *SHAPE)).astype(np.float32)  # t, z, y, x
    label = np.zeros(SHAPE, np.uint8)
    label[1, 2:5, 2:5], label[2, 2:5, 2:5], label[3, 2:5, 2:5] = 1, 2, 3
    root = tmp_path / "scans"
    root.mkdir()
    nibabel.save(nibabel.Nifti1Image(image.T, np.eye(4)), root / "a.nii.gz")
    nibabel.save(nibabel.Nifti1Image(label.T, np.eye(4)), root / "a-mask.nii.gz")
    (root / "manifest.csv").write_text("case,image,label\na,a.nii.gz,a-mask.nii.gz\n", "utf-8")
    return root, image, label


def ingested(root, **chosen) -> Layout:
    layout = Layout(root.parent / "results", "scans")
    source = Source(adapter="manifest", root=str(root), modality="MR", **chosen)
    ingest(layout, source, root, [], threads=1)
    return layout


def test_a_volume_and_the_lesion_s_values_are_chosen(folder):
    root, image, label = folder
    ingested(root, channel=0, foreground=(3,))  # another choice makes the store anew
    layout = ingested(root, channel=1, foreground=(1, 2))
    store = open_store(layout.case_store("a"))
    np.testing.assert_array_equal(read_array(store, "image"), image[1])
    np.testing.assert_array_equal(read_array(store, "label"), np.where(label == 3, 0, label))
    assert store.attrs["slices_with_lesion"] == [1, 2]
    # a note does not name its case, so that the report can list all cases of a note together
    notes = ["label values 3 taken as background, as source.foreground says"]
    entry = read_json(layout.cases)["cases"]["a"]
    assert entry["notes"] == notes
    for attributes in (entry, store.attrs):
        ends = intensity_range(attributes, Slices(percentiles=(0.5, 99.9)))
        assert ends == (store.attrs["quantiles"][2], store.attrs["quantiles"][11])


def test_without_a_choice_a_4d_image_is_refused_in_one_line(folder):
    line = r"^1 of 1 cases cannot be used\ncase a:.*4D image of 2 volumes.*source\.channel.*$"
    with pytest.raises(PipelineError, match=line):
        ingested(folder[0])


@pytest.mark.parametrize("name", ["a.nii.gz", "a-mask.nii.gz", "manifest.csv"])
def test_an_older_file_in_the_place_of_an_image_or_a_list_is_noticed(folder, name):
    layout, path = ingested(folder[0], channel=1), folder[0] / name
    assert source_changes(layout.sources("ingest")).replaced == []
    path.write_bytes(path.read_bytes() + b"corrected")
    os.utime(path, (1_500_000_000, 1_500_000_000))
    assert source_changes(layout.sources("ingest")).replaced == [path]


def test_faulty_cases_are_refused_together_or_set_aside_with_their_reasons(folder):
    root, image, _ = folder
    nibabel.save(nibabel.Nifti1Image(image[0].T, np.eye(4)), root / "good.nii.gz")
    cut = root / "cut.nii.gz"
    cut.write_bytes((root / "good.nii.gz").read_bytes()[:900])
    lines = ["case,image,label", "good,good.nii.gz,a-mask.nii.gz", "cut,cut.nii.gz,a-mask.nii.gz"]
    lines += ["twice,good.nii.gz,", "twice,a.nii.gz,", "gone,gone.nii.gz,"]
    (root / "manifest.csv").write_text("\n".join(lines), "utf-8")
    with pytest.raises(PipelineError) as raised:
        ingested(root)
    first, *lines = str(raised.value).splitlines()
    assert first == "3 of 4 cases cannot be used"
    assert [line.partition(":")[0] for line in lines] == ["case cut", "case gone", "case twice"]
    layout = ingested(root, on_error="skip")
    manifest = read_json(layout.cases)
    assert list(manifest["cases"]) == ["good"]
    reasons = {name: " ".join(lines) for name, lines in manifest["set_aside"].items()}
    said = {"cut": "cut.nii.gz", "gone": "gone.nii.gz not there", "twice": "more than once"}
    assert sorted(reasons) == sorted(said)
    assert all(words in reasons[name] for name, words in said.items())
    # a corrected image of such a case is noticed
    cut.write_bytes((root / "good.nii.gz").read_bytes())
    os.utime(cut, (1_500_000_000, 1_500_000_000))
    assert source_changes(layout.sources("ingest")).replaced == [cut]
    (root / "manifest.csv").write_text("case,image,label\na,a.nii.gz,gone.nii.gz\n", "utf-8")
    with pytest.raises(PipelineError, match=r"gone\.nii\.gz not there"):
        ingested(root, on_error="skip")  # no good case is left


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, ["label values 1, 2, 3, all taken as lesion"]),
        ({"foreground": (1, 2, 3)}, []),
        ({"binarise": True}, []),
    ],
)
def test_several_label_values_are_noted_unless_they_are_chosen(folder, chosen, expected):
    root, _, _ = folder
    source = Source(adapter="manifest", root=str(root), modality="MR", channel=0, **chosen)
    (files,) = list_cases("manifest", root)
    notes = [note for note in read_case(files, source).notes if note.severity == "note"]
    assert [note.found for note in notes] == expected
    assert {note.file for note in notes} <= {str(root / "a-mask.nii.gz")}


def test_whatever_a_library_raises_about_one_case_leaves_the_others(folder, monkeypatch):
    root, image, _ = folder
    nibabel.save(nibabel.Nifti1Image(image[0].T, np.eye(4)), root / "good.nii.gz")
    lines = ["case,image,label", "good,good.nii.gz,a-mask.nii.gz", "odd,a.nii.gz,a-mask.nii.gz"]
    (root / "manifest.csv").write_text("\n".join(lines), "utf-8")
    read = loading.read_volume

    def reading(path, *others):
        return {}["spacing"] if path.name == "a.nii.gz" else read(path, *others)

    monkeypatch.setattr(loading, "read_volume", reading)
    manifest = read_json(ingested(root, on_error="skip").cases)
    assert list(manifest["cases"]) == ["good"]
    (line,) = manifest["set_aside"]["odd"]
    said = f"case odd: {root / 'a.nii.gz'}: cannot be used (KeyError: 'spacing', test_ingest.py"
    assert line.startswith(said)
    assert line.endswith("if it is sound, this is a fault of the program")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.ingest.write_store", full)
    (root.parent / "results" / "scans" / "ingest" / "good.zarr" / "zarr.json").unlink()
    with pytest.raises(OSError, match="No space left"):  # every case would fail
        ingested(root, on_error="skip")
