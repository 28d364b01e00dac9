"""nnU-Net raw data sets with one channel."""

import pytest

from pipeline.datasets import list_cases
from pipeline.errors import PipelineError


@pytest.fixture
def build(tmp_path, touch):
    """build(*names): a data set of these empty files and its description."""

    def write(*names, json='{"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}'):
        (tmp_path / "dataset.json").write_text(json)
        touch(*names)

    return write


def test_pairs(tmp_path, build):
    build(
        "imagesTr/la_003_0000.nii.gz",
        "labelsTr/la_003.nii.gz",
        "imagesTr/._la_003_0000.nii.gz",
        "imagesTs/la_007_0000.nii.gz",
        "imagesTs/la_008_0000.nii.gz",
        "labelsTs/la_008.nii.gz",
    )
    cases = list_cases("nnunet", tmp_path)
    assert [(files.case, files.role, files.label is None) for files in cases] == [
        ("la_003", "", False),
        ("la_007", "unlabelled", True),
        ("la_008", "test", False),
    ]
    assert {files.modality for files in cases} == {"CT"}


def test_other_file_ending(tmp_path, build):
    json = '{"channel_names": {"0": "T1"}, "file_ending": ".nrrd"}'
    build("imagesTr/a_0000.nrrd", "labelsTr/a.nrrd", json=json)
    (case,) = list_cases("nnunet", tmp_path)
    assert (case.case, case.modality) == ("a", "MR")


def test_several_channels_are_refused(tmp_path, build):
    build("imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(PipelineError, match=r"case a: .*channel 0001"):
        list_cases("nnunet", tmp_path)


def test_names_without_channel_are_refused(tmp_path, build):
    build("imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(PipelineError, match=r"expected a name like NAME_0000\.nii\.gz"):
        list_cases("nnunet", tmp_path)


def test_unpaired_files_are_refused(tmp_path, build):
    build("imagesTr/a_0000.nii.gz")
    with pytest.raises(PipelineError, match=r"case a: .*labelsTr/a\.nii\.gz: not there"):
        list_cases("nnunet", tmp_path)
    build("labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    with pytest.raises(PipelineError, match=r"labelsTr/b\.nii\.gz: label without image"):
        list_cases("nnunet", tmp_path)


def test_missing_description(tmp_path):
    with pytest.raises(PipelineError, match=r"dataset\.json: not there"):
        list_cases("nnunet", tmp_path)
