"""Masks of hidden patches: for reconstruction, fixed by the slice alone, and for training.

Polarity everywhere: 1 = masked (hidden from the encoder), 0 = visible.
"""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Scheme = Literal["random", "stratified"]
STEP = 8  # `tissue_masks` show a multiple of so many patches, so that slices share a forward


def masked_count(patches: int, mask_ratio: float) -> int:
    """Number of masked patches of a slice: round(patches × mask_ratio).

    Args:
        patches: patches of a slice, L.
        mask_ratio: share of masked patches, in (0, 1).

    Raises:
        ValueError: no patch would be masked, or none left visible.
    """
    count = round(patches * mask_ratio)
    if not 0 < count < patches:
        raise ValueError(f"mask ratio {mask_ratio:g} masks {count} of {patches} patches")
    return count


def slice_masks(
    *,
    seed: int,
    case: str,
    slice_index: int,
    mask_ratio: float,
    passes: int,
    patches: int,
    scheme: Scheme,
) -> NDArray[np.bool_]:
    """The masks of one slice's reconstruction passes (section 3.3.1).

    They depend on these arguments only, never on batch, order or worker. The mask of pass k does
    not depend on the number of passes that follow. `random` draws every pass on its own (the
    paper). `stratified` masks all patches equally often, as far as the passes allow: counts differ
    by at most 1, and are equal for 2 passes at 50 % and 4 at 75 %.

    Args:
        seed: the run's seed.
        case: the case's name.
        slice_index: z of the slice.
        mask_ratio: share of masked patches, in (0, 1).
        passes: number of masks, at least 1.
        patches: patches of a slice, L.
        scheme: `random` or `stratified`.

    Returns:
        (passes, L) bool, 1 = masked; every row masks round(L × mask_ratio) patches.

    Raises:
        ValueError: an unknown scheme, no passes, or a ratio that masks none or all patches.
    """
    if passes < 1:
        raise ValueError(f"passes is {passes}, expected at least 1")
    count = masked_count(patches, mask_ratio)

    def shuffled(index: int) -> NDArray[np.int64]:
        key = (int(seed), case, int(slice_index), float(mask_ratio), scheme, index)
        return _permutation(key, patches)

    if scheme == "random":
        chosen = [shuffled(index)[:count] for index in range(passes)]
    elif scheme == "stratified":
        chosen = _dealt(shuffled, passes, count)
    else:
        raise ValueError(f"no mask scheme is called {scheme!r}; there are: random, stratified")
    masks = np.zeros((passes, patches), dtype=np.bool_)
    for row, indices in zip(masks, chosen, strict=True):
        row[indices] = True
    return masks


def tissue_masks(
    tissue: NDArray[np.bool_],
    *,
    seed: int,
    case: str,
    slice_index: int,
    mask_ratio: float,
    passes: int,
) -> NDArray[np.bool_]:
    """`stratified` masks of the patches with tissue; every pass hides nearly all background.

    The encoder sees a share of the tissue, as the paper's outlook proposes (section 6: masks on
    regions of interest). Background patches fill the number of visible ones up to a multiple of 8,
    as far as there are any.

    Args:
        tissue: (L,) bool, 1 = shows tissue.
        seed: see `slice_masks`.
        case: see `slice_masks`.
        slice_index: see `slice_masks`.
        mask_ratio: smallest share of the tissue's patches that a pass masks, in (0, 1); at least
            one patch stays visible.
        passes: see `slice_masks`.

    Returns:
        (passes, L) bool, 1 = masked; every row masks the same number of patches.

    Raises:
        ValueError: no passes, or fewer than two patches of tissue.
    """
    inside, outside = np.flatnonzero(tissue), np.flatnonzero(~tissue)
    # rounded up, so that every patch is hidden in some pass wherever the ratio allows it
    count = min(len(inside) - 1, math.ceil(len(inside) * mask_ratio - 1e-9))
    masks = np.ones((passes, len(tissue)), dtype=np.bool_)
    masks[:, inside] = slice_masks(
        seed=seed,
        case=case,
        slice_index=slice_index,
        mask_ratio=count / len(inside),
        passes=passes,
        patches=len(inside),
        scheme="stratified",
    )
    shown = -(len(inside) - count) % STEP
    for index, row in enumerate(masks):
        key = (int(seed), case, int(slice_index), float(mask_ratio), "background", index)
        row[outside[_permutation(key, len(outside))[:shown]]] = False
    return masks


def training_masks(
    generator: torch.Generator, batch: int, patches: int, mask_ratio: float
) -> Tensor:
    """Independent random masks for a training batch.

    Args:
        generator: the source of randomness; the masks lie on its device.
        batch: images in the batch, B.
        patches: patches of an image, L.
        mask_ratio: share of masked patches, in (0, 1).

    Returns:
        (B, L) bool, 1 = masked; every row masks round(L × mask_ratio) patches.

    Raises:
        ValueError: a ratio that masks none or all patches.
    """
    count = masked_count(patches, mask_ratio)
    device = generator.device
    order = torch.rand(batch, patches, generator=generator, device=device).argsort(dim=1)
    masks = torch.zeros(batch, patches, dtype=torch.bool, device=device)
    return masks.scatter_(1, order[:, :count], True)


def coverage(masks: Tensor) -> tuple[int, float]:
    """How often a patch is masked: the minimum and the mean.

    Args:
        masks: (..., K, L) bool, 1 = masked.

    Returns:
        The minimum over all slices and patches (0: no pass reconstructs some patch), and the mean,
        which is K times the mask ratio, or more where `tissue_masks` hide background, too.
    """
    times = masks.sum(dim=-2)
    return int(times.min()), float(times.double().mean())


def _dealt(
    shuffled: Callable[[int], NDArray[np.int64]], passes: int, count: int
) -> list[NDArray[np.int64]]:
    """Deal masked patches from one shuffled deck after another, never a patch twice in a pass.

    A whole deck masks every patch once, so no two patches' totals ever differ by more than one.
    """
    deck = shuffled(0)
    decks = 1
    chosen = []
    for _ in range(passes):
        hand, deck = deck[:count], deck[count:]
        if missing := count - len(hand):
            fresh = shuffled(decks)
            decks += 1
            # Patches of this hand stay in the deck for the passes that follow.
            drawn = fresh[~np.isin(fresh, hand)][:missing]
            deck = fresh[~np.isin(fresh, drawn)]
            hand = np.concatenate([hand, drawn])
        chosen.append(hand)
    return chosen


def _permutation(key: tuple[int | float | str, ...], size: int) -> NDArray[np.int64]:
    """A permutation of range(size), the same on every machine and numpy version.

    numpy guarantees only the bit generator's raw stream (NEP 19), not `permutation`.
    """
    digest = hashlib.sha256(json.dumps(key).encode()).digest()
    bits = np.random.Philox(key=np.frombuffer(digest[:16], dtype="<u8").astype(np.uint64))
    return np.argsort(bits.random_raw(size), kind="stable")
