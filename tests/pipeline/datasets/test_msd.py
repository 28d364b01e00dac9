"""Medical Segmentation Decathlon: dataset.json drives, the disk counts."""

import json

import pytest

from pipeline.datasets import list_cases
from pipeline.errors import PipelineError


def build(root, names, *, listed=None, promised=None, tests=()):
    listed = names if listed is None else listed
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (root / folder).mkdir()
    for name in names:
        (root / "imagesTr" / f"{name}.nii.gz").touch()
        (root / "labelsTr" / f"{name}.nii.gz").touch()
    for name in tests:
        (root / "imagesTs" / f"{name}.nii.gz").touch()
    description = {
        "modality": {"0": "CT"},
        "numTraining": len(listed) if promised is None else promised,
        "training": [
            {"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"}
            for name in listed
        ],
        "test": [f"./imagesTs/{name}.nii.gz" for name in tests],
    }
    (root / "dataset.json").write_text(json.dumps(description))


def test_pairs_and_unlabelled(tmp_path):
    build(tmp_path, ["lung_003", "lung_001"], tests=["lung_002"])
    cases = list_cases("msd", tmp_path)
    assert [(files.case, files.role, files.label is None) for files in cases] == [
        ("lung_001", "", False),
        ("lung_002", "unlabelled", True),
        ("lung_003", "", False),
    ]
    assert {files.modality for files in cases} == {"CT"}
    assert all(files.notes == () for files in cases)


def test_resource_forks_are_ignored(tmp_path):
    build(tmp_path, ["lung_001"], listed=["lung_001", "._lung_001"], promised=1)
    for folder in ("imagesTr", "labelsTr", "imagesTs"):
        (tmp_path / folder / "._lung_001.nii.gz").touch()
    (case,) = list_cases("msd", tmp_path)
    assert case.notes == ()


def test_a_count_other_than_promised_is_a_note(tmp_path):
    build(tmp_path, ["lung_001", "lung_004"], listed=["lung_001", "lung_002", "lung_004"])
    cases = list_cases("msd", tmp_path)
    assert [files.case for files in cases] == ["lung_001", "lung_004"]
    assert cases[0].notes == (
        "dataset.json says 3 training cases, 2 are on disk; not there: lung_002.nii.gz",
    )
    assert cases[1].notes == ()


@pytest.mark.parametrize(
    ("folder", "words"),
    [
        ("imagesTr", "labelsTr/lung_002.*: label without image"),
        ("labelsTr", "case lung_002: .*not there"),
    ],
)
def test_half_a_pair_is_refused(tmp_path, folder, words):
    build(tmp_path, ["lung_001", "lung_002"])
    (tmp_path / folder / "lung_002.nii.gz").unlink()
    with pytest.raises(PipelineError, match=words):
        list_cases("msd", tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "not there"),
        ("{", "no readable JSON"),
        ("[]", "found list"),
        ('{"training": [{"image": "a"}]}', "broken training list"),
        ('{"training": ["a.nii.gz"]}', "broken training list"),
        ("{}", "broken training list"),
    ],
)
def test_broken_description(tmp_path, content, words):
    if content is not None:
        (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(PipelineError, match=words) as caught:
        list_cases("msd", tmp_path)
    assert "dataset.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_duplicate_of_train_and_test(tmp_path):
    build(tmp_path, ["lung_001"], tests=["lung_001"])
    with pytest.raises(PipelineError, match="more than once"):
        list_cases("msd", tmp_path)


def test_real_layout(shared_dir):
    cases = list_cases("msd", shared_dir / "real" / "nodules" / "Task06_Lung")
    assert len(cases) == 100
    assert all(files.label is not None and files.modality == "CT" for files in cases)


def test_counts_other_than_the_papers_are_a_note(tmp_path):
    build(tmp_path, ["lung_001", "lung_004"])
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "name": "Lung"}))
    first, _ = list_cases("msd", tmp_path)
    assert first.notes == ("2 labelled cases of Task06 Lung; the paper counts 64",)
