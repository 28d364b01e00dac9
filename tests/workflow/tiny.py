"""Two tiny data sets: phantoms as anybody's own images, and phantoms that the workflow writes."""

import csv
import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline.datasets.phantoms.phantom import write_phantom

ROLES = ("train", "train", "validation", "test", "test", "train", "test")
LISTED = 5  # of the images; the others join later


def write_images(folder: Path) -> None:
    """Head phantoms, the first five of them listed with roles."""
    write_phantom("head", folder, cases=len(ROLES), seed=3, shape=(10, 40, 32))
    list_images(folder, range(LISTED))


def write_weights(folder: Path, seed: int) -> None:
    """Weights for the MAE to start from."""
    # imported here: it takes seconds, and most tests do without
    import torch

    from grcsf.mae.model import build_mae

    torch.manual_seed(seed)
    model = build_mae("tiny", image_size=32, patch_size=8)
    torch.save(model.state_dict(), folder / "weights.pth")


def write_start(path: Path, seed: int) -> None:
    """A public ResNet for an experiment of `started` to start from."""
    import torch

    from grcsf.models.peers.trans_fuse import ConvolutionalBranch

    torch.manual_seed(seed)
    branch = ConvolutionalBranch(3, 1, (1, 2, 4), (3, 4, 6), 0.2)
    torch.save(branch.state_dict(), path)


def started(path: str, network: dict) -> dict:
    """An experiment that starts from public weights, of the training of `network`."""
    return {**network, "model": "trans_fuse", "width": 1, "pretrained": path}


def write_sam(folder: Path, seed: int) -> None:
    """Weights for `sam` of `with_untrained`."""
    import torch

    from tests.grcsf.models.peers.public_sam import public_state, random_sam

    torch.save(public_state(random_sam(seed)), folder / "sam.pth")


def give(folder: Path, number: int) -> Path:
    """The mask of a case among the given predictions of `with_untrained`: the reference itself."""
    given = folder / "given" / f"c{number}.nii.gz"
    given.parent.mkdir(exist_ok=True)
    shutil.copy(label_of(folder / "images", number), given)
    return given


def list_images(folder: Path, numbers: Iterable[int]) -> None:
    """A manifest of these cases."""
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "image", "label", "role"])
        for number in numbers:
            paths = (image_of(folder, number), label_of(folder, number))
            relative = [path.relative_to(folder) for path in paths]
            writer.writerow([f"c{number}", *relative, ROLES[number]])


def image_of(folder: Path, number: int) -> Path:
    return sorted(folder.rglob("*_T1w.nii.gz"))[number]


def label_of(folder: Path, number: int) -> Path:
    return sorted(folder.rglob("*mask.nii.gz"))[number]


def configuration() -> dict:
    """`head`, listed with roles, and `heart`, with phantoms, a drawn split and calcium scores.

    The MAE of `head` starts from `write_weights`.
    """
    training = {"epochs": 2, "batch_size": 8, "warmup_epochs": 1, "lesion_free_fraction": 0.3}
    network = {"width": 4, "training": training}
    mae = {"preset": "tiny", "image_size": 32, "patch_size": 8, "epochs": 1, "batch_size": 16}
    mae["checkpoint"] = "weights.pth"
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
    rcu = {"patch_sizes": [4, 4, 8]}
    head = {
        "source": {"adapter": "manifest", "root": "images", "modality": "MR"},
        "slices": {"size": [40, 32], "percentiles": [0, 99.9]},
        "mae": {"shared": mae},
        "residuals": {"mrm": {"preset": "fast", "maps": maps}},
        "experiments": {
            "unet": {"model": "unet", **network},
            "grcsf": {"model": "grcsf", "residuals": "mrm", "rcu": rcu, **network},
        },
        "evaluation": {"bootstrap_samples": 100, "baseline": "unet"},
    }
    phantom = {"kind": "heart", "cases": 4, "seed": 3, "unlabelled": 1, "shape": [8, 32, 32]}
    heart = {
        "source": {"adapter": "orcascore", "phantom": phantom},
        "slices": {"size": [32, 32], "window": [-200, 800]},
        "split": {"test": 1, "validation": 1},
        "experiments": {"unet": {"model": "unet", **network}},
        "postprocess": {"method": "calcium"},
        "evaluation": {"metrics": "calcium", "bootstrap_samples": 100, "baseline": "unet"},
    }
    return {"resources": {"threads": 1}, "datasets": {"head": head, "heart": heart}}


def with_untrained() -> dict:
    """The same with an experiment more in each data set, of which nothing is trained."""
    whole = configuration()
    head, heart = (whole["datasets"][name]["experiments"] for name in ("head", "heart"))
    head["given"] = {"predictions": "given"}
    heart["sam"] = {"model": "sam", "prompts": "unet", "checkpoint": "sam.pth"}
    return whole
