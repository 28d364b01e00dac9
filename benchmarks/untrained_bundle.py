"""Bundles of networks that nobody trained, for what asks for masks and not for good ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SLICES = {"size": [32, 32], "window": [-1000, 400]}
EXPERIMENT = "grcsf"


def write_bundle(
    folder: Path,
    name: str = "chest",
    members: Sequence[tuple[int, int]] = ((1, 1),),  # subset and repeat of each network
    slices: Mapping[str, Any] = SLICES,
    modality: str = "CT",
) -> Path:
    """What `grcsf export` writes of small networks: `<folder>/<name>-<members>.zip`."""
    # imported here: it takes seconds, and who asks for the name alone does without
    import torch

    from grcsf.mae.build import build_masked_model
    from pipeline.networks.build import build_network
    from pipeline.settings import Dataset

    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
    size = slices["size"][0]
    mae = {"image_size": size, "patch_size": size // 4}
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "images", "modality": modality},
            "slices": slices,
            "mae": {"shared": {"preset": "tiny", **mae}},
            "residuals": {"mrm": {"preset": "fast", "maps": maps}},
            "experiments": {
                EXPERIMENT: {"model": "grcsf", "residuals": "mrm", "width": 2, "repeats": 2}
            },
        }
    )
    torch.manual_seed(1)
    maes = {"shared": build_masked_model("mae", "tiny", **mae)}
    networks = {}
    for member in members:
        torch.manual_seed(member[1])
        networks[member] = build_network(dataset.networks[EXPERIMENT], 2, dataset.slices)
    return _exported(folder, name, dataset, maes, networks)


def describe_only(folder: Path, config: Path, name: str, modality: str) -> Path:
    """A bundle of a configuration's GRCSF as it would be, but for its weights: there are none."""
    import torch

    from pipeline.settings.reading import load_settings

    dataset = load_settings(config).datasets[name]
    source = dataset.source.model_copy(update={"modality": modality})
    dataset = dataset.model_copy(update={"source": source})
    nothing = torch.nn.Linear(1, 1)
    return _exported(folder, name, dataset, dict.fromkeys(dataset.mae, nothing), {(1, 1): nothing})


def _exported(
    folder: Path, name: str, dataset: Any, maes: Mapping[str, Any], networks: Mapping[Any, Any]
) -> Path:
    from pipeline.networks.weights import keep_model
    from pipeline.settings import repeat_name
    from pipeline.settings.apply.members import Member
    from pipeline.storage.files import write_json
    from pipeline.storage.layout import Layout
    from pipeline.tools.export.export import export_run

    layout = Layout(folder / "trained", name)
    for mae, model in maes.items():
        keep_model(model, layout.mae(mae), "x", {})
    for (subset, repeat), network in networks.items():
        keep_model(network, layout.model(repeat_name(EXPERIMENT, repeat), subset), "x", {})
    roles = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    split = {"subsets": {"1": roles}, "unlabelled": [], "digest": "0" * 18, "outputs": []}
    write_json(layout.split, split)
    bundle = folder / f"{name}-{len(networks)}.zip"
    members = [Member(*member) for member in networks]
    export_run(layout, dataset, EXPERIMENT, members, 5, bundle)
    return bundle
