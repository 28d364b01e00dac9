"""The stage residual_maps against the passes alone: what reading, masks and writing cost.

Run as `python benchmarks/residual_stage.py [--preset large] [--cases 6] [--device cuda]`. Copies of
a head phantom in ATLAS's geometry are reconstructed by the stage, stores read and written, and by
the same passes on slices that lie on the device already, with masks that are drawn already. Both
take turns, after one that does not count.
"""

import argparse
import logging
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import torch
from keeping import keep, processor
from variants import random_model

from grcsf.mae.build import MaskedModel
from grcsf.mae.precision import at_precision, compile_layers
from grcsf.residuals import multi_ratio_residuals
from pipeline.datasets.phantoms.phantom import write_phantom
from pipeline.ingest import ingest
from pipeline.networks.reconstruction import prepare_case
from pipeline.networks.weights import keep_model
from pipeline.residual_maps import precision_on, residual_maps
from pipeline.settings import Mae, Residuals, Resources, Slices, Source
from pipeline.storage.files import read_json, write_json
from pipeline.storage.layout import Layout

SLICES = Slices(size=(224, 224), percentiles=(0, 99.9))
SEED = 5


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--preset", default="large")
    parser.add_argument("--cases", type=int, default=6)
    parser.add_argument("--slices", type=int, default=189, help="of a case")
    parser.add_argument("--set", choices=["paper", "fast", "lean"], default="paper")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--compile", action="store_true", help="resources.compile, in both; not counted itself"
    )
    options = parser.parse_args()
    logging.disable(logging.INFO)
    maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in (0.5, 0.75)]
    chosen = Residuals.model_validate({"preset": options.set, "maps": maps})
    resources = Resources(gpus=int(options.device == "cuda"), compile=options.compile)
    with tempfile.TemporaryDirectory() as folder:
        layout = copies_of_a_head(Path(folder), options.cases, options.slices)
        model = random_model(options.preset)
        keep_model(model, layout.mae("shared"), "random", {})
        groups = prepared(layout, chosen, model, resources)
        seconds: dict[str, list[float]] = {"stage": [], "passes alone": []}
        for turn in range(options.repeats + 1):
            taken = {
                "stage": run_stage(layout, chosen, options.preset, resources),
                "passes alone": run_passes(groups, chosen, model, resources),
            }
            told = ", ".join(f"{name} {one / options.cases:.3f}" for name, one in taken.items())
            print(f"turn {turn}: {told} s a case", flush=True)
            for name, one in taken.items():
                seconds[name] += [one / options.cases] if turn else []
    report(options, seconds)


def copies_of_a_head(folder: Path, count: int, slices: int) -> Layout:
    """Ingested cases with the same content under several names, none of them with a lesion mask."""
    layout = Layout(folder / "results", "heads")
    write_phantom("head", folder / "raw", cases=1, seed=1, shape=(slices, 233, 197))
    ingest(layout, Source(adapter="atlas", root=str(folder / "raw")), folder / "raw", [], 1)
    (name,) = read_json(layout.cases)["cases"]
    entry = read_json(layout.cases)["cases"][name]
    names = [f"{name}-{number}" for number in range(count)]
    for one in names:
        shutil.copytree(layout.case_store(name), layout.case_store(one))
    write_json(layout.cases, {"cases": dict.fromkeys(names, entry)})
    write_json(layout.split, {"subsets": {}})
    return layout


def prepared(
    layout: Layout, chosen: Residuals, model: MaskedModel, resources: Resources
) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Groups of slices on the device, each with the masks of both maps."""
    names = read_json(layout.cases)["cases"]
    models = [model] * len(chosen.maps)
    work = [
        one
        for name in names
        for one in prepare_case(layout, name, names[name], "x", chosen, models, SLICES, SEED)[1]
    ]
    size = resources.slices_at_once
    return [
        (
            torch.stack([one.image for one in work[start : start + size]]).to(resources.device),
            [
                torch.stack([one.passes[place].masks for one in work[start : start + size]])
                for place in range(len(chosen.maps))
            ],
        )
        for start in range(0, len(work), size)
    ]


def run_stage(layout: Layout, chosen: Residuals, preset: str, resources: Resources) -> float:
    """Seconds that the stage takes for all cases, of which none is made."""
    shutil.rmtree(layout.stage("residual_maps"), ignore_errors=True)
    maes = {"shared": Mae.model_validate({"preset": preset})}
    start = time.perf_counter()
    residual_maps(layout, "mrm", "1of1", chosen, maes, (), SLICES, SEED, resources)
    return time.perf_counter() - start


def run_passes(
    groups: list[tuple[torch.Tensor, list[torch.Tensor]]],
    chosen: Residuals,
    model: MaskedModel,
    resources: Resources,
) -> float:
    """Seconds of the passes of the same slices, the models lowered and sent as the stage does."""
    start = time.perf_counter()
    device = torch.device(resources.device)
    precision = precision_on(chosen.precision, device)
    lowered = at_precision(model.to(device), precision)
    if resources.compile:
        compile_layers(lowered)
    for images, masks in groups:
        multi_ratio_residuals(
            [lowered] * len(masks),
            images,
            masks,
            visible=chosen.visible,
            kind="abs",
            dtype=torch.float32 if precision == "fp32" else torch.bfloat16,
        )
    if resources.gpus:
        torch.cuda.synchronize()
    return time.perf_counter() - start


def report(options: argparse.Namespace, seconds: dict[str, list[float]]) -> None:
    """Seconds a case, and the share of the bare rate that the stage reaches."""
    name = torch.cuda.get_device_name() if options.device == "cuda" else processor()
    print(f"MAE {options.preset}, {options.set}, {options.cases} cases, {name}")
    for what, taken in seconds.items():
        print(f"{what:<14}{median(taken):8.3f} s a case ({min(taken):.3f}–{max(taken):.3f})")
    pairs = zip(seconds["passes alone"], seconds["stage"], strict=True)
    shares = [alone / whole for alone, whole in pairs]
    print(f"of the bare rate: {median(shares):.0%} ({min(shares):.0%}–{max(shares):.0%})")
    name = "residual_stage_compiled" if options.compile else "residual_stage"
    keep(name, {**vars(options), "seconds": seconds, "share": median(shares)})


if __name__ == "__main__":
    main()
