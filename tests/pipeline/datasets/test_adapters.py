"""What holds for every adapter."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.datasets import ADAPTERS, list_cases
from pipeline.errors import PipelineError

FILES = {
    "atlas": ["Testing/R001/sub-r001s001/ses-1/anat/sub-r001s001_ses-1_space-MNI_T1w.nii.gz"],
    "msd": ["imagesTs/lung_001.nii.gz"],
    "orcascore": ["Test Set/Images/TEV1P1CTI.mhd"],
    "nnunet": ["imagesTs/case_1_0000.nii.gz"],
    "manifest": ["image.nii.gz"],
    "dicom": ["patient/0001.dcm"],
}


def build(adapter: str, root: Path) -> None:
    for name in FILES[adapter]:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "dataset.json").write_text('{"training": [], "numTraining": 0}')
    if adapter == "manifest":
        (root / "manifest.csv").write_text("case,image\nc1,image.nii.gz\n")


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_empty_files_are_listed_without_being_read(tmp_path, adapter):
    build(adapter, tmp_path)
    (case,) = list_cases(adapter, tmp_path)
    assert case.image.exists()
    assert case.label is None
    assert case.role == "unlabelled"


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_listing_imports_neither_itk_nor_arrays(tmp_path, adapter):
    build(adapter, tmp_path)
    code = (
        "import sys; from pathlib import Path; from pipeline.datasets import list_cases; "
        "list_cases(sys.argv[1], Path(sys.argv[2])); "
        "sys.exit(str({'SimpleITK', 'numpy', 'torch', 'zarr'} & set(sys.modules) or ''))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, adapter, str(tmp_path)],
        check=False,
        capture_output=True,
        encoding="utf-8",
    )
    assert done.stderr.strip() == ""


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


def test_unknown_adapter_and_option_are_refused(tmp_path):
    with pytest.raises(PipelineError, match="use one of atlas, msd"):
        list_cases("brats", tmp_path)
    with pytest.raises(PipelineError, match="unknown option 'csv'; it takes table"):
        list_cases("manifest", tmp_path, csv="cases.csv")
    with pytest.raises(PipelineError, match="takes no options"):
        list_cases("atlas", tmp_path, table="cases.csv")


def test_further_images_are_predicted_only_and_take_the_data_sets_modality(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.nii.gz").touch()
    (tmp_path / "set" / "a_mask.nii.gz").touch()
    table = tmp_path / "set" / "manifest.csv"
    table.write_text("case,image,label,group,role\na,a.nii.gz,a_mask.nii.gz,,\n")
    new = tmp_path / "patient7.nrrd"
    new.touch()
    cases = list_cases("manifest", tmp_path / "set", [new])
    assert [(one.case, one.role) for one in cases] == [("a", ""), ("patient7", "unlabelled")]
    with pytest.raises(PipelineError, match=r"gone\.nrrd: not there"):
        list_cases("manifest", tmp_path / "set", [tmp_path / "gone.nrrd"])
    with pytest.raises(PipelineError, match="the same case more than once"):
        list_cases("manifest", tmp_path / "set", [tmp_path / "set" / "a.nii.gz"])
