"""SAM: boxes, images and masks by hand, and every stage against the published network."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from grcsf.complexity import paper_counts, parameter_count, true_macs
from grcsf.models.peers import sam as module
from grcsf.models.peers.sam import (
    Sam,
    SamSizes,
    prepare_image,
    prompt_boxes,
    resize_image,
    restore_size,
    scale_boxes,
)
from grcsf.models.peers.sam_checkpoint import sam_from_state, sam_sizes, to_transformers
from tests.grcsf.models.peers.public_sam import SMALL, public_state, random_sam

BOXES = torch.tensor([[3.0, 4.0, 20.0, 12.0], [0.0, 0.0, 8.0, 30.0]])


@pytest.fixture(scope="module")
def small():
    return random_sam()


@pytest.fixture
def image():
    torch.manual_seed(1)
    return torch.rand(31, 45)


@pytest.fixture(scope="module")
def published(shared_dir):
    folder = shared_dir / "peers" / "sam"
    if not folder.is_dir():
        pytest.skip(f"no stages of the published SAM: {folder} does not exist (set GRCSF_SHARED)")
    return folder


def encodings(sam, monkeypatch):
    """A list that grows by one with each run of the image encoder."""
    runs = []
    forward = sam.network.vision_encoder.forward
    monkeypatch.setattr(
        sam.network.vision_encoder, "forward", lambda *a, **k: runs.append(1) or forward(*a, **k)
    )
    return runs


def test_boxes_by_hand():
    mask = np.zeros((6, 9), bool)
    mask[1, 2] = mask[2, 3] = mask[3, 2] = True  # one component, by its corners
    mask[0:5, 7] = True
    boxes = prompt_boxes(mask)
    assert boxes.dtype == torch.float32
    assert sorted(boxes.tolist()) == [[2, 1, 3, 3], [7, 0, 7, 4]]
    assert prompt_boxes(mask, "slice").tolist() == [[2, 0, 7, 4]]


@pytest.mark.parametrize("boxes", ["component", "slice"])
def test_a_slice_without_lesion_has_no_box(boxes):
    assert prompt_boxes(np.zeros((6, 9), bool), boxes).shape == (0, 4)


def test_other_masks_and_other_boxes_are_refused():
    with pytest.raises(ValueError, match=r"expected \(h, w\) bool"):
        prompt_boxes(np.zeros((6, 9), np.uint8))
    with pytest.raises(ValueError, match=r"expected \(h, w\) bool"):
        prompt_boxes(np.zeros((1, 6, 9), bool))
    with pytest.raises(ValueError, match="expected component or slice"):
        prompt_boxes(np.zeros((6, 9), bool), "lesion")


def test_an_image_is_256_levels_resized_normalised_and_then_padded():
    prepared = prepare_image(torch.full((50, 72), 100 / 255), 128)
    assert prepared.shape == (1, 3, 128, 128)
    red, green, blue = (100 - 123.675) / 58.395, (100 - 116.28) / 57.12, (100 - 103.53) / 57.375
    inside = prepared[0, :, :89]  # 50 · 128 / 72 = 88.9 rows
    expected = torch.tensor([red, green, blue])[:, None, None].expand_as(inside)
    torch.testing.assert_close(inside, expected)
    assert (prepared[0, :, 89:] == 0).all()


def test_levels_are_rounded_and_the_longer_side_of_a_large_slice_shrinks():
    levels = resize_image(torch.tensor([[0.0, 1.0], [127.6 / 255, 127.4 / 255]]), 2)
    assert levels.tolist() == [[0, 255], [128, 127]]
    assert resize_image(torch.rand(300, 101), 128).shape == (128, 43)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan")])
def test_a_slice_outside_of_0_to_1_is_refused(value):
    with pytest.raises(ValueError, match=r"expected \[0, 1\]"):
        resize_image(torch.full((4, 4), value), 8)


def test_boxes_are_scaled_by_each_axis_of_the_resized_slice():
    scaled = scale_boxes(torch.tensor([[9.0, 10.0, 18.0, 50.0]]), (50, 72), 128)
    torch.testing.assert_close(scaled, torch.tensor([[16.0, 17.8, 32.0, 89.0]]))


def test_logits_come_back_without_the_padding():
    low = torch.ones(2, 8, 8)
    low[1, 4:] = -9  # below the slice of 20 rows of 40
    logits = restore_size(low, (20, 40), 32)
    assert logits.shape == (2, 20, 40)
    torch.testing.assert_close(logits[0], torch.ones(20, 40))
    torch.testing.assert_close(logits[1, :15], torch.ones(15, 40))  # bilinear mixes the last rows


def test_without_boxes_the_encoder_does_not_run_and_nothing_is_lesion(small, image, monkeypatch):
    runs = encodings(small, monkeypatch)
    logits = small(image[None, None], [torch.zeros(0, 4)])
    assert not runs
    assert logits.shape == (1, 1, 31, 45)
    assert (logits.sigmoid() == 0).all()


def test_all_boxes_share_one_encoding_and_their_masks_unite(small, image, monkeypatch):
    alone = [small.segment(image, box[None]) for box in BOXES]
    runs = encodings(small, monkeypatch)
    for boxes_a_pass in (1, 16):
        monkeypatch.setattr(module, "BOXES_A_PASS", boxes_a_pass)
        together = small.segment(image, BOXES)
        torch.testing.assert_close(together, torch.maximum(*alone), atol=1e-5, rtol=1e-4)
    assert len(runs) == 2
    assert not torch.equal(alone[0], alone[1])


def test_each_slice_of_a_batch_has_its_own_boxes(small, image, monkeypatch):
    runs = encodings(small, monkeypatch)
    flipped = image.flip(0)
    images = torch.stack([image, image, flipped])[:, None]
    logits = small(images, [BOXES[:1], torch.zeros(0, 4), BOXES])
    assert len(runs) == 2
    assert torch.equal(logits[0, 0], small.segment(image, BOXES[:1]))
    assert (logits[1] < -100).all()
    assert torch.equal(logits[2, 0], small.segment(flipped, BOXES))
    assert logits.isfinite().all()


def test_other_shapes_are_refused(small, image):
    with pytest.raises(ValueError, match=r"expected \(B, 1, h, w\)"):
        small(image[None], [BOXES])
    with pytest.raises(ValueError, match="boxes of 2 slices, expected of 1"):
        small(image[None, None], [BOXES, BOXES])
    with pytest.raises(ValueError, match=r"expected \(k, 4\)"):
        small.segment(image, BOXES[0])


def test_an_empty_slice_gives_finite_logits(small):
    assert small.segment(torch.zeros(17, 90), BOXES).isfinite().all()


def test_bfloat16_is_the_encoder_s_alone(small, image):
    exact = small.embed(image)
    with torch.autocast("cpu", torch.bfloat16):
        embedding = small.embed(image)
        logits = small.box_logits(embedding, BOXES, (31, 45))
    assert not torch.equal(embedding, exact)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    assert torch.equal(logits, small.box_logits(embedding, BOXES, (31, 45)))


def test_nothing_of_it_is_trained(small):
    assert not any(value.requires_grad for value in small.parameters())
    read = sam_from_state(public_state(small))
    assert not any(value.requires_grad for value in read.parameters())


def test_norms_of_the_decoder_are_as_published():
    with torch.device("meta"):
        decoder = Sam(SMALL).network.mask_decoder.transformer
    norms = [part for part in decoder.modules() if isinstance(part, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}


def test_vit_h_has_the_counts_of_table_1():
    pytest.importorskip("thop")
    with torch.device("meta"):
        sam = Sam()
        images = torch.empty(4, 3, 1024, 1024)
    # 641,090,608 as published; the positions' matrix is a parameter in transformers: 2 · 128
    assert parameter_count(sam) == 641_090_864
    # the table has the encoder alone, for four images
    encoder = sam.network.vision_encoder
    macs, parameters = paper_counts(encoder, images)
    assert parameters == 631_579_904  # without bare parameters and norms over channels
    assert f"{macs / 1e9:.2f}" == "10934.57"
    assert f"{true_macs(encoder, images) / 1e9:.2f}" == "11922.17"


def test_both_namings_give_the_same_network(small, image):
    own = small.network.state_dict()
    once = {name: value for name, value in own.items() if "shared_embedding" not in name}
    expected = small.segment(image, BOXES)
    for state in (public_state(small), own, once, {"model": own}):
        read = sam_from_state(state)
        assert read.sizes == SMALL
        assert torch.equal(read.segment(image, BOXES), expected)


def test_weights_in_half_precision_are_read_as_float32(small, image):
    state = {name: value.half() for name, value in public_state(small).items()}
    assert sam_from_state(state).segment(image, BOXES).dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"image_encoder.pos_embed": None}, "vision_encoder.pos_embed is missing"),
        ({"image_encoder.neck.2.weight": None}, "1 missing (vision_encoder.neck.conv2.weight)"),
        ({"image_encoder.head.weight": torch.zeros(1)}, "1 unexpected (image_encoder.head.weight)"),
        ({"mask_decoder.iou_token.weight": torch.zeros(2, 32)}, "1 mis-shaped (mask_decoder.iou_"),
        (
            {"mask_decoder.iou_token.weight": torch.full((1, 32), torch.nan)},
            "1 not finite (mask_decoder.iou_token.weight)",
        ),
        ({"prompt_encoder.no_mask_embed.weight": "text"}, "is str, not a tensor"),
        ({3: torch.zeros(1)}, "entry 3 is named by int, not by text"),
        ({"image_encoder.patch_embed.proj.weight": torch.zeros(24, 3, 0, 0)}, "patch_size of 0"),
        ({"image_encoder.blocks.0.attn.rel_pos_h": torch.zeros(5, 25)}, "tell heads of 0"),
        (
            {"mask_decoder.iou_token.weight": torch.full((1, 32), 1e300, dtype=torch.float64)},
            "1 not finite (mask_decoder.iou_token.weight)",
        ),
    ],
)
def test_an_unfit_state_is_refused_in_one_line(small, change, refusal):
    state = public_state(small) | change
    with pytest.raises(ValueError, match=r"SAM|tensor|text") as raised:
        sam_from_state({name: value for name, value in state.items() if value is not None})
    assert refusal in str(raised.value)
    assert "\n" not in str(raised.value)


def test_two_different_matrices_of_positions_are_refused(small):
    state = dict(small.network.state_dict())
    name = "shared_image_embedding.positional_embedding"
    state[name] = state[name] + 1
    with pytest.raises(ValueError, match="differ, expected one matrix"):
        sam_from_state(state)


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match=r"no weights of SAM: vision_encoder.pos_embed is missing"):
        sam_from_state(torch.nn.Linear(2, 2).state_dict())


def test_the_public_vit_h_file_s_names_are_all_known(published):
    names = json.loads((published / "vit_h_state_names.json").read_text("utf-8"))
    with torch.device("meta"):
        state = to_transformers({name: torch.empty(shape) for name, shape in names.items()})
        wanted = Sam().network.state_dict()
    assert sam_sizes(state) == SamSizes()
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in wanted.items()
    }


def test_every_stage_is_the_published_one(published):
    stages = np.load(published / "small.npz", allow_pickle=False)
    tolerance = json.loads((published / "small.json").read_text("utf-8"))["tolerance_in_std"]
    sam = sam_from_state(load_file(published / "small.safetensors"), decoder_heads=2)
    image = torch.from_numpy(stages["image_uint8"]).float() / 255
    size, boxes = tuple(image.shape), torch.from_numpy(stages["boxes_xyxy"])

    def assert_equal(found, stage):
        expected = torch.from_numpy(stages[stage])
        assert found.shape == expected.shape
        assert (found - expected).abs().max() / expected.std() < tolerance, stage

    resized = resize_image(image, sam.sizes.image_size)
    assert (resized[..., None] == stages["resized_uint8"]).all()
    embedding = sam.embed(image)
    assert_equal(embedding, "image_embedding")
    low, iou = sam.decode(embedding, boxes, size)
    assert_equal(low[:, None], "low_res_logits")
    assert_equal(iou[:, None], "iou_single")
    assert_equal(sam.box_logits(embedding, boxes, size)[:, None], "logits")
    union = torch.from_numpy(stages["logits"]).amax(0)
    torch.testing.assert_close(sam.segment(image, boxes), union[0], atol=1e-4, rtol=0)
