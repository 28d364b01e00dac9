"""Writes a small SAM of random weights, to run `config/table1-small.yaml` without SAM's own.

Run as `python benchmarks/small_sam.py results/table1-small/small-random-sam.pth [--seed 0]`. It has
SAM's parts in small and knows nothing: what it segments says that the stage runs, and no more. The
file holds the seed beside the weights.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from grcsf.models.peers.sam import Sam, SamSizes

SMALL = SamSizes(
    image_size=128,
    width=48,
    depth=2,
    heads=2,
    mlp=96,
    window=3,  # of a grid of 8, so that maps are padded, as SAM's are
    global_blocks=(1,),
    prompt_width=32,
    decoder_mlp=32,
    iou_width=16,
)


def main() -> None:
    """Write the file, and say what it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    write_sam(options.path, options.seed)
    print(f"{options.path}: a small SAM of random weights, seed {options.seed}")


def write_sam(path: Path, seed: int) -> None:
    """Write the weights that this seed draws, as a `checkpoint` of `model: sam`."""
    torch.manual_seed(seed)
    sam = Sam(SMALL)
    for value in sam.parameters():
        value.normal_(std=0.3)  # positions and biases would start at 0
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": sam.network.state_dict(), "seed": seed}, path)


if __name__ == "__main__":
    main()
