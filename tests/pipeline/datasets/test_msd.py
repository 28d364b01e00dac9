"""Medical Segmentation Decathlon: dataset.json drives, the disk counts."""

import json

import pytest

from pipeline.datasets import list_cases


@pytest.fixture
def build(tmp_path, touch):
    """build(names, …): empty files of these names, and a `dataset.json` that lists `listed`."""

    def write(names, *, listed=None, tests=(), **more):
        listed = names if listed is None else listed
        for name in names:
            touch(f"imagesTr/{name}.nii.gz", f"labelsTr/{name}.nii.gz")
        touch(*(f"imagesTs/{name}.nii.gz" for name in tests))
        training = [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in listed
        ]
        content = {"modality": {"0": "CT"}, "numTraining": len(listed), "training": training}
        (tmp_path / "dataset.json").write_text(json.dumps(content | more))

    return write


def test_pairs_and_unlabelled(tmp_path, build):
    build(["lung_003", "lung_001"], tests=["lung_002"])
    cases = list_cases("msd", tmp_path)
    assert [(files.case, files.role, files.label is None) for files in cases] == [
        ("lung_001", "", False),
        ("lung_002", "unlabelled", True),
        ("lung_003", "", False),
    ]
    assert {(files.modality, files.notes) for files in cases} == {("CT", ())}


def test_resource_forks_are_ignored(tmp_path, build, touch):
    build(["lung_001"], listed=["lung_001", "._lung_001"], numTraining=1)
    touch(*(f"{folder}/._lung_001.nii.gz" for folder in ("imagesTr", "labelsTr", "imagesTs")))
    (case,) = list_cases("msd", tmp_path)
    assert case.notes == ()


def test_a_count_other_than_promised_is_a_note(tmp_path, build):
    build(["lung_001", "lung_004"], listed=["lung_001", "lung_002", "lung_004"])
    first, second = list_cases("msd", tmp_path)
    assert (first.case, second.case) == ("lung_001", "lung_004")
    note = "dataset.json says 3 training cases, 2 are on disk; not there: lung_002.nii.gz"
    assert (first.notes, second.notes) == ((note,), ())


def test_a_listed_image_may_have_any_suffix_and_the_count_is_of_listed_ones(tmp_path, build, touch):
    build(["lung_001"], numTraining=6)
    pairs = [
        {"image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in ("a.nii", "b.mha")
    ]
    touch("imagesTr/a.nii", "labelsTr/a.nii", "imagesTr/b.mha", "labelsTr/b.mha")
    content = {"numTraining": 3, "training": pairs}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    first, second = list_cases("msd", tmp_path)
    assert (first.case, second.case) == ("a", "b")
    assert first.notes == ("dataset.json says 3 training cases, 2 of the 3 on disk are cases",)


def test_half_a_pair_and_a_case_twice_are_refused(tmp_path, build, refused):
    build(["lung_001", "lung_002"])
    (tmp_path / "imagesTr" / "lung_002.nii.gz").unlink()
    refused("msd", "labelsTr/lung_002.*: label without image")
    build(["lung_001", "lung_002"])
    (tmp_path / "labelsTr" / "lung_002.nii.gz").unlink()
    refused("msd", "case lung_002: .*not there")
    build(["lung_001", "lung_002"], tests=["lung_001"])
    refused("msd", "more than once")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "no readable JSON"),
        ("[]", "found list"),
        ('{"training": [{"image": "a"}]}', "broken training list"),
    ],
)
def test_broken_description(tmp_path, refused, content, words):
    (tmp_path / "dataset.json").write_text(content)
    assert "dataset.json" in refused("msd", words)


def test_real_layout(shared_dir):
    cases = list_cases("msd", shared_dir / "real" / "nodules" / "Task06_Lung")
    assert len(cases) == 100
    assert all(files.label is not None and files.modality == "CT" for files in cases)
