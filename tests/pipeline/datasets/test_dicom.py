"""Folders of DICOM slices."""

import pytest
from pydicom import uid
from pydicom.dataset import Dataset

from pipeline.datasets import list_cases
from pipeline.datasets.left_out import left_out
from pipeline.settings import Source
from tests.pipeline.dicom_files import dataset, random_values, save, write_frames, write_slices


def test_one_folder_a_case_or_the_root_itself(tmp_path, touch):
    touch("p2/1.dcm", "p2/2.dcm", "p1/IM0001.ima", "DICOMDIR", "readme.txt")
    cases = list_cases("dicom", tmp_path)
    assert [(files.case, files.image) for files in cases] == [
        ("p1", tmp_path / "p1"),
        ("p2", tmp_path / "p2"),
    ]
    assert all(files.label is None and files.role == "unlabelled" for files in cases)
    assert [files.case for files in list_cases("dicom", tmp_path / "p1")] == ["p1"]


@pytest.mark.parametrize("name", ["CT.1.2.840.{}", "1.2.840.113619.{}", "IM{}", "{}.txt", "{}.dcm"])
def test_slices_are_known_by_content_whatever_their_names(tmp_path, name):
    write_slices(tmp_path / "p1", random_values()[:2], name=name)
    write_slices(tmp_path / "p2", random_values()[:2])
    assert [files.case for files in list_cases("dicom", tmp_path)] == ["p1", "p2"]


def test_folders_without_slices_are_no_cases_and_told(tmp_path):
    stored = random_values()[:2]
    write_slices(tmp_path / "p1" / "scan", stored)
    write_slices(tmp_path / "p1" / "survey", stored, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save(dataset(uid.XRayRadiationDoseSRStorage), tmp_path / "p1" / "dose" / "1.dcm")
    save(dataset(uid.MediaStorageDirectoryStorage), tmp_path / "DICOMDIR")
    (case,) = list_cases("dicom", tmp_path)
    assert (case.case, case.image) == ("p1", tmp_path / "p1" / "scan")
    source = Source(adapter="dicom", root=str(tmp_path))
    (told,) = left_out(source, tmp_path, [case])
    assert told.severity == "note"
    assert "no slice of a scan: DICOMDIR, p1/dose/1.dcm, p1/survey/000.dcm and 1 more" in told.found


def test_a_survey_is_left_out_where_its_patient_has_a_scan(tmp_path):
    """Lone pictures and slices of several directions, without a word in their headers."""
    stored = random_values()[:3]
    planes = [(1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)]

    def turned(made, index):
        made.ImageOrientationPatient = list(planes[index])

    def with_colour_icon(made, _):
        icon = Dataset()
        icon.SamplesPerPixel = 3
        made.IconImageSequence = [icon]

    write_slices(tmp_path / "p1" / "scan", stored, edit=with_colour_icon)
    write_slices(tmp_path / "p1" / "lone", stored[:1], orientation=planes[1])
    write_slices(tmp_path / "p1" / "planes", stored, edit=turned)
    # a scan and such a survey in one folder, a few slices, frames in one file
    write_slices(tmp_path / "p2" / "both", stored)
    write_slices(tmp_path / "p2" / "both", stored, edit=turned, name="s{}")
    write_slices(tmp_path / "p2" / "few", stored)
    write_frames(tmp_path / "p2" / "frames" / "i", stored)
    write_slices(tmp_path / "p3" / "lone", stored[:1])  # read, and refused there
    cases = list_cases("dicom", tmp_path)
    assert [case.case for case in cases] == ["p1", "p2-both", "p2-few", "p2-frames", "p3"]
    (told,) = left_out(Source(adapter="dicom", root=str(tmp_path)), tmp_path, cases)
    assert "p1/lone/000.dcm, p1/planes/000.dcm, p1/planes/001.dcm and 1 more" in told.found


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
