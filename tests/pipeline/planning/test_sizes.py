"""Sizes of cases that nobody has read: from headers, or assumed."""

import sys
from pathlib import Path

import numpy as np
import SimpleITK

from pipeline.datasets import CaseFiles
from pipeline.planning.sizes import ASSUMED, HEART, case_sizes
from pipeline.settings import Slices
from pipeline.storage.images.geometry import Geometry
from pipeline.storage.images.volumes import write_volume
from tests.pipeline.dicom_files import random_values, write_frames

SLICES = Slices(size=(32, 32), percentiles=(0, 100))


def test_sizes_are_the_headers_or_the_middle_one_of_those_that_can_be_read(tmp_path):
    files = []
    for index, (depth, suffix) in enumerate([(4, "nii.gz"), (6, "mha"), (9, "nrrd")]):
        path = tmp_path / f"{index}.{suffix}"
        shape = (depth, 8, 5)
        write_volume(path, np.ones(shape, np.uint8), Geometry(shape, (1.0, 1.0, 1.0)))
        files.append(CaseFiles(str(index), path, None))
    (tmp_path / "empty.nii.gz").touch()
    files.append(CaseFiles("3", tmp_path / "empty.nii.gz", None))
    found = case_sizes(files, "atlas", SLICES)
    assert [one.shape for one in found] == [(4, 8, 5), (6, 8, 5), (9, 8, 5), (6, 8, 5)]
    assert [one.known for one in found] == [True, True, True, False]
    (alone,) = case_sizes(files[3:], "atlas", SLICES)
    assert alone.shape == ASSUMED["atlas"]


def series(folder: Path, slices: int) -> CaseFiles:
    """A DICOM series of 12 rows and 20 columns, with a file beside it that is no slice."""
    folder.mkdir()
    (folder / "DICOMDIR").touch()
    writer = SimpleITK.ImageFileWriter()
    for number in range(slices):
        image = SimpleITK.GetImageFromArray(np.zeros((1, 12, 20), np.int16))
        writer.SetFileName(str(folder / f"{number}.dcm"))
        writer.Execute(image)
    return CaseFiles(folder.name, folder, None)


def test_a_dicom_series_has_its_files_as_slices_and_one_header_tells_their_size(tmp_path):
    files = [series(tmp_path / "a", 3), series(tmp_path / "b", 1)]
    write_frames(tmp_path / "c" / "1.2.3", random_values((7, 12, 20)))
    files.append(CaseFiles("c", tmp_path / "c", None))
    files.append(CaseFiles("d", tmp_path / "c" / "1.2.3", None))
    found = case_sizes(files, "dicom", SLICES)
    assert [one.shape for one in found] == [(3, 12, 20), (1, 12, 20), (7, 12, 20), (7, 12, 20)]
    assert all(one.known for one in found)


def test_the_size_of_a_dicom_series_without_header_is_assumed_and_told(
    tmp_path, capfd, monkeypatch
):
    for number in range(3):
        (tmp_path / f"{number}.dcm").touch()
    (tmp_path / "empty").mkdir()
    files = [CaseFiles("a", tmp_path, None), CaseFiles("b", tmp_path / "empty", None)]
    found = case_sizes(files, "dicom", SLICES)
    assert [(one.shape, one.known) for one in found] == [(HEART, False)] * 2
    assert capfd.readouterr().err == ""
    files = [series(tmp_path / "a", 3)]
    monkeypatch.setitem(sys.modules, "pydicom", None)  # nothing reads a header then
    (found,) = case_sizes(files, "dicom", SLICES)
    assert (found.shape, found.known) == (HEART, False)
