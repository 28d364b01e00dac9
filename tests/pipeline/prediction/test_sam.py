"""SAM in the pipeline: prompted by another experiment's masks, slice by slice."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from grcsf.intensity import scale_window
from grcsf.models.peers.sam import Sam, prompt_boxes
from pipeline.compare import compare
from pipeline.errors import PipelineError
from pipeline.evaluate import evaluate
from pipeline.postprocess import postprocess
from pipeline.predict import predict
from pipeline.prediction import sam as module
from pipeline.prediction.sam import segment_case
from pipeline.settings import Evaluation, Postprocess, SamExperiment
from pipeline.storage.files import read_json
from pipeline.storage.source_notes import source_changes
from pipeline.storage.zarr_store import open_store, read_array
from tests.grcsf.models.peers.public_sam import public_state, random_sam
from tests.pipeline.results import RESOURCES, SLICES

SHAPE = (5, 30, 20)
PLAIN = Postprocess()


class Filled(Sam):
    """Fills every box; what it was shown is kept."""

    def __init__(self, logit=1.0):
        nn.Module.__init__(self)
        self.weights, self.logit, self.shown = nn.Parameter(torch.zeros(7)), logit, []

    def embed(self, image):
        self.shown.append(image)
        return torch.zeros(1)

    def box_logits(self, embedding, boxes, size):  # noqa: ARG002
        logits = torch.full((len(boxes), *size), -1.0)
        for plane, (left, top, right, bottom) in zip(logits, boxes.int().tolist(), strict=True):
            plane[top : bottom + 1, left : right + 1] = self.logit
        return logits


@pytest.fixture
def tree(results_tree, box):
    """Two subsets that test a case each; `unet` has found two lesions in slice 1, one in slice 3.

    The two of slice 1 are an L and a square.
    """
    image = np.random.default_rng(0).integers(0, 150, SHAPE, dtype=np.int16)
    angle = box(SHAPE, (1, 2), (4, 12), (3, 5)) | box(SHAPE, (1, 2), (10, 12), (3, 9))
    found = angle | box(SHAPE, (1, 2), (20, 23), (14, 18)) | box(SHAPE, (3, 4), (5, 9), (5, 9))
    for case in ("a", "b"):
        results_tree.add_case(case, image, found.astype(np.uint8))
    results_tree.add_case("unseen", image)
    results_tree.write_split([["a"], ["b"]])
    results_tree.add_predictions("unet", 1, {"a": found * 0.9, "unseen": 0.9 * found[::-1]})
    results_tree.add_predictions("unet", 2, {"b": np.zeros(SHAPE)})
    for subset in (1, 2):
        postprocess(results_tree.layout, "unet", subset, PLAIN)
    return results_tree


@pytest.fixture(scope="module")
def trained():
    return random_sam(6)  # whose masks are neither empty nor full


@pytest.fixture
def checkpoint(tmp_path, trained):
    path = tmp_path / "sam.pth"
    torch.save(public_state(trained), path)
    return path


@pytest.fixture
def filled(monkeypatch):
    """A SAM that fills its boxes, in place of the one of the checkpoint."""
    stub = Filled()
    monkeypatch.setattr(module, "load_public_sam", lambda *_: stub)
    return stub


def settings(path, **more):
    checkpoint = None if path is None else str(path)
    return SamExperiment(model="sam", prompts="unet", checkpoint=checkpoint, **more)


def predicted(tree, path, subset=1, name="sam", **more):
    chosen = settings(path, **more)
    predict(tree.layout, name, subset, chosen, 0, SLICES, RESOURCES, unlabelled=subset == 1)
    return read_json(tree.layout.predictions(name, subset))


def mask_of(tree, case, subset=1, name="sam"):
    store = open_store(tree.layout.prediction_store(name, subset, case))
    return read_array(store, "probability")


def refusal(tree, path, **more):
    with pytest.raises(PipelineError) as raised:
        predicted(tree, path, **more)
    (line,) = str(raised.value).splitlines()
    return line


def test_a_box_round_each_lesion_and_the_union_of_their_masks(tree, filled, checkpoint, box):
    predicted(tree, checkpoint)
    first = box(SHAPE, (1, 2), (4, 12), (3, 9)) | box(SHAPE, (1, 2), (20, 23), (14, 18))
    third = box(SHAPE, (3, 4), (5, 9), (5, 9))
    np.testing.assert_array_equal(mask_of(tree, "a"), first | third)
    np.testing.assert_array_equal(mask_of(tree, "unseen"), (first | third)[::-1])
    assert len(filled.shown) == 4, "slices without prompt cost nothing"
    image = read_array(open_store(tree.layout.case_store("a")), "image", 1)
    np.testing.assert_array_equal(filled.shown[0], scale_window(image, 0, 150))


def test_one_box_a_slice_goes_round_all_of_its_lesions(tree, filled, checkpoint, box):  # noqa: ARG001
    predicted(tree, checkpoint, boxes="slice")
    whole = box(SHAPE, (1, 2), (4, 23), (3, 18)) | box(SHAPE, (3, 4), (5, 9), (5, 9))
    np.testing.assert_array_equal(mask_of(tree, "a"), whole)


def test_each_subset_is_prompted_by_its_own_masks(tree, filled, checkpoint):
    assert list(predicted(tree, checkpoint, 2)["cases"]) == ["b"]
    assert not mask_of(tree, "b", 2).any()
    assert filled.shown == []


def test_both_formats_give_the_masks_of_the_network_itself(tree, trained, checkpoint, tmp_path):
    trained.network.save_pretrained(tmp_path / "folder")
    predicted(tree, checkpoint)
    predicted(tree, tmp_path / "folder", name="other")
    store = open_store(tree.layout.case_store("a"))
    image = torch.from_numpy(scale_window(read_array(store, "image", 1), 0, 150))
    found = read_array(store, "label", 1) > 0
    expected = trained.segment(image, prompt_boxes(found)) > 0
    assert 0 < expected.sum() < expected.numel()
    np.testing.assert_array_equal(mask_of(tree, "a")[1], expected)
    for case in ("a", "unseen"):
        np.testing.assert_array_equal(mask_of(tree, case), mask_of(tree, case, name="other"))


def test_it_is_scored_with_the_number_of_its_parameters(tree, filled, checkpoint):
    evaluation = Evaluation(bootstrap_samples=100)
    for subset in (1, 2):
        assert predicted(tree, checkpoint, subset)["parameters"] == 7
        postprocess(tree.layout, "sam", subset, PLAIN)
    evaluate(tree.layout, "sam", (1, 2), evaluation, PLAIN, seed=0, threads=1)
    compare(tree.layout, ["sam"], (1, 2), evaluation, seed=0)
    assert "sam,2," in tree.layout.table(".csv").read_text("utf-8")
    assert predicted(tree, checkpoint)["parameters"] == 7, "also where nothing is made anew"
    assert len(filled.shown) == 4


def test_other_weights_or_prompts_make_it_anew_and_nothing_else_does(
    tree, filled, checkpoint, tmp_path, box
):
    first = predicted(tree, checkpoint)["cases"]
    assert source_changes(tree.layout.sources("predict sam 1")) == ([], {}, False)
    checkpoint.rename(tmp_path / "moved.pth")
    assert predicted(tree, tmp_path / "moved.pth")["cases"] == first
    assert len(filled.shown) == 4
    with (tmp_path / "moved.pth").open("ab") as file:
        file.write(b"0")
    assert source_changes(tree.layout.sources("predict sam 1")).replaced
    other = predicted(tree, tmp_path / "moved.pth")["cases"]
    assert all(first[case] != other[case] for case in first)
    found = box(SHAPE, (0, 1), (4, 8), (4, 8)) * 0.9
    tree.add_predictions("unet", 1, {"a": found, "unseen": read_unseen(tree)})
    postprocess(tree.layout, "unet", 1, PLAIN)
    prompted = predicted(tree, tmp_path / "moved.pth")["cases"]
    assert (prompted["a"] == other["a"], prompted["unseen"] == other["unseen"]) == (False, True)


def read_unseen(tree):
    store = open_store(tree.layout.prediction_store("unet", 1, "unseen"))
    return read_array(store, "probability")


def test_a_case_that_the_prompts_leave_out_is_left_out(tree, filled, checkpoint):
    tree.add_predictions("unet", 1, {"a": np.ones(SHAPE)})
    postprocess(tree.layout, "unet", 1, PLAIN)
    assert list(predicted(tree, checkpoint)["cases"]) == ["a"]
    assert len(filled.shown) == SHAPE[0]


def test_a_test_case_without_prompts_is_told(tree, filled, checkpoint):  # noqa: ARG001
    tree.add_predictions("unet", 1, {"unseen": np.ones(SHAPE)})
    postprocess(tree.layout, "unet", 1, PLAIN)
    assert "case a: no mask in " in refusal(tree, checkpoint)


def test_without_its_weights_one_line_tells_which_to_fetch(tree, tmp_path):
    for path, found in ((None, "not given"), (tmp_path / "no.pth", "no.pth: not there")):
        line = refusal(tree, path)
        assert line.startswith("datasets.tiny.experiments.sam.checkpoint: ")
        assert found in line
        assert "sam_vit_h_4b8939.pth of github.com/facebookresearch/segment-anything" in line
        assert "config.json and model.safetensors of huggingface.co/facebook/sam-vit-huge" in line


def test_an_output_that_is_no_number_is_no_empty_mask(tree):
    store = open_store(tree.layout.case_store("a"))
    prompts = read_array(store, "label") > 0
    with pytest.raises(PipelineError, match="case a: SAM's output is no number in slice 1"):
        segment_case(Filled(float("nan")), store, prompts, SLICES, "component")


def test_a_random_sam_needs_no_file_and_is_always_the_same(tree, caplog):
    first = predicted(tree, "random")
    assert "random weights: its masks mean nothing" in caplog.text
    masks = mask_of(tree, "a")
    again = predicted(tree, "random", name="again")
    assert again == first
    np.testing.assert_array_equal(mask_of(tree, "a", name="again"), masks)
    assert mask_of(tree, "a").any()


def test_the_time_to_load_sam_is_no_patient_s(tree, filled, checkpoint, monkeypatch):
    loaded, started = [], []
    clock = SimpleNamespace(monotonic=lambda: started.append(len(loaded)) or 0.0)
    monkeypatch.setattr("pipeline.predict.time", clock)
    monkeypatch.setattr(module, "load_public_sam", lambda *_: loaded.append(filled) or filled)
    predicted(tree, checkpoint)
    assert set(started) == {1}
