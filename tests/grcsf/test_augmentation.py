"""Varied slices by hand: image, maps and label move together; intensities are the image's alone."""

import numpy as np
import pytest
import torch

from grcsf.augmentation import BEND_POINTS, Strengths, Variation, draw_variations, varied

SEED = (5, 0, 3)
ALL = Strengths(flip=0.5, rotate=30, scale=0.2, shift=0.1, elastic=0.03, gamma=0.2, noise=0.05)
STILL = torch.zeros(1, 2, BEND_POINTS, BEND_POINTS)


def variation(**given):
    nothing = {"mirrored": False, "degrees": 0.0, "scale": 1.0, "shift": (0.0, 0.0)}
    nothing |= {"bend": STILL, "exponent": 1.0, "noise": 0.0, "noise_seed": 1}
    return Variation(**{**nothing, **given})


def batch_of(plane, slices=1):
    """Slices, two signed maps of each and labels, all made of one plane of {0, 1}."""
    image = torch.as_tensor(plane, dtype=torch.float32).expand(slices, 1, *np.shape(plane))
    residuals = torch.cat([-image, 0.5 * image], dim=1)
    return {"image": 0.5 * image, "residuals": residuals, "label": image.clone()}


def noise(slices=3, size=(24, 20)):
    random = np.random.default_rng(0)
    image, maps = random.random((slices, 1, *size)), random.uniform(-1, 1, (slices, 2, *size))
    parts = {"image": image, "residuals": maps, "label": random.random((slices, 1, *size)) < 0.3}
    return {key: torch.from_numpy(part).float() for key, part in parts.items()}


def test_nothing_changes_at_strengths_of_0():
    batch = noise()
    after = varied(batch, draw_variations(Strengths(), 3, SEED))
    assert after.keys() == batch.keys()
    assert all(torch.equal(after[key], batch[key]) for key in batch)


PLANE = [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"mirrored": True}, [[0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]),
        ({"degrees": 90.0}, [[1, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]),
        ({"shift": (0.25, 0.0)}, [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]]),
        ({"shift": (0.0, -0.5)}, [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        (  # mirrored before it is turned
            {"mirrored": True, "degrees": 180.0},
            [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0]],
        ),
        # every point takes what lies half a width to its right
        (
            {"bend": STILL + torch.tensor([0.5, 0]).view(1, 2, 1, 1)},
            [[0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]],
        ),
    ],
    ids=["mirrored", "turned", "right", "up", "mirrored and turned", "bent"],
)  # fmt: skip
def test_image_maps_and_label_move_together(how, expected):
    after = varied(batch_of(PLANE), [variation(**how)])
    for key, part in batch_of(expected).items():
        torch.testing.assert_close(after[key], part, atol=1e-5, rtol=0)


def test_a_square_grows_and_what_comes_from_outside_is_0():
    square = np.zeros((8, 8))
    square[3:5, 3:5] = 1
    grown = varied(batch_of(square), [variation(scale=2.0)])["label"]
    assert grown[..., 2:6, 2:6].sum() == grown.sum() == 16
    shrunk = varied(batch_of(np.ones((8, 8))), [variation(scale=0.5)])
    for part in shrunk.values():
        assert torch.equal(part[..., 0, :], torch.zeros_like(part[..., 0, :]))
        assert torch.equal(part[..., 3:5, 3:5], torch.ones(2, 2) * part[..., 3:4, 3:4])


def test_signed_maps_keep_their_values_and_labels_stay_whole():
    batch = {**noise(8), "residuals": -torch.ones(8, 2, 24, 20)}
    after = varied(batch, draw_variations(ALL, 8, SEED))
    middle = after["residuals"][..., 11:13, 9:11]
    torch.testing.assert_close(middle, -torch.ones_like(middle))
    assert float(after["residuals"].min()) >= -1 - 1e-5
    assert set(after["label"].unique().tolist()) == {0.0, 1.0}
    assert 0 <= float(after["image"].min()) < float(after["image"].max()) <= 1


@pytest.mark.parametrize("strengths", [Strengths(gamma=0.5), Strengths(noise=0.1)])
def test_intensities_change_in_the_image_alone(strengths):
    batch = noise()
    after = varied(batch, draw_variations(strengths, 3, SEED))
    assert torch.equal(after["residuals"], batch["residuals"])
    assert torch.equal(after["label"], batch["label"])
    assert (after["image"] != batch["image"]).float().mean() > 0.9
    assert float(after["image"].min()) >= 0
    assert float(after["image"].max()) <= 1


def test_exponent_and_noise_by_hand():
    plain = {"image": torch.full((1, 1, 100, 100), 0.25)}
    assert varied(plain, [variation(exponent=0.5)])["image"].unique().tolist() == [0.5]
    grain = varied(plain, [variation(noise=0.05)])["image"] - 0.25
    assert float(grain.std()) == pytest.approx(0.05, rel=0.05)
    assert float(grain.mean()) == pytest.approx(0, abs=0.002)


def test_variations_stay_within_their_strengths_and_reach_them():
    drawn = draw_variations(ALL, 400, SEED)
    assert 0.4 < np.mean([how.mirrored for how in drawn]) < 0.6
    ranges = {
        "degrees": ([how.degrees for how in drawn], -30, 30),
        "scale": ([how.scale for how in drawn], 0.8, 1.2),
        "right": ([how.shift[0] for how in drawn], -0.1, 0.1),
        "down": ([how.shift[1] for how in drawn], -0.1, 0.1),
        "bend": ([float(how.bend[0, 0, 0, 0]) for how in drawn], -0.03, 0.03),
        "exponent": ([how.exponent for how in drawn], 1 / 1.2, 1.2),
        "noise": ([how.noise for how in drawn], 0, 0.05),
    }
    for name, (values, low, high) in ranges.items():
        slack = 0.02 * (high - low)
        assert low - 1e-6 <= min(values) < low + slack, name
        assert high - slack < max(values) <= high + 1e-6, name


def test_a_seed_decides_every_bit_and_each_slice_epoch_and_batch_has_its_own():
    batch = batch_of(np.eye(24), 2)
    first = varied(batch, draw_variations(ALL, 2, SEED))
    again = varied(batch, draw_variations(ALL, 2, SEED))
    assert all(torch.equal(first[key], again[key]) for key in batch)
    assert not torch.equal(*first["image"]), "two slices of a batch"
    for other in ((5, 1, 3), (5, 0, 4), (6, 0, 3)):
        after = varied(batch, draw_variations(ALL, 2, other))
        assert not torch.equal(first["image"], after["image"])
    assert torch.equal(batch["image"], batch_of(np.eye(24), 2)["image"]), "the batch stays"


def test_one_strength_changes_nothing_in_how_other_parts_vary():
    alone = draw_variations(Strengths(rotate=30), 4, SEED)
    assert [how.degrees for how in alone] == [how.degrees for how in draw_variations(ALL, 4, SEED)]


def test_half_precision_of_a_training_does_not_move_pixels():
    batch, drawn = noise(), draw_variations(ALL, 3, SEED)
    plain = varied(batch, drawn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under = varied(batch, drawn)
    assert all(torch.equal(plain[key], under[key]) for key in batch)
