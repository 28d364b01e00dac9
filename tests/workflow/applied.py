"""A bundle of tiny networks that nobody trained, and scans to which it is applied."""

from pathlib import Path

import numpy as np

SHAPE, SPACING = (7, 36, 32), (3.0, 0.8, 0.8)
SIDEWAYS = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def write_bundle(folder: Path, name: str = "chest", members=((1, 1),)) -> Path:
    """What `grcsf export` writes of these (subset, repeat)."""
    # imported here: it takes seconds, and most tests do without
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
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "manifest", "root": "images", "modality": "CT"},
            "slices": {"size": [32, 32], "window": [-1000, 400]},
            "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8}},
            "residuals": {"mrm": {"preset": "fast", "maps": maps}},
            "experiments": {
                "grcsf": {"model": "grcsf", "residuals": "mrm", "width": 2, "repeats": 2}
            },
        }
    )
    torch.manual_seed(1)
    mae = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    keep_model(mae, layout.mae("shared"), "x", {})
    for subset, repeat in members:
        torch.manual_seed(repeat)
        network = build_network(dataset.experiments["grcsf"], 2, dataset.slices)
        keep_model(network, layout.model(repeat_name("grcsf", repeat), subset), "x", {})
    roles = {"train": ["a"], "validation": ["b"], "test": ["c"]}
    split = {"subsets": {"1": roles}, "unlabelled": [], "digest": "0" * 18, "outputs": []}
    write_json(layout.split, split)
    bundle = folder / f"{name}-{len(members)}.zip"
    export_run(layout, dataset, "grcsf", [Member(*each) for each in members], 5, bundle)
    return bundle


def voxels(seed: int) -> np.ndarray:
    """HU (z, y, x)."""
    return np.random.default_rng(seed).normal(-200, 200, SHAPE).astype(np.int16)


def write_scan(path: Path, seed: int) -> Path:
    from pipeline.storage.images.geometry import Geometry
    from pipeline.storage.images.volumes import write_volume

    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(path, voxels(seed), Geometry(SHAPE, SPACING, (0.0, 0.0, 0.0), SIDEWAYS))
    return path


def write_series(folder: Path, seed: int, edit=lambda *_: None) -> Path:
    from tests.pipeline.dicom_files import write_slices

    array = voxels(seed)
    lowest = int(array.min())
    positions = [(0, 0, 3.0 * z) for z in range(len(array))]
    stored = (array - lowest).astype(np.uint16)
    write_slices(folder, stored, positions, [(1, lowest)] * len(array), edit=edit)
    return folder
