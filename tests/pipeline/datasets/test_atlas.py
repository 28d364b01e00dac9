"""ATLAS v2.0's two forms."""

import pytest

from pipeline.datasets import list_cases


@pytest.fixture
def add(touch):
    """add(folder, subject, *kinds): empty files of a subject below `folder`."""

    def make(folder, subject, *kinds):
        names = [f"{subject}_ses-1_space-MNI152NLin2009aSym_{kind}.nii.gz" for kind in kinds]
        touch(*(f"{folder}/{subject}/ses-1/anat/{name}" for name in names))
        return names

    return make


IMAGE, MASK = "T1w", "label-L_desc-T1lesion_mask"


def test_bids_by_cohort(tmp_path, add):
    add("Training/R002", "sub-r002s010", IMAGE, MASK)
    image, mask = add("Training/R001", "sub-r001s002", IMAGE, MASK)
    add("Testing/R040", "sub-r040s001", IMAGE)
    cases = list_cases("atlas", tmp_path)
    assert [(files.case, files.group, files.role) for files in cases] == [
        ("sub-r001s002", "R001", ""),
        ("sub-r002s010", "R002", ""),
        ("sub-r040s001", "R040", "unlabelled"),
    ]
    anat = tmp_path / "Training" / "R001" / "sub-r001s002" / "ses-1" / "anat"
    assert (cases[0].image, cases[0].label) == (anat / image, anat / mask)
    assert cases[0].modality == "MR"


def test_flat_derivatives_without_hidden_copies_of_macos(tmp_path, add, touch):
    names = add("derivatives/ATLAS", "sub-r009s001", IMAGE, MASK)
    touch(*(f"derivatives/ATLAS/sub-r009s001/ses-1/anat/._{name}" for name in names))
    (case,) = list_cases("atlas", tmp_path)
    assert (case.case, case.group) == ("sub-r009s001", "R009")


@pytest.mark.parametrize(
    ("further", "words"),
    [
        (("derivatives/ATLAS", "sub-r001s001", IMAGE, MASK), r"sub-r001s001: .*Tr.* and .*deriv"),
        (("Training/R001", "sub-r001s002", MASK), r"sub-r001s002.*: label without image"),
        # without its mask, a training scan is no case to predict
        (
            ("Training/R001", "sub-r001s002", IMAGE),
            r"case sub-r001s002: .*lesion_mask.* not there.*out of Training",
        ),
    ],
)
def test_what_does_not_fit_together_is_refused(add, refused, further, words):
    add("Training/R001", "sub-r001s001", IMAGE, MASK)
    add(*further)
    refused("atlas", words)


def test_real_layout(shared_dir):
    cases = list_cases("atlas", shared_dir / "real" / "stroke")
    assert len(cases) == 20
    assert {files.group for files in cases} == {f"R{number:03}" for number in range(1, 7)}
    assert all(files.label is not None for files in cases)
