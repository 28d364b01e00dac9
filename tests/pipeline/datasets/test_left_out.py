"""What a listing passes over is told, and what it takes is not."""

import pytest

from pipeline.datasets import ListingError, list_cases
from pipeline.datasets.left_out import UNKNOWN, left_out
from pipeline.settings import Source

CONTRAST = [f"Images/TRV1P{number}CTAI.mhd" for number in range(5)]
LISTED = '{"training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}]}'


@pytest.mark.parametrize(
    ("adapter", "names", "told"),
    [
        (
            "orcascore",
            ["Images/TRV1P0CTI.mhd", *CONTRAST],
            {f"contrast scan (CTAI): {', '.join(CONTRAST[:3])} and 2 more": "note"},
        ),
        (
            "atlas",
            ["sub-r001s001_T1w.nii.gz", "old_T1w.nii.gz", "._sub-r001s001_T1w.nii.gz"],
            {
                "file ._* (left by macOS): ._sub-r001s001_T1w.nii.gz": "note",
                "image whose name has no sub-r<cohort>s<number>: old_T1w.nii.gz": "warning",
            },
        ),
        (
            "msd",
            ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "imagesTr/b.nii.gz"],
            {"image that dataset.json does not list: imagesTr/b.nii.gz": "warning"},
        ),
        (
            "msd",
            ["imagesTr/a.nii.gz", "labelsTr/a.nii.gz", "labelsTs/t.nii.gz"],
            {f"{UNKNOWN}: labelsTs/t.nii.gz": "warning"},
        ),
        (
            "nnunet",
            ["imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz", "labelsTr/b.nii", "other/d.nii"],
            {f"{UNKNOWN}: labelsTr/b.nii": "warning"},
        ),
        (
            "nnunet",
            ["imagesTs/b_0000.nii", "imagesTs/more/c_0000.NII.GZ", "labelsTr/notes.txt"],
            {f"{UNKNOWN}: imagesTs/b_0000.nii, imagesTs/more/c_0000.NII.GZ": "warning"},
        ),
        (
            "atlas",
            ["sub-r001s001_T1w.nii.gz", "sub-r001s002_T1w.nii", "sub-r001s003_FLAIR.nii.gz"],
            {f"{UNKNOWN}: sub-r001s002_T1w.nii, sub-r001s003_FLAIR.nii.gz": "warning"},
        ),
        (
            "orcascore",
            ["TRV1P0CTI.mhd", "TRV1P0CTI.raw", "Images/TEV1P1CTI.nii.gz", "odd.mha"],
            {f"{UNKNOWN}: Images/TEV1P1CTI.nii.gz, odd.mha": "warning"},
        ),
        (
            "manifest",
            ["a.nii.gz", "b.nii.gz", "new/c.nrrd", "results/masks/a.nii.gz", ".git/d.nii"],
            {"image that the CSV does not list: b.nii.gz, new/c.nrrd": "note"},
        ),
    ],
)
def test_what_is_left_out_is_told(tmp_path, touch, adapter, names, told):
    touch(*names)
    (tmp_path / "dataset.json").write_text(LISTED, "utf-8")
    (tmp_path / "manifest.csv").write_text("case,image\na,new/../a.nii.gz\n", "utf-8")
    try:
        cases, faults = list_cases(adapter, tmp_path), ()
    except ListingError as error:
        cases, faults = error.cases, error.findings
    source = Source(adapter=adapter, root=str(tmp_path))
    found = left_out(source, tmp_path, cases, faults, tmp_path / "results")
    assert [(each.found, each.severity) for each in found] == [
        (f"left out, {text}", severity) for text, severity in told.items()
    ]
