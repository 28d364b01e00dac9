"""What holds for every adapter."""

import subprocess
import sys

import pytest

from pipeline.datasets import ADAPTERS, list_cases
from pipeline.settings import HEALTHY, FurtherImage

FILES = {
    "atlas": "Testing/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI_T1w.nii.gz",
    "msd": "imagesTs/lung_001.nii.gz",
    "orcascore": "Test Set/Images/TEV1P1CTI.mhd",
    "nnunet": "imagesTs/case_1_0000.nii.gz",
    "manifest": "image.nii.gz",
    "dicom": "patient/0001.dcm",
    "images": "site/scan.nrrd",
}


def test_empty_files_are_listed_without_being_read_by_itk_or_put_into_arrays(tmp_path, touch):
    for adapter in ADAPTERS:
        touch(f"{adapter}/{FILES[adapter]}")
    for adapter in ("msd", "nnunet"):
        (tmp_path / adapter / "dataset.json").write_text('{"training": [], "numTraining": 0}')
    (tmp_path / "manifest" / "manifest.csv").write_text("case,image\nc1,image.nii.gz\n")
    for adapter in ADAPTERS:
        (case,) = list_cases(adapter, tmp_path / adapter)
        assert case.image.exists()
        assert (case.label, case.role) == (None, "unlabelled")
    code = (
        "import sys; from pathlib import Path; from pipeline.datasets import ADAPTERS, list_cases; "
        "[list_cases(adapter, Path(sys.argv[1], adapter)) for adapter in ADAPTERS]; "
        "sys.exit(str({'SimpleITK', 'numpy', 'torch', 'zarr'} & set(sys.modules) or ''))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).stderr.strip() == b""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_missing_root_is_named_and_so_is_one_without_cases(tmp_path, touch, refused, adapter):
    refused(adapter, "nowhere: not there", tmp_path / "nowhere")
    touch("dataset.json", "manifest.csv", "empty/readme")
    (tmp_path / "dataset.json").write_text('{"training": []}')
    if adapter == "manifest":
        (tmp_path / "manifest.csv").write_text("case,image\n")
    root = tmp_path / "empty" if adapter == "dicom" else tmp_path
    refused(adapter, "no cases found, expected", root)


def test_a_file_is_no_root_and_an_unknown_adapter_is_refused(tmp_path, touch, refused):
    touch("file")
    refused("atlas", "is a file", tmp_path / "file")
    refused("brats", "use one of atlas, msd")


def test_further_images_are_predicted_only_and_named_after_their_files(tmp_path, touch, refused):
    touch("set/a.nii.gz", "set/a_mask.nii.gz", "patient7.nrrd")
    folder = tmp_path / "set"
    table = "case,image,label,group,role\na,a.nii.gz,a_mask.nii.gz,,\n"
    (folder / "manifest.csv").write_text(table)
    cases = list_cases("manifest", folder, [FurtherImage(tmp_path / "patient7.nrrd")])
    assert [(files.case, files.role) for files in cases] == [("a", ""), ("patient7", "unlabelled")]
    refused("manifest", r"gone\.nrrd: not there", folder, [FurtherImage(tmp_path / "gone.nrrd")])
    refused("manifest", "the same case more than once", folder, [FurtherImage(folder / "a.nii.gz")])


def test_a_folder_goes_by_its_whole_name_and_a_file_by_its_name_without_suffix(tmp_path, touch):
    uids = [tmp_path / "1.2.840.1", tmp_path / "1.2.840.2"]
    scans = [tmp_path / "scan.v2.NII.GZ", tmp_path / "scan.v3.mha", tmp_path / "scan.nii"]
    touch("a.nii.gz", *(f"{uid}/0" for uid in uids), *scans)
    (tmp_path / "manifest.csv").write_text("case,image\na,a.nii.gz\n")
    cases = list_cases("manifest", tmp_path, [*map(FurtherImage, (*uids, *scans))])
    names = ["1.2.840.1", "1.2.840.2", "a", "scan", "scan.v2", "scan.v3"]
    assert [files.case for files in cases] == names


def test_healthy_scans_are_files_images_of_a_folder_or_dicom_folders(tmp_path, touch, refused):
    touch("a.nii.gz", "a-mask.nii.gz", "b.nii.gz", "one.mha", "nothing/readme.txt")
    touch("many/c.nii", "many/._c.nii", "many/notes.txt", "many/deep/d.nii", "dicom/e/s1/0.dcm")
    (tmp_path / "manifest.csv").write_text(
        "case,image,label,group,role\na,a.nii.gz,a-mask.nii.gz,,\nb,b.nii.gz,,,healthy\n"
    )

    def healthy(*names):
        return [FurtherImage(tmp_path / name, HEALTHY) for name in names]

    cases = list_cases("manifest", tmp_path, healthy("one.mha", "many", "dicom"))
    found = {files.case: files.role for files in cases if files.label is None}
    assert found == dict.fromkeys(["b", "c", "e", "one"], HEALTHY)
    line = refused("manifest", r"gone: not there", tmp_path, healthy("gone"))
    assert line.endswith("correct source.healthy")
    refused("manifest", "nothing: a folder without images, .*DICOM", tmp_path, healthy("nothing"))
    refused("manifest", "that is the image of case a, too", tmp_path, healthy("a.nii.gz"))
    touch("twice/c.nii")
    refused("manifest", "the same case more than once", tmp_path, healthy("many", "twice/c.nii"))


def test_a_folder_without_images_stands_for_those_below_it(tmp_path, touch, refused):
    touch("a.nii.gz", "bids/sub-1/anat/sub-1_T1w.nii.gz", "bids/sub-2/anat/sub-2_T1w.nii.gz")
    (tmp_path / "manifest.csv").write_text("case,image\na,a.nii.gz\n")
    below = [FurtherImage(tmp_path / "bids", HEALTHY)]
    cases = list_cases("manifest", tmp_path, below)
    assert [files.case for files in cases] == ["a", "sub-1_T1w", "sub-2_T1w"]
    touch("bids/sub-3/anat/sub-1_T1w.nii.gz")
    refused("manifest", "the same case more than once", tmp_path, below)
