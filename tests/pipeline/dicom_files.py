"""Writes tiny DICOM series: single slices in a folder, or frames of one file."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from pipeline.errors import PipelineError
from pipeline.storage.images.volumes import read_geometry, read_volume

CT_SLICE, CT_FRAMES = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1, 0, 0, 0, 1, 0)


def upright(count, step=3.0):
    """Positions (x, y, z) of slices behind one another."""
    return [(-10.0, -20.0, step * index) for index in range(count)]


def dataset(sop_class=CT_SLICE, series="1.2.3", **elements):
    """A data set of the class, with what every object has."""
    made, meta = Dataset(), FileMetaDataset()
    made.SOPClassUID = meta.MediaStorageSOPClassUID = sop_class
    made.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta = meta
    made.SeriesInstanceUID, made.StudyInstanceUID = series, "1.2"
    made.FrameOfReferenceUID = "1.2.4"
    made.PatientID = made.StudyID = "p"
    made.PatientName, made.Modality = "Doe^Jane", "CT"
    for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyTime"):
        setattr(made, name, "")
    made.ReferringPhysicianName = ""
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def set_values(made, stored, bits=16):
    """Put stored values (y, x) or (frame, y, x) into a data set, signed if their type is."""
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.Rows, made.Columns = stored.shape[-2:]
    made.BitsAllocated, made.BitsStored, made.HighBit = 8 * stored.itemsize, bits, bits - 1
    made.PixelRepresentation = int(stored.dtype.kind == "i")
    made.PixelData = stored.tobytes()


def save(made, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)


def write_slices(
    folder, stored, positions=None, rescale=None, *, spacing=(1, 1), orientation=AXIAL,
    name="{:03}.dcm", edit=None, bits=16, **elements,
):  # fmt: skip
    """One file for each slice of `stored` (z, y, x); `edit(dataset, index)` changes one."""
    series = elements.pop("series", generate_uid())
    for index, plane in enumerate(stored):
        made = dataset(CT_SLICE, series, **elements)
        made.ImageOrientationPatient = list(orientation)
        made.ImagePositionPatient = list((positions or upright(len(stored)))[index])
        made.PixelSpacing, made.SliceThickness = list(spacing), 3
        slope, intercept = rescale[index] if rescale else (1, -1024)
        made.RescaleSlope, made.RescaleIntercept = slope, intercept
        set_values(made, plane, bits)
        if edit:
            edit(made, index)
        save(made, Path(folder) / name.format(index))


def write_frames(
    path, stored, positions=None, rescale=None, *, spacing=(1, 1), orientation=AXIAL,
    edit=None, bits=16,
):  # fmt: skip
    """One Enhanced CT of the frames `stored` (z, y, x); without `rescale` one is shared."""
    made = dataset(CT_FRAMES, generate_uid(), NumberOfFrames=len(stored))
    measures, direction, shared = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, direction.ImageOrientationPatient = list(spacing), list(orientation)
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [direction]
    if not rescale:
        shared.PixelValueTransformationSequence = [_transformation(1, -1024)]
    frames = []
    for index in range(len(stored)):
        frame, position = Dataset(), Dataset()
        position.ImagePositionPatient = list((positions or upright(len(stored)))[index])
        frame.PlanePositionSequence = [position]
        if rescale:
            frame.PixelValueTransformationSequence = [_transformation(*rescale[index])]
        frames.append(frame)
    made.SharedFunctionalGroupsSequence = [shared]
    made.PerFrameFunctionalGroupsSequence = frames
    set_values(made, stored, bits)
    if edit:
        edit(made, 0)
    save(made, Path(path))


def _transformation(slope, intercept):
    made = Dataset()
    made.RescaleSlope, made.RescaleIntercept, made.RescaleType = slope, intercept, "HU"
    return made


def random_values(shape=(6, 8, 9), seed=0, dtype=np.uint16, high=4000):
    """Stored values that differ everywhere."""
    low = -high if np.dtype(dtype).kind == "i" else 0
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


WRITERS = {
    "slices": write_slices,
    "frames": lambda folder, *a, **k: write_frames(folder / "i", *a, **k),
}
both = pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)


def refused(path, words):
    for read in (read_volume, read_geometry):
        with pytest.raises(PipelineError, match=words) as caught:
            read(path)
        assert "\n" not in str(caught.value)
