"""Any folder of scans: their names, what is none, and labels that nobody reads."""

import pytest

from pipeline.datasets import ListingError, list_cases
from pipeline.datasets.recognised import APPLIED_TO, fitting_adapter
from pipeline.errors import PipelineError
from pipeline.ingestion.listing import listed_cases
from pipeline.settings import Source


def names(root, adapter="images", **chosen):
    return [case.case for case in list_cases(adapter, root, **chosen)]


def test_a_scan_is_called_after_its_way_and_later_ones_rename_none(tmp_path, touch):
    root = tmp_path / "archive"
    touch("archive/a.nii.gz", "archive/site A/p1/t1.NRRD", "archive/p2/s1/1.dcm", "archive/x.mhd")
    touch("archive/x.raw", "archive/.hidden.nii", "archive/c.zarr/d.nii", "archive/p2/notes.txt")
    first = names(root)
    assert first == ["a", "p2-s1", "site_A-p1-t1", "x"]
    touch("archive/p2/s2/1.dcm", "archive/site A/p1/t2.nii", "archive/b.nii")
    assert set(first) < set(names(root))


def test_names_that_do_not_differ_are_told_and_the_others_listed(tmp_path, touch):
    touch("a/b.nii", "a-b.nii", "c.nii")
    with pytest.raises(ListingError) as raised:
        list_cases("images", tmp_path)
    assert "case a-b: the same case more than once" in str(raised.value)
    assert "c" in {case.case for case in raised.value.cases}


def test_labels_of_any_layout_are_left_aside(tmp_path, touch):
    touch("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz")
    touch("labelsTr/alone.nii.gz")
    (tmp_path / "dataset.json").write_text(
        '{"labels": {"background": 0, "lesion": 1, "ignore": 2}}'
    )
    cases = list_cases("auto", tmp_path, labels=False)
    assert [(case.case, case.label, case.role) for case in cases] == [
        ("a", None, "unlabelled"),
        ("b", None, "unlabelled"),
    ]


def test_dicom_is_listed_under_names_that_stay_where_a_model_is_applied(tmp_path):
    slice_ = tmp_path / "p1" / "s1" / "1.dcm"
    slice_.parent.mkdir(parents=True)
    slice_.write_bytes(bytes(128) + b"DICM")
    assert fitting_adapter(tmp_path) == "dicom"
    assert fitting_adapter(tmp_path, APPLIED_TO) == "images"
    assert names(tmp_path, "dicom") == ["p1"], "which a second series would rename"
    assert names(tmp_path) == ["p1-s1"]


def test_images_alone_teach_nothing(tmp_path, touch):
    touch("a.nii")
    with pytest.raises(PipelineError, match="fits no adapter"):
        fitting_adapter(tmp_path)


def test_a_scan_of_whose_name_nothing_remains_is_set_aside_under_its_file_s(tmp_path, touch):
    touch("心.nii", "a.nii")
    source = Source(adapter="images", root=str(tmp_path), labels=False, on_error="skip")
    cases, faults, _ = listed_cases(source, tmp_path, ())
    assert ([case.case for case in cases], list(faults)) == (["a"], ["心.nii"])
    touch("肺.nii")
    _, faults, _ = listed_cases(source, tmp_path, ())
    assert list(faults) == ["心.nii", "肺.nii"], "none of them is called '' and told as a third"


def test_links_to_folders_are_followed_but_not_in_circles(tmp_path, touch):
    touch("elsewhere/p1/t1.nii", "archive/p2/t1.nii")
    root = tmp_path / "archive"
    (root / "p1").symlink_to("../elsewhere/p1")
    (tmp_path / "elsewhere/p1/back").symlink_to(root / "p2")
    for link, to in {"self": ".", "up": "../..", "p2/other": "../p1"}.items():
        (root / link).symlink_to(to)
    assert names(root) == ["p1-back-t1", "p1-t1", "p2-other-t1", "p2-t1"]
