"""ATLAS v2.0's two forms."""

import pytest

from pipeline.datasets import list_cases
from pipeline.errors import PipelineError

SPACE = "ses-1_space-MNI152NLin2009aSym"


def add(folder, subject, *, mask=True, image=True):
    anat = folder / subject / "ses-1" / "anat"
    anat.mkdir(parents=True)
    if image:
        (anat / f"{subject}_{SPACE}_T1w.nii.gz").touch()
    if mask:
        (anat / f"{subject}_{SPACE}_label-L_desc-T1lesion_mask.nii.gz").touch()


def test_bids_by_cohort(tmp_path):
    add(tmp_path / "Training" / "R002", "sub-r002s010")
    add(tmp_path / "Training" / "R001", "sub-r001s002")
    add(tmp_path / "Testing" / "R040", "sub-r040s001", mask=False)
    cases = list_cases("atlas", tmp_path)
    assert [(files.case, files.group, files.role) for files in cases] == [
        ("sub-r001s002", "R001", ""),
        ("sub-r002s010", "R002", ""),
        ("sub-r040s001", "R040", "unlabelled"),
    ]
    anat = tmp_path / "Training" / "R001" / "sub-r001s002" / "ses-1" / "anat"
    assert cases[0].image == anat / f"sub-r001s002_{SPACE}_T1w.nii.gz"
    assert cases[0].label == anat / f"sub-r001s002_{SPACE}_label-L_desc-T1lesion_mask.nii.gz"
    assert cases[0].modality == "MR"


def test_flat_derivatives(tmp_path):
    add(tmp_path / "derivatives" / "ATLAS", "sub-r009s001")
    (case,) = list_cases("atlas", tmp_path)
    assert (case.case, case.group) == ("sub-r009s001", "R009")


def test_hidden_copies_of_macos_are_ignored(tmp_path):
    add(tmp_path, "sub-r001s001")
    anat = tmp_path / "sub-r001s001" / "ses-1" / "anat"
    (anat / f"._sub-r001s001_{SPACE}_T1w.nii.gz").touch()
    (anat / f"._sub-r001s001_{SPACE}_label-L_desc-T1lesion_mask.nii.gz").touch()
    assert len(list_cases("atlas", tmp_path)) == 1


def test_a_subject_twice_is_refused(tmp_path):
    add(tmp_path / "Training" / "R001", "sub-r001s001")
    add(tmp_path / "derivatives" / "ATLAS", "sub-r001s001")
    with pytest.raises(PipelineError, match=r"sub-r001s001: .*Training.* and .*derivatives") as e:
        list_cases("atlas", tmp_path)
    assert "\n" not in str(e.value)


def test_a_mask_without_image_is_refused(tmp_path):
    add(tmp_path, "sub-r001s001")
    add(tmp_path, "sub-r001s002", image=False)
    with pytest.raises(PipelineError, match=r"sub-r001s002.*: label without image"):
        list_cases("atlas", tmp_path)


def test_real_layout(shared_dir):
    cases = list_cases("atlas", shared_dir / "real" / "stroke")
    assert len(cases) == 20
    assert {files.group for files in cases} == {f"R{number:03}" for number in range(1, 7)}
    assert all(files.label is not None for files in cases)


def test_a_training_scan_that_lost_its_mask_is_no_case_to_predict(tmp_path):
    add(tmp_path / "Training" / "R001", "sub-r001s001")
    add(tmp_path / "Training" / "R001", "sub-r001s002", mask=False)
    with pytest.raises(PipelineError, match=r"case sub-r001s002: .*lesion_mask.* not there") as e:
        list_cases("atlas", tmp_path)
    assert "out of Training" in str(e.value)
