"""Which files of a folder form an image series; whatever else lies there is told and left out."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import Finding, PipelineError, file_fault, one_line
from pipeline.storage.images.dicom.content import USUAL, is_dicom
from pipeline.storage.images.dicom.planes import Plane, parallel, planes_of

FETCH_AGAIN = "fetch or export it again"
DIRECTORY, RT_DOSE = "1.2.840.10008.1.3.10", "1.2.840.10008.5.1.4.1.1.481.2"
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
CONTOURS = "1.2.840.10008.5.1.4.1.1.481.3"
NOT_DICOM = "no DICOM"


@dataclass(frozen=True)
class Series:
    """Slices of one scan, in any order."""

    uid: str
    description: str
    planes: list[Plane]

    def __str__(self) -> str:
        name = repr(self.description) if self.description else "without description"
        return f"{name} ({len(self.planes)} slices, {self.uid})"


def image_series(path: Path, wanted: str | None = None) -> tuple[Series, list[Finding]]:
    """The one image series of a DICOM file or folder, and notes on what else lies there.

    `wanted`, a description or UID, chooses among several, and refuses any other.

    Raises:
        PipelineError: there is none, there are several, a file is damaged, or it is one slice.
    """
    candidates, others = _sorted_out(headers(path))
    chosen = _chosen(path, candidates, others, wanted)
    if len(chosen.planes) == 1:
        remedy = "give the series' folder" if path.is_file() else "add its other slices"
        raise file_fault(path, "one slice of a DICOM series", "a scan", remedy)
    for series in candidates:
        if series is not chosen:
            others[f"series {series}"] = sorted({plane.file.name for plane in series.planes})
    return chosen, [_note(path, what, names) for what, names in others.items()]


def headers(path: Path) -> dict[Path, Any]:
    """Data sets without pixels of a file, or of all files of a folder; None where no DICOM.

    Raises:
        PipelineError: a file is empty or damaged, or is called like a slice and is no DICOM.
    """
    if path.is_dir():
        files = sorted(one for one in path.iterdir() if one.is_file() and one.name[0] != ".")
    else:
        files = [path]
    return {file: _header(file) for file in files}


def frames_shape(file: Path) -> tuple[int, int, int]:
    """Frames, rows and columns of one DICOM file.

    Raises:
        PipelineError: the file is damaged, or holds no pixels.
    """
    with named_damage(file):
        header = _header(file)
        return int(header.get("NumberOfFrames") or 1), int(header.Rows), int(header.Columns)


def sop_class(header: Any) -> Any:
    """What kind of object a data set is, as a UID of pydicom's, which knows its name."""
    meta = getattr(header, "file_meta", {})
    uid = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID") or ""
    return pydicom().uid.UID(uid)


def pydicom() -> Any:
    """The library, which does not warn of each odd value: what is used is checked here."""
    library: Any = importlib.import_module("pydicom")
    config = importlib.import_module("pydicom.config")
    config.settings.reading_validation_mode = config.IGNORE
    config.logger.setLevel("CRITICAL")
    return library


def is_of_file(error: BaseException) -> bool:
    """Whether a file may be the cause: a decoder written in Rust panics outside of Exception."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


@contextmanager
def named_damage(file: Path) -> Iterator[None]:
    """Turn whatever a damaged file leads to inside of pydicom or a decoder into one line."""
    try:
        yield
    except (PipelineError, ImportError):
        raise
    except BaseException as error:
        if not is_of_file(error):
            raise
        fault = f"damaged or truncated ({one_line(error) or type(error).__name__})"
        raise file_fault(file, fault, "a whole DICOM file", FETCH_AGAIN) from error


def _header(file: Path) -> Any:
    with named_damage(file):
        if file.stat().st_size == 0:
            raise file_fault(file, "the file is empty", "a DICOM slice", FETCH_AGAIN)
        if not is_dicom(file):
            if file.suffix.lower() in USUAL:
                raise file_fault(file, NOT_DICOM, "a DICOM slice", FETCH_AGAIN)
            return None
        with file.open("rb") as content:
            header = pydicom().dcmread(content, stop_before_pixels=True, force=True)
            # what is deflated is read to its end in any case
            plain = not getattr(header.file_meta.get("TransferSyntaxUID"), "is_deflated", False)
            header.ends_early = plain and not content.read(1)
        return header


def _sorted_out(
    found: Mapping[Path, Any],
) -> tuple[list[Series], dict[str, list[str]]]:
    """Series that may be scans, and the names of all other files by what they are."""
    others: dict[str, list[str]] = defaultdict(list)
    described: dict[str, str] = {}
    planes: dict[str, list[Plane]] = defaultdict(list)
    for file, header in found.items():
        with named_damage(file):
            if what := _no_slice(file, header):
                others[what].append(file.name)
                continue
            uid = str(header.get("SeriesInstanceUID") or "no UID")
            described[uid] = str(header.get("SeriesDescription") or "").strip()
            planes[uid] += planes_of(file, header)
    candidates = []
    for uid, listed in planes.items():
        placed = [plane for plane in listed if plane.placed]
        if not placed:
            names = sorted({plane.file.name for plane in listed})
            others["picture that does not say where it lies"] += names
        else:
            candidates.append(Series(uid, described[uid], listed))
    return candidates, others


def _no_slice(file: Path, header: Any) -> str:
    """What a file is, if it is no slice."""
    if header is None:
        return NOT_DICOM
    kind = sop_class(header)
    if not kind:
        raise file_fault(file, "DICOM that ends early, or has no class", "a slice", FETCH_AGAIN)
    name = str(kind.name).removesuffix(" Storage")
    if not (header.get("Rows") and header.get("Columns")):
        if "Image" in name and kind != DIRECTORY:
            raise file_fault(file, f"{name} without size", "a whole DICOM file", FETCH_AGAIN)
        return name
    if kind in (*SEGMENTATIONS, RT_DOSE):
        return name
    if header.ends_early:
        if "Image" not in name:
            return name  # a spectrum, for example
        raise file_fault(file, "DICOM that ends before its pixels", "a slice", FETCH_AGAIN)
    # a header that was cut off before it tells is no colour image
    grey = str(header.get("PhotometricInterpretation", "MONOCHROME")).startswith("MONOCHROME")
    if header.get("SamplesPerPixel", 1) != 1 or not grey:
        return "colour picture"
    return "localizer" if "LOCALIZER" in (header.get("ImageType") or ()) else ""


def _chosen(
    path: Path, candidates: Sequence[Series], others: Mapping[str, list[str]], wanted: str | None
) -> Series:
    if wanted is not None:
        fitting = [one for one in candidates if wanted in (one.uid, one.description)]
        if not fitting:
            fault = f"no DICOM series {wanted!r}, but {_listed(candidates, others)}"
            raise file_fault(path, fault, "that of source.series", "correct source.series")
    else:
        # neither a survey nor a lone picture stands beside a scan as its equal
        scans = [one for one in candidates if len(one.planes) > 1 and _parallel(one)]
        fitting = scans or list(candidates)
    if not fitting:
        fault = "0 DICOM series" + (f", but {_listed((), others)}" if others else "")
        raise file_fault(path, fault, "1", "give the slices of a scan")
    if len(fitting) > 1:
        key = "the UID" if wanted is not None else "the description or UID"
        remedy = f"set source.series to {key} of one, or keep one in a folder"
        fault = f"{len(fitting)} DICOM series: {_listed(fitting, {})}"
        raise file_fault(path, fault, "1", remedy)
    return fitting[0]


def _parallel(series: Series) -> bool:
    return parallel([plane for plane in series.planes if plane.placed])


def _listed(series: Sequence[Series], others: Mapping[str, list[str]]) -> str:
    kinds = [f"{what} ({len(names)})" for what, names in others.items()]
    return ", ".join([*map(str, series), *kinds]) or "no file"


def _note(path: Path, what: str, names: Sequence[str]) -> Finding:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    message = f"left out, {what}: {', '.join(names[:3])}{more}"
    return Finding(message, file=str(path), severity="note")
