"""Turns CT images in MSD's layout into DICOM: `python docs/tutorial/to_dicom.py MSD OUTPUT`.

`OUTPUT/scans` has a folder of slices for each image with a label, `OUTPUT/scans/masks` the labels,
and `manifest.csv` says which belong together. `OUTPUT/new` has the images without label.
"""

import sys
from pathlib import Path

import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid


def write_series(image: SimpleITK.Image, folder: Path) -> None:
    """Write a volume in HU as a file a slice, of a patient called as the folder."""
    folder.mkdir(parents=True)
    direction, (column, row, thickness) = image.GetDirection(), image.GetSpacing()
    axes = (*direction[0::3], *direction[1::3])
    for number, pixels in enumerate(SimpleITK.GetArrayFromImage(image).astype("<i2"), start=1):
        position = image.TransformIndexToPhysicalPoint((0, 0, number - 1))
        one = Dataset()
        one.file_meta = FileMetaDataset()
        one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one.SOPClassUID, one.Modality = CTImageStorage, "CT"
        one.SOPInstanceUID = generate_uid(entropy_srcs=[folder.name, str(number)])
        one.SeriesInstanceUID = generate_uid(entropy_srcs=[folder.name, "series"])
        one.StudyInstanceUID = generate_uid(entropy_srcs=[folder.name, "study"])
        one.FrameOfReferenceUID = generate_uid(entropy_srcs=[folder.name, "frame"])
        one.PatientID, one.PatientName = folder.name, f"{folder.name}^Phantom"
        one.PatientBirthDate = one.PatientSex = one.StudyID = one.AccessionNumber = ""
        one.ReferringPhysicianName = one.Manufacturer = one.StudyDate = one.StudyTime = ""
        one.SeriesDescription, one.SeriesNumber, one.InstanceNumber = "phantom", 1, number
        one.ImagePositionPatient = [round(value, 6) for value in position]
        one.ImageOrientationPatient = [round(value, 10) for value in axes]
        one.PixelSpacing = [round(value, 8) for value in (row, column)]
        one.SliceThickness = round(thickness, 8)
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = 1, 0
        one.PixelData = pixels.tobytes()
        one.save_as(folder / f"{number:04}.dcm", enforce_file_format=True)


if len(sys.argv) != 3:
    sys.exit("error: expected two folders: python docs/tutorial/to_dicom.py MSD OUTPUT")
source, output = map(Path, sys.argv[1:])
if output.exists():
    sys.exit(f"error: {output}: is there already, expected a new folder; delete it or name another")
(output / "scans" / "masks").mkdir(parents=True)
lines = ["case,image,label"]
for path in sorted(source.glob("images*/*.nii.gz")):
    name, label = path.name.removesuffix(".nii.gz"), source / "labelsTr" / path.name
    kind, mask = ("scans" if label.exists() else "new"), output / "scans" / "masks" / path.name
    write_series(SimpleITK.ReadImage(str(path)), output / kind / name)
    if label.exists():
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(label)), str(mask))
        lines.append(f"{name},{name},masks/{path.name}")
(output / "scans" / "manifest.csv").write_text("\n".join(lines) + "\n", "utf-8")
