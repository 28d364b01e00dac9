"""The metadata of a store, read as plain JSON before zarr sees it.

A shared folder may hold what another program has put there. Only what `zarr_store` writes is
decoded: Zarr v3, plain numbers, its own codecs, one shard of whole slices. Other names would make
zarr look for code that decodes them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.settings.paths import file_refusal
from pipeline.settings.section import require

METADATA = "zarr.json"
LARGEST = 16 * 2**20  # bytes; a store's lists its slices
CODECS = {"sharding_indexed", "bytes", "zstd", "crc32c"}
DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)")
GROUP_KEYS = {"attributes", "zarr_format", "node_type", "consolidated_metadata"}
AXES = (3, 4)  # (z, y, x) and (ratio, z, y, x)


def group_attributes(store: Path) -> dict[str, Any]:
    """The attributes of a store.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no Zarr v3 group, or one with more than attributes.
    """
    content = _read(store, "group")
    require(content.keys() <= GROUP_KEYS, "its metadata has more than attributes")
    require(content.get("consolidated_metadata") is None, "its metadata describes other arrays")
    attributes = content.get("attributes", {})
    require(isinstance(attributes, dict), "its attributes are no mapping")
    return dict(attributes)


def check_arrays(store: Path, names: Collection[str], attributes: Mapping[str, Any]) -> None:
    """Refuse arrays that are not as stores are written, or not of the shape in the attributes.

    Raises:
        FileNotFoundError: one is not there.
        ValueError: any other fault, also an array beside those named.
    """
    others = {path.parent.name for path in store.glob(f"*/{METADATA}")} - set(names)
    require(not others, f"it holds {', '.join(sorted(others))[:80]}, which no stage has written")
    for name in names:
        plain = Path(name).name == name and name not in ("", ".", "..")
        require(plain, f"{name[:80]!r} is no name of an array")
        content = _read(store / name, "array")
        shape = _checked_shape(name, content)
        recorded = attributes.get("shape")
        if recorded is not None:
            found = f"{name} has the shape {shape}, expected {recorded} as in its attributes"
            require(shape == recorded, found)


def _read(node: Path, kind: str) -> dict[str, Any]:
    path = node / METADATA
    if (refusal := file_refusal(path)).startswith("found "):
        raise ValueError(f"{path.name}: {refusal}")
    with path.open("rb") as file:
        content = json.loads(file.read(LARGEST))
    require(isinstance(content, dict), f"{path.name}: no metadata")
    form = content.get("zarr_format"), content.get("node_type")
    require(form == (3, kind), f"{node.name}: found Zarr {form}, expected (3, {kind!r})")
    return dict(content)


def _checked_shape(name: str, content: Mapping[str, Any]) -> list[int]:
    """The shape of an array that is as stores are written."""
    dtype, shape = content.get("data_type"), content.get("shape")
    known = isinstance(dtype, str) and DTYPE.fullmatch(dtype)
    require(known, f"{name}: found the data type {str(dtype)[:40]!r}, expected plain numbers")
    require(_is_shape(shape), f"{name}: found the shape {str(shape)[:40]}")
    assert isinstance(shape, list)
    require(not content.get("storage_transformers"), f"{name}: found storage transformers")
    foreign = sorted({*_codecs(content.get("codecs"))} - CODECS)
    require(not foreign, f"{name}: found the codec {foreign[:1]}, expected {sorted(CODECS)}")
    shard = content["chunk_grid"]["configuration"]["chunk_shape"]
    (sharding,) = content["codecs"]
    chunk = sharding["configuration"]["chunk_shape"]
    sliced = _is_shape(chunk) and len(chunk) == len(shape)
    whole = sliced and all(part in (1, side) for part, side in zip(chunk, shape, strict=True))
    chunks = math.prod(shape) // math.prod(chunk) if whole else 0
    require(shard == shape and 0 < chunks <= max(shape), f"{name}: found other chunks than slices")
    return shape


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) in AXES
        and all(type(side) is int and side > 0 for side in value)
    )


def _codecs(listed: Any) -> Iterable[str]:
    """The names of codecs, and of those within."""
    require(isinstance(listed, list) and listed, "found no codecs")
    for codec in listed:
        yield str(codec["name"])
        inner = codec.get("configuration", {})
        for key in ("codecs", "index_codecs"):
            if key in inner:
                yield from _codecs(inner[key])
