"""A bundle of small networks that nobody trained, for what asks for masks and not for good ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

SLICES = {"size": [32, 32], "window": [-1000, 400]}


def write_bundle(
    folder: Path,
    name: str = "chest",
    members: Sequence[tuple[int, int]] = ((1, 1),),  # subset and repeat of each network
    slices: dict[str, Any] = SLICES,
) -> Path:
    """What `grcsf export` writes of such networks for CT: `<folder>/<name>-<members>.zip`."""
    # imported here: it takes seconds, and who asks for the name alone does without
    import torch

    from grcsf.mae.build import build_masked_model
    from pipeline.networks.build import build_network
    from pipeline.networks.weights import keep_model
    from pipeline.settings import Dataset, repeat_name
    from pipeline.settings.apply.members import Member
    from pipeline.storage.files import write_json
    from pipeline.storage.layout import Layout
    from pipeline.tools.export.export import export_run

    layout = Layout(folder / "trained", name)
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
    grcsf = {"model": "grcsf", "residuals": "mrm", "width": 2, "repeats": 2}
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "images", "modality": "CT"},
            "slices": slices,
            "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8}},
            "residuals": {"mrm": {"preset": "fast", "maps": maps}},
            "experiments": {"grcsf": grcsf},
        }
    )
    torch.manual_seed(1)
    mae = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    keep_model(mae, layout.mae("shared"), "x", {})
    for subset, repeat in members:
        torch.manual_seed(repeat)
        network = build_network(dataset.networks["grcsf"], 2, dataset.slices)
        keep_model(network, layout.model(repeat_name("grcsf", repeat), subset), "x", {})
    roles = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    split = {"subsets": {"1": roles}, "unlabelled": [], "digest": "0" * 18, "outputs": []}
    write_json(layout.split, split)
    bundle = folder / f"{name}-{len(members)}.zip"
    export_run(layout, dataset, "grcsf", [Member(*each) for each in members], 5, bundle)
    return bundle
