"""Masks under the names of BIDS derivatives."""

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.postprocess import postprocess
from pipeline.settings import Postprocess
from pipeline.storage.files import read_json
from pipeline.storage.images.volumes import read_volume
from pipeline.tools.derivatives import derivatives
from tests.pipeline.results import rewrite_attributes

SHAPE = (4, 12, 10)
LESION = np.zeros(SHAPE)
LESION[1:3, 4:7, 2:5] = 0.9


@pytest.fixture
def tree(results_tree):
    """tree(*cases): masks of them, in as many subsets as `subsets` says."""

    def make(*cases, subsets=1):
        image = np.random.default_rng(0).normal(100, 5, SHAPE).astype(np.float32)
        for case in cases:
            results_tree.add_case(case, image, np.zeros(SHAPE, np.uint8), modality="MR")
        results_tree.write_split([list(cases)] * subsets)
        for subset in range(1, subsets + 1):
            results_tree.add_predictions("unet", subset, dict.fromkeys(cases, LESION))
            postprocess(results_tree.layout, "unet", subset, Postprocess())
        return results_tree.layout

    return make


def test_masks_lie_by_subject_and_session_with_what_made_them(tree, tmp_path):
    layout, output = tree("sub-r001s001", "Doe_7"), tmp_path / "bids"
    name = "sub-r001s001_ses-1_space-MNI_T1w.nii.gz"
    rewrite_attributes(layout.case_store("sub-r001s001"), sources={name: "digest"})
    written = derivatives(layout, "unet", [1], output, "9.9")
    ending = "space-orig_label-lesion_mask.nii.gz"
    assert sorted(path.relative_to(output).as_posix() for path in written) == [
        f"sub-Doe7/anat/sub-Doe7_{ending}",
        f"sub-r001s001/ses-1/anat/sub-r001s001_ses-1_{ending}",
    ]
    mask = read_volume(written[0])
    assert mask.array.dtype == np.uint8
    assert np.array_equal(mask.array, LESION > 0.5)
    description = read_json(output / "dataset_description.json")
    assert description["DatasetType"] == "derivative"
    (made,) = description["GeneratedBy"]
    assert (made["Name"], made["Version"]) == ("GRCSF", "9.9")
    assert read_json(output / "space-orig_label-lesion_mask.json") == {"Type": "Lesion"}
    derivatives(layout, "unet", [1], output, "9.10")
    assert read_json(output / "dataset_description.json")["GeneratedBy"][0]["Version"] == "9.10"


def test_masks_of_several_subsets_are_told_apart(tree, tmp_path):
    written = derivatives(tree("a", subsets=2), "unet", [1, 2], tmp_path / "bids", "1")
    assert [path.name.partition("_label-lesion")[2] for path in written] == [
        "_desc-subset1_mask.nii.gz",
        "_desc-subset2_mask.nii.gz",
    ]


def test_two_cases_of_one_bids_name_are_refused(tree, tmp_path):
    layout = tree("a-1", "a_1")
    with pytest.raises(
        PipelineError, match=r"case a_1: would have the BIDS name of case a-1, sub-"
    ):
        derivatives(layout, "unet", [1], tmp_path / "bids", "1")
    assert not (tmp_path / "bids").exists()


def test_the_description_of_another_data_set_is_kept(tree, tmp_path):
    layout = tree("a")
    described = tmp_path / "dataset_description.json"
    described.write_text('{"Name": "ATLAS", "BIDSVersion": "1.0.2"}')
    with pytest.raises(PipelineError, match=r"is another data set, as its dataset_description"):
        derivatives(layout, "unet", [1], tmp_path, "1")
    assert "ATLAS" in described.read_text()
    assert not (tmp_path / "sub-a").exists()


def test_the_command_takes_a_repeat(tmp_path):
    dataset = {
        "source": {"adapter": "manifest", "root": "images"},
        "slices": {"percentiles": [0, 100]},
        "experiments": {"unet": {"model": "unet", "repeats": 2}},
    }
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"results": str(tmp_path), "datasets": {"d": dataset}}))

    def said(experiment):
        given = ["--config", str(config), "--dataset", "d", "--experiment", experiment]
        called = ["derivatives", *given, "--output", str(tmp_path / "bids")]
        return str(CliRunner().invoke(app, called).exception)

    assert said("unet/repeat-2") == "unet/repeat-2, subset 1: no masks yet; run postprocess"
    assert said("unet/repeat-3").endswith("has no 'unet/repeat-3'; it has: unet, unet/repeat-2")
