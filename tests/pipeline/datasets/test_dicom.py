"""Folders of DICOM slices."""

from pipeline.datasets import list_cases


def test_one_folder_a_case_or_the_root_itself(tmp_path, touch):
    touch("p2/1.dcm", "p2/2.dcm", "p1/IM0001", "DICOMDIR", "readme.txt")
    cases = list_cases("dicom", tmp_path)
    assert [(files.case, files.image) for files in cases] == [
        ("p1", tmp_path / "p1"),
        ("p2", tmp_path / "p2"),
    ]
    assert all(files.label is None and files.role == "unlabelled" for files in cases)
    assert [files.case for files in list_cases("dicom", tmp_path / "p1")] == ["p1"]


def test_nested_series(tmp_path, touch):
    touch("p1/study/series/1.dcm", "p2/study/s1/1.dcm", "p2/study/s2/1.dcm")
    cases = list_cases("dicom", tmp_path)
    assert [files.case for files in cases] == ["p1", "p2-study-s1", "p2-study-s2"]
    assert cases[0].image == tmp_path / "p1" / "study" / "series"


def test_names_become_fit_for_files_and_clashes_are_refused(tmp_path, touch, refused):
    touch("Doe^John 1/1.dcm")
    assert [files.case for files in list_cases("dicom", tmp_path)] == ["Doe_John_1"]
    touch("Doe John 1/1.dcm")
    refused("dicom", r"Doe_John_1: .* and ")


def test_a_csv_brings_labels(tmp_path, touch):
    touch("p1/1.dcm", "p2/1.dcm", "p1.nii.gz")
    (tmp_path / "manifest.csv").write_text("case,image,label\nc1,p1,p1.nii.gz\n")
    (case,) = list_cases("dicom", tmp_path)
    expected = ("c1", tmp_path / "p1", tmp_path / "p1.nii.gz")
    assert (case.case, case.image, case.label) == expected
