"""Scores from counts: by hand, against independent implementations, and by their laws."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sklearn_metrics

from grcsf.metrics import (
    VoxelCounts,
    count_voxels,
    dice,
    f1,
    fpr_percent,
    iou,
    mean_defined,
    precision,
    recall,
    voe,
    voxel_scores,
)

# Table 2: F1, sensitivity, PPV, VOE of the one patient, with and without post-processing.
TABLE_2 = {
    "UNet": ((0.889, 0.808, 0.989, 0.009), (0.743, 0.808, 0.687, 0.368)),
    "UNet++": ((0.921, 0.859, 0.992, 0.007), (0.843, 0.859, 0.828, 0.178)),
    "DeepLabv3": ((0.971, 0.951, 0.992, 0.008), (0.636, 0.951, 0.478, 1.041)),
    "SwinUnet": ((0.467, 0.323, 0.843, 0.060), (0.400, 0.323, 0.525, 0.292)),
    "TransUnet": ((0.806, 0.730, 0.900, 0.081), (0.804, 0.730, 0.895, 0.085)),
    "SPiN": ((0.851, 0.746, 0.990, 0.009), (0.842, 0.746, 0.967, 0.033)),
    "TransFuse": ((0.811, 0.682, 1.000, 0.000), (0.513, 0.682, 0.410, 0.981)),
    "UTNet": ((0.939, 0.886, 0.999, 0.001), (0.825, 0.886, 0.771, 0.263)),
    "SAM": ((0.913, 0.841, 0.999, 0.001), (0.703, 0.841, 0.604, 0.552)),
    "GRCSF": ((0.885, 0.799, 0.992, 0.006), (0.856, 0.799, 0.921, 0.068)),
}

masks = hnp.arrays(np.bool_, (3, 4, 5))
voxels = st.integers(0, 1000)
any_counts = st.builds(VoxelCounts, voxels, voxels, voxels, voxels)


def counts_of_shares(sensitivity: float, ppv: float) -> VoxelCounts:
    """Counts of a reference of a million voxels with the printed sensitivity and PPV."""
    tp = round(1e6 * sensitivity)
    return VoxelCounts(tp, round(tp * (1 / ppv - 1)), 1_000_000 - tp)


def test_counts_and_scores_by_hand():
    prediction, reference = np.zeros((2, 1, 5), bool), np.zeros((2, 1, 5), bool)
    prediction[0, 0, :4] = True
    reference[0, 0, 2:] = True
    reference[1, 0, 0] = True
    counts = count_voxels(prediction, reference)
    assert counts == VoxelCounts(tp=2, fp=2, fn=2, tn=4)
    scores = voxel_scores(counts)
    assert list(scores) == ["dice", "iou", "precision", "recall", "voe", "fpr_percent"]
    assert list(scores.values()) == pytest.approx([0.5, 1 / 3, 0.5, 0.5, 0.5, 100 / 3])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (VoxelCounts(0, 0, 0, 10), (1, 1, 1, 1, 0, 0)),
        (VoxelCounts(0, 3, 0, 7), (0, 0, 0, math.nan, math.nan, 30)),
        (VoxelCounts(0, 0, 3, 7), (0, 0, 0, 0, 0, 0)),
        (VoxelCounts(10, 0, 0, 0), (1, 1, 1, 1, 0, math.nan)),
    ],
)
def test_empty_masks_follow_the_conventions(counts, expected):
    assert tuple(voxel_scores(counts).values()) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("method", TABLE_2)
def test_table_2_f1_and_voe_with_post_processing(method):
    for printed, sensitivity, ppv, _ in TABLE_2[method]:
        assert f1(counts_of_shares(sensitivity, ppv)) == pytest.approx(printed, abs=0.001)
    _, sensitivity, ppv, printed = TABLE_2[method][0]
    assert voe(counts_of_shares(sensitivity, ppv)) == pytest.approx(printed, abs=0.002)


def test_table_2_voe_without_post_processing_misses_in_one_row():
    misses = []
    for method, (_, (_, sensitivity, ppv, printed)) in TABLE_2.items():
        # PPV is printed to ±0.0005, which moves DeepLabv3's VOE (PPV 0.478) by 0.0021.
        rounding = 0.0005 * sensitivity / ppv**2
        error = abs(voe(counts_of_shares(sensitivity, ppv)) - printed)
        if error > max(0.002, rounding + 0.001):
            misses.append(method)
    assert misses == ["SPiN"]


@given(masks, masks, st.permutations(range(60)))
def test_agrees_with_sklearn_and_monai_and_is_blind_to_order(prediction, reference, order):
    from monai.metrics import DiceMetric, MeanIoU  # here: it takes seconds

    counts = count_voxels(prediction, reference)
    tn, fp, fn, tp = sklearn_metrics.confusion_matrix(
        reference.ravel(), prediction.ravel(), labels=[False, True]
    ).ravel()
    assert counts == VoxelCounts(tp, fp, fn, tn)
    flat = reference.ravel(), prediction.ravel()
    if reference.any() and prediction.any():
        assert precision(counts) == pytest.approx(sklearn_metrics.precision_score(*flat))
        assert recall(counts) == pytest.approx(sklearn_metrics.recall_score(*flat))
        assert f1(counts) == pytest.approx(sklearn_metrics.f1_score(*flat))
    tensors = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, reference)]
    assert dice(counts) == pytest.approx(DiceMetric(ignore_empty=False)(*tensors).item())
    assert iou(counts) == pytest.approx(MeanIoU(ignore_empty=False)(*tensors).item())
    swapped = count_voxels(reference, prediction)
    assert (dice(counts), iou(counts)) == (dice(swapped), iou(swapped))
    shuffled = [mask.ravel()[list(order)].reshape(mask.shape) for mask in (prediction, reference)]
    assert count_voxels(*shuffled) == counts


@given(any_counts)
def test_bounds_and_relations(counts):
    overlap, union_share = dice(counts), iou(counts)
    assert 0 <= union_share <= overlap <= 1
    assert overlap == pytest.approx(2 * union_share / (1 + union_share))
    assert 0 <= precision(counts) <= 1
    assert math.isnan(recall(counts)) or 0 <= recall(counts) <= 1
    assert math.isnan(recall(counts)) == math.isnan(voe(counts))
    assert math.isnan(fpr_percent(counts)) or 0 <= fpr_percent(counts) <= 100
    if counts.tp:
        harmonic = 2 / (1 / precision(counts) + 1 / recall(counts))
        assert f1(counts) == pytest.approx(harmonic)
        assert voe(counts) == pytest.approx(recall(counts) * (1 / precision(counts) - 1))


def test_undefined_values_are_left_out_and_counted():
    assert mean_defined([1.0, math.nan, 2.0]) == (1.5, 1)
    assert mean_defined([math.nan, math.nan]) == pytest.approx((math.nan, 2), nan_ok=True)
    assert math.isnan(mean_defined([])[0])


@pytest.mark.parametrize(
    ("other", "message"),
    [(np.zeros((2, 2, 3), bool), "shape"), (np.zeros((2, 2, 2), np.uint8), "boolean")],
)
def test_refuses_masks_that_do_not_fit(other, message):
    with pytest.raises(ValueError, match=message):
        count_voxels(np.zeros((2, 2, 2), bool), other)
