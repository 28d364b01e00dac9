"""What a foreign bundle claims, compared before any of it is written, built or run.

The settings say which networks there are; these say the name, shape and type of every weight; and
these say how many bytes each file of weights may have. A zip that claims more is never inflated.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipeline.errors import PipelineError, one_line
from pipeline.networks.build import build_network, empty_masked_model
from pipeline.settings import Dataset, configured, encoder_mae, residual_count
from pipeline.settings.apply.bundle import DAMAGED_ZIP, member
from pipeline.settings.apply.members import Weights
from pipeline.settings.instances import used_maes
from pipeline.settings.section import require

HEADER_LENGTH = 8  # bytes of a safetensors file that give the length of the header behind them
LARGEST_HEADER = 16 * 2**20
TYPES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64", torch.bool: "BOOL"}
Shapes = Mapping[str, tuple[str, list[int]]]  # name → type and shape, as safetensors has them


def expected_networks(dataset: Dataset, files: Mapping[str, Weights]) -> dict[str, nn.Module]:
    """The network behind each file of weights, without values, so it takes no memory.

    Files of the same kind share theirs.

    Raises:
        ValueError: there are more than any prediction needs.
    """
    needless = set(dataset.mae) - set(used_maes(dataset, list(dataset.experiments)))
    require(not needless and len(dataset.experiments) <= 2, "it has more networks than it needs")
    maes = {name: empty_masked_model(mae) for name, mae in dataset.mae.items()}
    trained = {}
    with torch.device("meta"):
        for name in dataset.experiments:
            chosen = dataset.trained(name, "which alone a bundle holds")
            maps, mae = residual_count(dataset, name), encoder_mae(dataset, name)
            trained[name] = build_network(chosen, maps, dataset.slices, mae)
    return {
        file: maes[configured(name)] if subset is None else trained[configured(name)]
        for file, (name, subset) in files.items()
    }


def check_parameters(path: Path, network: nn.Module, parameters: object) -> None:
    """Refuse a description whose number of parameters is not its network's.

    Raises:
        PipelineError: the two differ.
    """
    count = sum(value.numel() for value in network.parameters())
    if parameters != count:
        fault = f"bundle {path}: found {parameters!r:.60} parameters, its settings make {count}"
        raise PipelineError(f"{fault}; export it again")


def check_weights(path: Path, name: str, network: nn.Module) -> None:
    """Compare what a file of weights claims with the network that it is for; no weight is read.

    Raises:
        PipelineError: it is missing, damaged or of another size, or has other weights.
    """
    expected = {
        key: (TYPES.get(value.dtype, str(value.dtype)), list(value.shape))
        for key, value in network.state_dict().items()
    }
    bytes_ = sum(value.nbytes for value in network.state_dict().values())
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member(archive, name)) as file:
            size = archive.getinfo(member(archive, name)).file_size
            length, found = _header(file)
    except KeyError:
        raise PipelineError(f"bundle {path}: {name} is not there") from None
    except (OSError, ValueError, TypeError, LookupError, *DAMAGED_ZIP) as error:
        raise PipelineError(f"bundle {path}: {name} is damaged ({error})") from error
    for key in sorted(expected.keys() | found.keys()):
        if expected.get(key) != found.get(key):
            claimed, wanted = (_shown(weights.get(key)) for weights in (found, expected))
            fault = f"{name} has {claimed} as {key!r:.80}, expected {wanted} by its settings"
            raise PipelineError(f"bundle {path}: {fault}; export it again")
    if size != HEADER_LENGTH + length + bytes_:
        fault = f"{name} has {size} bytes, expected {HEADER_LENGTH + length + bytes_}"
        raise PipelineError(f"bundle {path}: {name} is damaged ({fault})")


def check_readable(path: Path, name: str, weights: Path) -> None:
    """Let safetensors read the header of an unpacked file, with the place of every weight.

    Raises:
        PipelineError: it is not valid.
    """
    try:
        with safe_open(weights, "pt"):
            pass
    except (OSError, SafetensorError) as error:
        raise PipelineError(f"bundle {path}: {name} is damaged ({one_line(error)})") from error


def _header(file: IO[bytes]) -> tuple[int, Shapes]:
    """The length of a safetensors header, and every weight that it names."""
    length = int.from_bytes(file.read(HEADER_LENGTH), "little")
    if length > LARGEST_HEADER:
        raise ValueError(f"a header of {length} bytes")
    header: dict[str, Any] = json.loads(file.read(length))
    require(isinstance(header, dict), "its header is no mapping")
    header.pop("__metadata__", None)
    return length, {key: (each["dtype"], each["shape"]) for key, each in header.items()}


def _shown(weight: tuple[str, list[int]] | None) -> str:
    return f"{weight[0]} of shape {weight[1]}"[:80] if weight else "nothing"
