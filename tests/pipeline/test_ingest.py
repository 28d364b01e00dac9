"""From files to case stores: what the settings of `source` choose of an image and its label."""

import errno
import os

import nibabel
import numpy as np
import pytest

from pipeline.datasets import list_cases, loading
from pipeline.datasets.configured import planned_cases
from pipeline.errors import PipelineError
from pipeline.ingest import ingest
from pipeline.ingestion.case_stores import case_key, read_case
from pipeline.settings import Settings, Slices, Source
from pipeline.storage.files import read_json, write_json
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.source_grid import to_source_grid, working_grid
from pipeline.storage.images.volumes import read_geometry, write_volume
from pipeline.storage.intensity import intensity_range
from pipeline.storage.layout import Layout
from pipeline.storage.masks import source_geometry, store_geometry
from pipeline.storage.source_notes import source_changes
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.dicom_files import random_values, write_slices
from tests.pipeline.results import UNET
from tests.pipeline.storage.images.formats.written import meta_image, nrrd
from tests.pipeline.storage.images.grids import tilted

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


def ingested(root, plane="as_stored", **chosen) -> Layout:
    layout = Layout(root.parent / "results", "scans")
    source = Source(adapter="manifest", root=str(root), modality="MR", **chosen)
    ingest(layout, source, root, [], 1, plane)
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


@pytest.mark.parametrize("name", ["a.mhd", "a.mha", "a.nrrd"])
def test_replaced_data_beside_a_header_are_noticed(folder, name):
    root, image, _ = folder
    data, path = root / "a.raw", root / name
    if name == "a.nrrd":
        nrrd(path, b"", {"sizes": "10 12 4", "type": "float", "data file": "a.raw"})
    else:
        meta_image(path, b"", "a.raw", DimSize="10 12 4", ElementType="MET_FLOAT")
    data.write_bytes(image[0].tobytes())
    (root / "manifest.csv").write_text(f"case,image,label\na,{name},\n", "utf-8")
    layout = ingested(root)
    data.write_bytes(image[1].tobytes())
    assert source_changes(layout.sources("ingest")).replaced == [data]
    np.testing.assert_array_equal(read_array(open_store(layout.case_store("a")), "image"), image[0])
    ingested(root)
    np.testing.assert_array_equal(read_array(open_store(layout.case_store("a")), "image"), image[1])


@pytest.mark.parametrize("name", ["a.nii.gz", "a-mask.nii.gz"])
def test_a_pipe_as_an_image_is_one_line(folder, name):
    (folder[0] / name).unlink()
    os.mkfifo(folder[0] / name)
    with pytest.raises(PipelineError, match=rf"case a: .*{name} is no regular file"):
        ingested(folder[0], channel=1)


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


def test_an_ignored_region_becomes_no_lesion(folder):
    root, _, label = folder
    for part, kept in (("images", "a.nii.gz"), ("labels", "a-mask.nii.gz")):
        (root / f"{part}Tr").mkdir()
        (root / kept).rename(root / f"{part}Tr" / f"a{'_0000' * (part == 'images')}.nii.gz")
    description = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "x": 1, "ignore": 3}}
    write_json(root / "dataset.json", description)
    layout = Layout(root.parent / "results", "scans")
    for given in ({}, {"foreground": (1, 3)}):
        source = Source(adapter="nnunet", root=str(root), channel=1, on_error="skip", **given)
        config = {"source": source, "slices": {"window": (0, 1)}, "experiments": {"u": UNET}}
        settings = Settings.model_validate({"datasets": {"scans": config}})
        for refused in (
            lambda source=source: ingest(layout, source, root, [], threads=1),
            lambda settings=settings: planned_cases(settings, "scans"),
        ):
            with pytest.raises(PipelineError, match="value 3 is 'ignore' and would become lesion"):
                refused()
    chosen = source.model_copy(update={"foreground": (1, 2)})
    ingest(layout, chosen, root, [], threads=1)
    stored = read_array(open_store(layout.case_store("a")), "label")
    np.testing.assert_array_equal(stored, np.where(label == 3, 0, label))


def test_a_chosen_dicom_series_is_stored_and_what_was_left_out_is_noted(tmp_path):
    root, stored = tmp_path / "scans", random_values()
    for index, name in enumerate(("thin", "thick")):
        part = stored[: 6 - index]
        write_slices(root / "p1", part, name=name + "{}", SeriesDescription=name)
    source = Source(adapter="dicom", root=str(root), modality="MR")
    layout = Layout(tmp_path / "results", "scans")
    with pytest.raises(PipelineError, match=r"case p1: .*'thick' \(5.*'thin' \(6.*source\.series"):
        ingest(layout, source, root, [], threads=1)
    thick = source.model_copy(update={"series": "thick"})
    ingest(layout, thick, root, [], threads=1)
    entry = read_json(layout.cases)["cases"]["p1"]
    assert entry["shape"] == [5, 8, 9]
    assert entry["notes"][0].startswith("left out, series 'thin' (6 slices")
    (files,) = list_cases("dicom", root)
    assert case_key(files, source) != case_key(files, thick), "another series is another image"


SAGITTAL = Geometry(SHAPE, (5.0, 1.0, 0.5), (9, 2, 1), (0, -1, 0, 0, 0, 1, 1, 0, 0))
UPRIGHT = Geometry(SHAPE, (5.0, 1.0, 0.5), (9, 2, 1))


@pytest.mark.parametrize(
    ("grid", "chosen", "made"),
    [
        # which of: as before, with the setting, with it again, as before again; makes a store
        (UPRIGHT, {"plane": "axial"}, [True, False, False, False]),
        (UPRIGHT, {"tilted": "resample"}, [True, False, False, False]),
        (SAGITTAL, {"plane": "axial"}, [True, True, False, True]),
        (tilted(20, SHAPE), {"tilted": "resample"}, [None, True, False, None]),
    ],
)
def test_a_setting_of_the_grid_makes_the_stores_anew_whose_grid_it_changes(
    tmp_path, caplog, grid, chosen, made
):
    root = tmp_path / "scans"
    root.mkdir()
    image = np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)
    label = np.zeros(SHAPE, np.uint8)
    label[1, 2:5, 2:5] = 1
    write_volume(root / "a.mha", image, grid)
    write_volume(root / "a-mask.mha", label, grid)
    (root / "manifest.csv").write_text("case,image,label\na,a.mha,a-mask.mha\n", "utf-8")
    caplog.set_level("INFO")
    keys = set()
    for settings, makes in zip(({}, chosen, chosen, {}), made, strict=True):
        caplog.clear()
        if makes is None:
            with pytest.raises(PipelineError, match=r"a\.mha: tilted slices"):
                ingested(root, **settings)
            continue
        layout = ingested(root, **settings)
        assert ("stored a" in caplog.messages) == makes
        store = open_store(layout.case_store("a"))
        keys.add(store.attrs["fingerprint"])
        source, working = source_geometry(store), store_geometry(store)
        assert source == read_geometry(root / "a.mha", tilted=True)
        assert working == working_grid(source, settings.get("plane", "as_stored"))
        stored = read_array(store, "label")
        np.testing.assert_array_equal(to_source_grid(stored, source, working), label)
        lesion = np.flatnonzero(stored.any(axis=(1, 2))).tolist()
        assert store.attrs["slices_with_lesion"] == lesion
    assert len(keys) == 1 + (made[3] is True)


def test_whatever_a_library_raises_about_one_case_leaves_the_others(folder, monkeypatch):
    root, image, _ = folder
    nibabel.save(nibabel.Nifti1Image(image[0].T, np.eye(4)), root / "good.nii.gz")
    lines = ["case,image,label", "good,good.nii.gz,a-mask.nii.gz", "odd,a.nii.gz,a-mask.nii.gz"]
    (root / "manifest.csv").write_text("\n".join(lines), "utf-8")
    read = loading.read_volume

    def reading(path, *others, **chosen):
        return {}["spacing"] if path.name == "a.nii.gz" else read(path, *others, **chosen)

    monkeypatch.setattr(loading, "read_volume", reading)
    manifest = read_json(ingested(root, on_error="skip").cases)
    assert list(manifest["cases"]) == ["good"]
    (line,) = manifest["set_aside"]["odd"]
    said = f"case odd: {root / 'a.nii.gz'}: cannot be used (KeyError: 'spacing', test_ingest.py"
    assert line.startswith(said)
    assert line.endswith("if it is sound, this is a fault of the program")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pipeline.ingestion.case_stores.write_store", full)
    (root.parent / "results" / "scans" / "ingest" / "good.zarr" / "zarr.json").unlink()
    with pytest.raises(OSError, match="No space left"):  # every case would fail
        ingested(root, on_error="skip")
