"""Writes a mask as a DICOM segmentation of the series on which it was made.

Every slice has its frame, an empty one too: a reader that only stacks frames (ITK does) puts the
mask where one that knows segmentations does. The same series, mask and maker give the same bytes.
"""

from __future__ import annotations

import hashlib
import importlib
import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import file_fault, one_line
from pipeline.storage.images.dicom.planes import GROUPS, Plane, Vectors, stack
from pipeline.storage.images.dicom.series import image_series, named_damage, pydicom
from pipeline.storage.images.geometry import Geometry, is_tilted, tilt_degrees

UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
# DICOM lets these be empty, yet not be left out
MAY_BE_EMPTY = (
    "AccessionNumber",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientSex",
    "ReferringPhysicianName",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
DATES = ("Content", "Acquisition", "Series", "Study")
NO_DATE = ("19000101", "000000")
FURTHER_SERIES = 1000  # between a source's series number and that of its segmentation
LONG = 64  # characters of a name (LO) at most
Vector = npt.NDArray[np.float64]  # x, y, z in mm
OTHERWISE = "correct the headers, or write the mask with --format nifti"


@dataclass(frozen=True)
class Maker:
    """What made a mask, as it is written into its file."""

    software: str  # with its version
    algorithm: str  # name
    version: str  # of the algorithm
    description: str  # of the series that it makes
    digest: str  # of all that decides its masks


@dataclass(frozen=True)
class SegmentedSeries:
    """A series as a segmentation refers to it."""

    path: Path
    geometry: Geometry
    headers: tuple[Any, ...]  # of its slices from low z to high; or of the one file of its frames
    frames: tuple[int, ...]  # the stored order of the frames: place in it → z


def segmented_series(path: Path, series: str | None = None) -> SegmentedSeries:
    """The image series of a DICOM file or folder, ready to be referred to.

    Raises:
        PipelineError: as of `dicom_volume`; a UID lacks that DICOM requires, slices are tilted, or
            the series is of several files with frames.
    """
    geometry, planes = stack(path, image_series(path, series)[0].planes)
    if is_tilted(geometry):
        found = f"slices tilted by {tilt_degrees(geometry):.3g}°"
        expected = "upright ones, which is how readers stack the frames of a DICOM SEG"
        raise file_fault(path, found, expected, "write the mask with --format nifti")
    files = list(dict.fromkeys(plane.file for plane in planes))
    if 1 < len(files) < len(planes):
        fault = f"frames in {len(files)} files"
        raise file_fault(path, fault, "one file, or a slice a file, for a DICOM SEG", OTHERWISE)
    headers = []
    for file in files:
        with named_damage(file):
            headers.append(pydicom().dcmread(file, stop_before_pixels=True, force=True))
        _check_uids(file, headers[-1])
    _check_one_study(path, headers)
    stored = range(len(planes)) if len(files) > 1 else np.argsort([one.frame for one in planes])
    frames = tuple(map(int, stored))
    steps = geometry.axes[:, :1] * geometry.spacing[0] * np.array(frames)
    places = (np.array(geometry.origin)[:, None] + steps)[::-1].T  # (frame, x y z), mm
    if len(files) > 1:
        for header, place in zip(headers, places, strict=True):
            _complete_slice(header, planes[0], geometry, place)
    else:
        _complete_frames(headers[0], planes[0], geometry, places)
    return SegmentedSeries(path, geometry, tuple(headers), frames)


def segmentation_bytes(source: SegmentedSeries, mask: npt.NDArray[Any], maker: Maker) -> bytes:
    """A DICOM file with one binary segment, the lesions; `mask` is (z, y, x), not 0 = lesion.

    Raises:
        PipelineError: the mask lies on another grid, or headers hold what DICOM does not allow.
    """
    if mask.shape != source.geometry.shape:
        found, expected = f"a mask of shape {mask.shape}", f"{source.geometry.shape} (z, y, x)"
        raise file_fault(source.path, found, expected)
    stored = np.ascontiguousarray(mask[list(source.frames)] != 0)
    uid = partial(
        _uid, maker.digest, *_identity(source), hashlib.sha256(stored.tobytes()).hexdigest()
    )
    try:
        made = _segmentation(source, stored, maker, uid("series"), uid("instance"))
        made.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid("dimensions")
        for item in made.DimensionIndexSequence:
            item.DimensionOrganizationUID = uid("dimensions")
        # the time of the call, thrice; the last equipment is the library
        del made.InstanceCreationDate, made.InstanceCreationTime
        del made.ContributingEquipmentSequence[-1].ContributionDateTime
        written = BytesIO()
        made.save_as(written, enforce_file_format=True)
    except Exception as error:  # whatever the library finds in headers of any make
        reason = f"{type(error).__name__}: {one_line(error)}"
        fault = f"headers of which no DICOM SEG can be made ({reason})"
        raise file_fault(source.path, fault, "values that DICOM allows", OTHERWISE) from error
    return written.getvalue()


def _segmentation(
    source: SegmentedSeries, stored: npt.NDArray[np.bool_], maker: Maker, series: str, instance: str
) -> Any:
    highdicom: Any = importlib.import_module("highdicom")
    logging.getLogger("highdicom").setLevel(logging.ERROR)  # it tells of each module that it copies
    codes: Any = importlib.import_module("pydicom.sr.codedict").codes
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=maker.algorithm[:LONG],
        version=maker.version[:LONG],
        family=codes.DCM.ArtificialIntelligence,
    )
    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
    )
    content_date, content_time = _date(source.headers[0])
    made = highdicom.seg.Segmentation(
        source_images=list(source.headers),
        pixel_array=stored,
        segmentation_type=highdicom.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[segment],
        series_instance_uid=series,
        series_number=int(source.headers[0].get("SeriesNumber") or 0) + FURTHER_SERIES,
        series_description=maker.description[:LONG],
        sop_instance_uid=instance,
        instance_number=1,
        manufacturer="GRCSF",
        manufacturer_model_name="GRCSF",
        software_versions=maker.software[:LONG],
        device_serial_number=maker.version[:LONG],
        content_label="LESION",
        content_description="Not for diagnosis",
        content_date=content_date,
        content_time=content_time,
        omit_empty_frames=False,
        # of several, as in Japan, the first may be empty, which the library does not take
        specific_character_set=None,
    )
    if characters := source.headers[0].get("SpecificCharacterSet"):
        made.SpecificCharacterSet = characters
    return made


def _check_uids(file: Path, header: Any) -> None:
    """Refuse a slice without what a reference to it consists of."""
    for name in UIDS:
        uid = pydicom().uid.UID(str(header.get(name) or ""))
        if not uid.is_valid:
            found = f"{name} {str(uid)!r}" if uid else f"no {name}"
            raise file_fault(file, found, "a UID, which a DICOM SEG refers to", OTHERWISE)


def _check_one_study(path: Path, headers: Sequence[Any]) -> None:
    instances = {header.SOPInstanceUID for header in headers}
    if len(instances) < len(headers):
        found = f"{len(headers)} slices with {len(instances)} SOPInstanceUID"
        raise file_fault(path, found, "one each, which a DICOM SEG refers to", OTHERWISE)
    studies = {(header.StudyInstanceUID, header.get("PatientID")) for header in headers}
    if len(studies) > 1:
        found = "slices of several studies or patients"
        raise file_fault(path, found, "one, to which a DICOM SEG belongs", OTHERWISE)


def _complete_slice(header: Any, first: Plane, geometry: Geometry, place: Vector) -> None:
    """Bring a header into the form in which it is copied.

    What rounding lets differ between slices becomes even, as readers take no others for a stack;
    and the distance between slices is told: those that do not work it out take 1 mm.
    """
    _fill_in(header)
    header.ImagePositionPatient = _decimals(place)
    header.ImageOrientationPatient = _decimals(first.orientation)
    _measure(header, first, geometry, header.get("SliceThickness"))


def _complete_frames(header: Any, first: Plane, geometry: Geometry, places: Vectors) -> None:
    """The same for the header of a file of frames."""
    _fill_in(header)
    frames, shared = (header.get(name) or [pydicom().Dataset()] for name in GROUPS)
    groups = (shared[0], frames[0])
    given = [next(iter(group.get("PixelMeasuresSequence") or ()), header) for group in groups]
    thickness = next(filter(None, (one.get("SliceThickness") for one in given)), None)
    measures, orientation = pydicom().Dataset(), pydicom().Dataset()
    _measure(measures, first, geometry, thickness)
    orientation.ImageOrientationPatient = _decimals(first.orientation)
    shared[0].PixelMeasuresSequence = [measures]
    shared[0].PlaneOrientationSequence = [orientation]
    header.SharedFunctionalGroupsSequence = [shared[0]]
    for frame, place in zip(frames, places, strict=True):
        position = pydicom().Dataset()
        position.ImagePositionPatient = _decimals(place)
        frame.PlanePositionSequence = [position]


def _fill_in(header: Any) -> None:
    for name in MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, "")


def _measure(item: Any, first: Plane, geometry: Geometry, thickness: Any) -> None:
    (apart,) = _decimals(geometry.spacing[:1])
    item.PixelSpacing = _decimals(first.spacing)
    item.SpacingBetweenSlices, item.SliceThickness = apart, thickness or apart


def _decimals(numbers: Iterable[float]) -> list[str]:
    """Numbers in the 16 characters that DICOM has for each; some writers need more."""
    return [f"{number:.10g}" for number in numbers]


def _date(header: Any) -> tuple[str, str]:
    """The date and time of a segmentation: those of its source, which another call finds, too."""
    for name in DATES:
        if date := header.get(f"{name}Date"):
            return str(date), str(header.get(f"{name}Time") or NO_DATE[1])
    return NO_DATE


def _identity(source: SegmentedSeries) -> list[str]:
    return [str(header.SOPInstanceUID) for header in source.headers]


def _uid(*parts: str) -> str:
    """A UID that follows from these parts alone (PS3.5 B.2: a UUID behind 2.25)."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, chr(10).join(parts)).int}"
