"""The small SAM of the small comparison: its seed's, told in the file, and readable as any SAM."""

import torch
from small_sam import SMALL, write_sam

from pipeline.networks.public_checkpoints import load_public_sam


def test_a_small_sam_is_what_its_seed_draws_and_can_be_read(tmp_path):
    paths = [tmp_path / f"{name}.pth" for name in "abc"]
    for path, seed in zip(paths, (3, 3, 4), strict=True):
        write_sam(path, seed)
    first, again, other = (load_public_sam(path, "checkpoint") for path in paths)
    assert first.sizes == SMALL
    name = "mask_decoder.iou_token.weight"
    weights = [one.network.state_dict()[name] for one in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert torch.load(paths[2], weights_only=True)["seed"] == 4
