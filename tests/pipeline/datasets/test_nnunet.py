"""nnU-Net raw data sets with one channel."""

import pytest

from pipeline.datasets import list_cases
from pipeline.errors import PipelineError


def touch(root, *names, json='{"channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}'):
    (root / "dataset.json").write_text(json)
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_pairs(tmp_path):
    touch(
        tmp_path,
        "imagesTr/la_003_0000.nii.gz",
        "labelsTr/la_003.nii.gz",
        "imagesTr/._la_003_0000.nii.gz",
        "imagesTs/la_007_0000.nii.gz",
        "imagesTs/la_008_0000.nii.gz",
        "labelsTs/la_008.nii.gz",
    )
    cases = list_cases("nnunet", tmp_path)
    assert [(one.case, one.role, one.label is None) for one in cases] == [
        ("la_003", "", False),
        ("la_007", "unlabelled", True),
        ("la_008", "test", False),
    ]
    assert {one.modality for one in cases} == {"CT"}


def test_other_file_ending(tmp_path):
    json = '{"channel_names": {"0": "T1"}, "file_ending": ".nrrd"}'
    touch(tmp_path, "imagesTr/a_0000.nrrd", "labelsTr/a.nrrd", json=json)
    (case,) = list_cases("nnunet", tmp_path)
    assert (case.case, case.modality) == ("a", "MR")


def test_several_channels_are_refused(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz", "imagesTr/a_0001.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(PipelineError, match=r"case a: .*channel 0001"):
        list_cases("nnunet", tmp_path)


def test_names_without_channel_are_refused(tmp_path):
    touch(tmp_path, "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    with pytest.raises(PipelineError, match=r"expected a name like NAME_0000\.nii\.gz"):
        list_cases("nnunet", tmp_path)


def test_unpaired_files_are_refused(tmp_path):
    touch(tmp_path, "imagesTr/a_0000.nii.gz")
    with pytest.raises(PipelineError, match=r"case a: .*labelsTr/a\.nii\.gz: not there"):
        list_cases("nnunet", tmp_path)
    touch(tmp_path, "labelsTr/a.nii.gz", "labelsTr/b.nii.gz")
    with pytest.raises(PipelineError, match=r"labelsTr/b\.nii\.gz: label without image"):
        list_cases("nnunet", tmp_path)


def test_missing_description(tmp_path):
    with pytest.raises(PipelineError, match=r"dataset\.json: not there"):
        list_cases("nnunet", tmp_path)
