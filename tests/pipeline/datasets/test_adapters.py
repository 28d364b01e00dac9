"""What holds for every adapter."""

import subprocess
import sys

import pytest

from pipeline.datasets import ADAPTERS, list_cases
from pipeline.errors import PipelineError

FILES = {
    "atlas": "Testing/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI_T1w.nii.gz",
    "msd": "imagesTs/lung_001.nii.gz",
    "orcascore": "Test Set/Images/TEV1P1CTI.mhd",
    "nnunet": "imagesTs/case_1_0000.nii.gz",
    "manifest": "image.nii.gz",
    "dicom": "patient/0001.dcm",
}


@pytest.fixture
def build(tmp_path, touch):
    """build(adapter): a data set of one empty file."""

    def write(adapter):
        touch(FILES[adapter])
        (tmp_path / "dataset.json").write_text('{"training": [], "numTraining": 0}')
        if adapter == "manifest":
            (tmp_path / "manifest.csv").write_text("case,image\nc1,image.nii.gz\n")

    return write


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_empty_files_are_listed_without_being_read(tmp_path, build, adapter):
    build(adapter)
    (case,) = list_cases(adapter, tmp_path)
    assert case.image.exists()
    assert case.label is None
    assert case.role == "unlabelled"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_listing_imports_neither_itk_nor_arrays(tmp_path, build, adapter):
    build(adapter)
    code = (
        "import sys; from pathlib import Path; from pipeline.datasets import list_cases; "
        "list_cases(sys.argv[1], Path(sys.argv[2])); "
        "sys.exit(str({'SimpleITK', 'numpy', 'torch', 'zarr'} & set(sys.modules) or ''))"
    )
    command = [sys.executable, "-c", code, adapter, str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True).stderr.strip() == b""


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_missing_root_is_named(tmp_path, adapter):
    with pytest.raises(PipelineError, match="nowhere: not there") as caught:
        list_cases(adapter, tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_no_cases_is_a_fault(tmp_path, adapter):
    (tmp_path / "dataset.json").write_text('{"training": []}')
    if adapter == "manifest":
        (tmp_path / "manifest.csv").write_text("case,image\n")
    (tmp_path / "empty").mkdir()
    root = tmp_path / "empty" if adapter == "dicom" else tmp_path
    with pytest.raises(PipelineError, match="no cases found, expected") as caught:
        list_cases(adapter, root)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_root(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(PipelineError, match="is a file"):
        list_cases("atlas", path)


def test_an_unknown_adapter_is_refused(tmp_path):
    with pytest.raises(PipelineError, match="use one of atlas, msd"):
        list_cases("brats", tmp_path)


def test_further_images_are_predicted_only_and_take_the_data_sets_modality(tmp_path, touch):
    touch("set/a.nii.gz", "set/a_mask.nii.gz", "patient7.nrrd")
    table = tmp_path / "set" / "manifest.csv"
    table.write_text("case,image,label,group,role\na,a.nii.gz,a_mask.nii.gz,,\n")
    cases = list_cases("manifest", tmp_path / "set", [tmp_path / "patient7.nrrd"])
    assert [(files.case, files.role) for files in cases] == [("a", ""), ("patient7", "unlabelled")]
    with pytest.raises(PipelineError, match=r"gone\.nrrd: not there"):
        list_cases("manifest", tmp_path / "set", [tmp_path / "gone.nrrd"])
    with pytest.raises(PipelineError, match="the same case more than once"):
        list_cases("manifest", tmp_path / "set", [tmp_path / "set" / "a.nii.gz"])
