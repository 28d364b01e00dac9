"""orCaScore's folders and names, in the spellings in which they are met."""

import pytest

from pipeline.datasets import list_cases


def test_training_and_test(tmp_path, touch):
    touch(
        "Training Set/Images/TRV1P3CTI.mhd",
        "Training Set/Images/TRV1P3CTI.raw",
        "Training Set/Images/TRV1P3CTAI.mhd",
        "Training Set/Reference standard/TRV1P3R.mhd",
        "Training Set/Reference standard/TRV1P3R_observer2.mhd",
        "Training Set/Images/TRV4P12CTI.mhd",
        "Training Set/Reference standard/TRV4P12R.mhd",
        "Test Set/Images/TEV2P1CTI.mhd",
        "Test Set/Images/TEV2P1CTAI.mhd",
        "Test Set/Images/VAV3P2CTI.mhd",
        "submission/VAV3P2R.mhd",
    )
    cases = list_cases("orcascore", tmp_path)
    assert [(files.case, files.group, files.role) for files in cases] == [
        ("TEV2P1", "V2", "unlabelled"),
        ("TRV1P3", "V1", ""),
        ("TRV4P12", "V4", ""),
        ("VAV3P2", "V3", "unlabelled"),
    ]
    assert cases[1].label == tmp_path / "Training Set/Reference standard/TRV1P3R.mhd"
    assert [files.case for files in cases if files.label is None] == ["TEV2P1", "VAV3P2"]
    assert all(files.modality == "CT" for files in cases)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("training_set/images/trv1p3cti.mhd", "training_set/reference_standard/trv1p3r.mhd"),
        ("TRAINING SET/IMAGES/TRV1P3CTI.MHD", "TRAINING SET/REFERENCE STANDARD/TRV1P3R.MHD"),
        ("Training_Set/Images/TRV1P3_CTI.mhd", "Training_Set/Reference Standard/TRV1P3 R.mhd"),
    ],
)
def test_spellings(tmp_path, touch, image, label):
    touch(image, label)
    (case,) = list_cases("orcascore", tmp_path)
    assert (case.case, case.image, case.label) == ("TRV1P3", tmp_path / image, tmp_path / label)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            ("Reference standard/TRV1P1R.mhd", "Reference standard/TRV1P2R.mhd", "TRV1P2CTAI.mhd"),
            r"TRV1P2R\.mhd: label without image",
        ),
        (
            ("Reference standard/TRV1P1R.mhd", "Copy/reference_standard/TRV1P1R.mhd"),
            r"case TRV1P1: two references: .*Copy.* and .*Set",
        ),
        (("b/TRV1P1CTI.mha", "Reference standard/TRV1P1R.mhd"), r"TRV1P1: .* and "),
        # without its reference, a training scan is no case to predict
        (("Images/TEV1P1CTI.mhd",), r"case TRV1P1: .*TRV1P1R\.mhd: not there"),
    ],
)
def test_what_does_not_fit_together_is_refused(touch, refused, names, words):
    touch("Set/Images/TRV1P1CTI.mhd", *(f"Set/{name}" for name in names))
    refused("orcascore", words)
