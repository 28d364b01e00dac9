"""nnU-Net raw data sets with one channel."""

import pytest

from pipeline.datasets import list_cases


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


def test_fewer_cases_than_promised_are_a_note(tmp_path, build):
    build("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", json='{"numTraining": "6"}')
    (case,) = list_cases("nnunet", tmp_path)
    assert case.notes == ("dataset.json says 6 training cases, 1 are on disk",)
    build("imagesTr/b_0000.nii", json='{"numTraining": 6}')
    (case,) = list_cases("nnunet", tmp_path)
    assert case.notes == ("dataset.json says 6 training cases, 1 of the 2 on disk are cases",)
    build(json='{"numTraining": 0}')
    assert list_cases("nnunet", tmp_path)[0].notes == ()


def test_other_file_ending(tmp_path, build):
    json = '{"channel_names": {"0": "T1"}, "file_ending": ".nrrd"}'
    build("imagesTr/a_0000.nrrd", "labelsTr/a.nrrd", json=json)
    (case,) = list_cases("nnunet", tmp_path)
    assert (case.case, case.modality) == ("a", "MR")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("imagesTr/a_0000", "imagesTr/a_0001", "labelsTr/a"), r"case a: .*channel 0001"),
        (("imagesTr/a",), r"expected a name like NAME_0000\.nii\.gz"),
        (("imagesTr/a_0000",), r"case a: .*labelsTr/a\.nii\.gz: not there"),
        (("imagesTr/a_0000", "labelsTr/a", "labelsTr/b"), r"labelsTr/b.*: label without image"),
    ],
)
def test_other_names_and_unpaired_files_are_refused(build, refused, names, words):
    build(*(f"{name}.nii.gz" for name in names))
    refused("nnunet", words)


def test_missing_description(refused):
    refused("nnunet", r"dataset\.json: not there")


def test_the_key_dataset_names_the_pairs(tmp_path, build, refused, monkeypatch):
    pairs = """{"file_ending": ".nrrd", "numTraining": 60, "dataset": {
        "1.2": {"images": ["../scans/one.nrrd"], "label": "masks/one.nrrd"},
        "two": {"images": ["$SCANS/two.nii.gz"], "label": "masks/two.nrrd"}}}"""
    monkeypatch.setenv("SCANS", str(tmp_path))
    root = tmp_path / "set"
    scans = ("scans/one.nrrd", "two.nii.gz")
    build(*scans, "set/masks/one.nrrd", "set/masks/two.nrrd", json=pairs)
    (tmp_path / "dataset.json").rename(root / "dataset.json")
    first, second = list_cases("nnunet", root)
    assert (first.case, first.image.resolve()) == ("1.2", tmp_path / scans[0])
    assert (second.image, second.label) == (tmp_path / scans[1], root / "masks" / "two.nrrd")
    assert first.notes == ("dataset.json says 60 training cases, 2 are on disk",)
    (root / "masks" / "two.nrrd").unlink()
    refused("nnunet", "case two: .*two.nrrd: not there, expected the case's label", root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"dataset": {"a": {"images": ["x"], "label": "y"}}}', "case a: .*y: not there"),
        ('{"dataset": {"a": {"images": ["x", "z"], "label": "y"}}}', "case a: .*2 images"),
        ('{"dataset": {"a": {"images": "x", "label": "y"}}}', "broken key dataset"),
        ('{"dataset": ["a"]}', "broken key dataset"),
        ('{"file_ending": "**"}', r"file_ending '\*\*', expected one such as .nii.gz"),
        ('{"file_ending": 3}', "file_ending 3, expected"),
    ],
)
def test_a_broken_description(build, refused, content, words):
    build("x", "imagesTr/a_0000.nii.gz", json=content)
    refused("nnunet", words)
