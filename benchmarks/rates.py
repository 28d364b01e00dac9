"""How fast this machine multiplies in each kind of work: what `grcsf plan --rates` reckons with.

Run as `python benchmarks/rates.py [--device cuda] [--output FILE]`. The paper's networks work on
random slices as the stages have them work: 5 + 5 passes of a ViT-L, steps of its training, steps of
GRCSF's training, GRCSF's predictions. All four take turns, so that each meets the machine's good
and bad minutes; a rate is the multiply-accumulates (a training step is 3 forward passes) over the
median of the seconds. On a CPU these are the processor's seconds of one core, whatever else the
machine does; on a GPU the clock's. The file keeps what it says of other devices.
"""

import argparse
import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from keeping import RESULTS, processor
from torch import Tensor, nn
from variants import RATIOS, in_batches, random_model

from grcsf.losses import mixed_loss
from grcsf.mae.losses import masked_mse
from grcsf.mae.masking import training_masks
from grcsf.mae.model import PRESETS, build_mae
from grcsf.mae.optimiser import build_optimiser
from grcsf.mae.precision import Int8Linear, Precision, at_precision, multiply_attention
from grcsf.models.build import build_segmentation_model
from pipeline.networks.devices import multiplies_bf16
from pipeline.planning.network_costs import mae_macs, network_macs
from pipeline.planning.rates import load_rates
from pipeline.planning.workload import TRAINED
from pipeline.settings import Dataset, Mae

SIDE = 224
# slices in a batch of passes, MAE training, network training, prediction
BATCHES = {"cpu": (2, 2, 1, 2), "cuda": (64, 32, 21, 64)}
BIG = {"cpu": 4096, "cuda": 8192}  # side of the matrices whose product shows a device's peak
KINDS = ("mae_pass", "mae_training", "segmentation_training", "segmentation_prediction")
Work = tuple[Callable[[], object], float, str]  # what runs, its MACs, what it is


def main() -> None:
    """Measure, print and write."""
    options = read_options()
    torch.set_num_threads(1)  # of the CPU: waiting threads would pass for working ones
    device = torch.device(options.device)
    work = dict(zip(KINDS, build_work(options, device), strict=True))
    seconds: dict[str, list[float]] = {kind: [] for kind in work}
    for repeat in range(options.repeats + 1):
        for kind, (run, _, _) in work.items():
            taken = timed(run, device)
            if repeat:  # the first of each warms up
                seconds[kind].append(taken)
    write(options.output, device, work, seconds)
    found = load_rates(options.output, device.type)
    print(f"{found.machine}\n{found.origin}\n")
    for kind, taken in seconds.items():
        spread = f"{min(taken):.2f}–{max(taken):.2f}"
        rate = found.per_second[kind] / 1e9
        print(f"{kind:<24}{rate:>10,.4g} G MACs/s   {median(taken):.2f} s ({spread})")
    print(f"\nwritten to {options.output}: grcsf plan CONFIG --rates {options.output}")


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--preset", choices=list(PRESETS), default="large")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS / "rates.json")
    return parser.parse_args()


def build_work(options: argparse.Namespace, device: torch.device) -> list[Work]:
    """The four kinds, in the order of `KINDS`."""
    native = multiplies_bf16(device)
    name: Precision = "bf16" if native else "fp32"
    passes, mae_batch, batch, predicted = BATCHES[device.type]
    settings = Mae(preset=options.preset)
    by_ratio = [mae_macs(settings, ratio) for ratio in RATIOS]
    of_network = grcsf_macs()
    model = at_precision(random_model(options.preset).to(device), name)
    network = build_segmentation_model("grcsf").to(device)
    size = (SIDE, SIDE)
    images = torch.rand(predicted, 1, *size, device=device)
    maps = torch.rand(predicted, 2, *size, device=device)
    shown = torch.rand(passes, 1, *size, device=device)
    dtype = torch.bfloat16 if native else torch.float32
    mae_step = training_step(*mae_loss(options.preset, mae_batch, device), device, lower=native)
    loss = network_loss(network, images[:batch], maps[:batch])
    step = training_step(network, loss, device, lower=native)

    def predict() -> None:
        with torch.inference_mode():
            network.eval()(images, maps)
        network.train()

    def reconstruct() -> None:
        with torch.inference_mode():
            in_batches([model, model], "5 + 5", dtype, shown)

    mae, grcsf = f"MAE {options.preset}, {SIDE} × {SIDE}", f"GRCSF, {SIDE} × {SIDE}"
    step_macs = TRAINED * by_ratio[0] * mae_batch
    return [
        (reconstruct, 5 * sum(by_ratio) * passes, f"{mae}, 5 + 5 passes, {passes} slices, {name}"),
        (mae_step, step_macs, f"{mae}, a training step, batch {mae_batch}, {name}"),
        (step, TRAINED * of_network * batch, f"{grcsf}, a training step, batch {batch}, {name}"),
        (predict, of_network * predicted, f"{grcsf}, {predicted} slices, fp32"),
    ]


def grcsf_macs(width: int = 64, side: int = SIDE) -> int:
    """Of a slice's forward pass through GRCSF, by default the paper's."""
    maps = [{"mae": "mae", "mask_ratio": ratio} for ratio in RATIOS]
    dataset = Dataset.model_validate(
        {
            "source": {"adapter": "atlas", "root": "."},
            "slices": {"size": [side, side], "percentiles": [0, 100]},
            "mae": {"mae": {}},
            "residuals": {"mrm": {"preset": "paper", "maps": maps}},
            "experiments": {"grcsf": {"model": "grcsf", "residuals": "mrm", "width": width}},
        }
    )
    return network_macs(dataset, "grcsf")


def mae_loss(
    preset: str, batch: int, device: torch.device
) -> tuple[nn.Module, Callable[[], Tensor]]:
    """A fresh MAE and its training loss at 50 %."""
    model = build_mae(preset).to(device)
    if device.type == "cpu":
        multiply_attention(model)  # as trainings do
    images = torch.rand(batch, 1, SIDE, SIDE, device=device)
    generator = torch.Generator().manual_seed(0)
    masks = training_masks(generator, batch, model.num_patches, RATIOS[0]).to(device)
    return model, lambda: masked_mse(model, images, masks)


def network_loss(network: nn.Module, images: Tensor, maps: Tensor) -> Callable[[], Tensor]:
    """The loss of section 3.4 against random lesions."""
    label = (torch.rand_like(images) > 0.9).float()
    return lambda: mixed_loss(network(images, maps), label)


def training_step(
    model: nn.Module,
    loss: Callable[[], Tensor],
    device: torch.device,
    *,
    fused: bool = True,
    lower: bool = True,
) -> Callable[[], None]:
    """Forward, backward, Adam; `fused` in one pass over all weights, `lower` in bf16."""
    optimiser = build_optimiser(model, "adam", 1e-4, (0.9, 0.999), 0.0, fused=fused)

    def step() -> None:
        optimiser.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=lower):
            value = loss()
        value.backward()
        optimiser.step()

    return step


def peak_macs(device: torch.device, precision: Precision, *, wall: bool = False) -> float:
    """Multiply-accumulates a second of a product of large matrices, the best of several."""
    side = BIG[device.type]
    left = torch.rand(side, side, device=device)
    layer = nn.Linear(side, side, bias=False, device=device)
    multiply: Callable[[Tensor], Tensor] = layer
    if precision == "int8":
        multiply = Int8Linear(layer)
    elif precision == "bf16":
        left, multiply = left.bfloat16(), layer.bfloat16()
    with torch.inference_mode():
        taken = [timed(lambda: multiply(left), device, wall=wall) for _ in range(10)]
    return side**3 / min(taken)


def timed(run: Callable[[], object], device: torch.device, *, wall: bool = False) -> float:
    """Seconds of the GPU's work, or of one core's; `wall` counts the clock's on a CPU, too."""
    clock = time.perf_counter if wall or device.type == "cuda" else time.process_time
    start = clock()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


def write(
    path: Path, device: torch.device, work: dict[str, Work], seconds: dict[str, list[float]]
) -> None:
    """Put this device's figures into the file, and leave the other's."""
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    core = f"one core of {processor()}"
    today = datetime.datetime.now(tz=datetime.UTC).date()
    known[device.type] = {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else core,
        "origin": f"benchmarks/rates.py on {today}, torch {torch.__version__}, medians of "
        f"{len(next(iter(seconds.values())))}",
        "measured": {
            kind: {"macs": macs, "seconds": round(median(seconds[kind]), 3), "of": what}
            for kind, (_, macs, what) in work.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
