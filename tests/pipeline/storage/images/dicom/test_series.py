"""What lies in a DICOM folder beside the scan is told and left out; of two scans one is chosen."""

import numpy as np
import pytest
from pydicom import uid

from pipeline.errors import PipelineError
from pipeline.storage.images.dicom.content import is_dicom, may_hold_slices
from pipeline.storage.images.volumes import read_geometry, read_volume
from tests.pipeline.dicom_files import (
    dataset,
    random_values,
    save,
    set_values,
    write_frames,
    write_slices,
)

STORED = random_values()
LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
OTHER_CLASSES = {
    "DICOMDIR": uid.MediaStorageDirectoryStorage,
    "dose": uid.XRayRadiationDoseSRStorage,
    "contours": uid.RTStructureSetStorage,
}


def picture(made, _index):
    """A dose report as a colour picture."""
    set_values(made, np.zeros((8, 9), np.uint8), bits=8)
    made.SamplesPerPixel, made.PhotometricInterpretation, made.PlanarConfiguration = 3, "RGB", 0
    made.PixelData = bytes(8 * 9 * 3)


def across(made, index):
    """Slices of a survey: each along another axis, and nothing says localizer."""
    made.ImageOrientationPatient = [[1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, -1]][index % 2]


def write_others(folder):
    """All that an archive puts beside a scan."""
    for name, kind in OTHER_CLASSES.items():
        save(dataset(kind, "1.7"), folder / name)
    write_slices(folder, STORED[:2], name="loc{}", ImageType=LOCALIZER)
    write_slices(folder, STORED[:2], name="survey{}", edit=across)
    write_slices(folder, STORED[:1], name="picture{}", edit=picture)
    write_slices(folder, STORED[:1], name="lone{}", SeriesDescription="lone")
    (folder / "readme.txt").write_text("nothing")


def test_what_is_no_scan_is_told_and_left_out(tmp_path):
    write_slices(tmp_path, STORED, name="CT.1.2.3.{}")
    write_others(tmp_path)
    volume = read_volume(tmp_path)
    np.testing.assert_array_equal(volume.array, STORED.astype(int) - 1024)
    assert read_geometry(tmp_path) == volume.geometry
    assert {note.severity for note in volume.notes} == {"note"}
    told = " ".join(note.found for note in volume.notes)
    for words in ("Media Storage Directory: DICOMDIR", "Dose SR: dose", "Structure Set: contours",
                  "localizer: loc0, loc1", "colour picture: picture0", "no DICOM: readme.txt",
                  "survey0, survey1", "'lone' (1 slices"):  # fmt: skip
        assert words in told


def test_a_folder_without_scan_says_what_it_holds(tmp_path):
    write_slices(tmp_path / "a", STORED[:2], ImageType=LOCALIZER)
    save(dataset(uid.XRayRadiationDoseSRStorage), tmp_path / "a" / "dose")
    with pytest.raises(
        PipelineError, match=r"0 DICOM series, but localizer \(2\), X-Ray Rad.*\(1\)"
    ):
        read_volume(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="0 DICOM series, expected 1"):
        read_volume(tmp_path / "empty")


@pytest.mark.parametrize(
    ("elements", "words"),
    [({}, "one slice of a DICOM series, expected a scan"), ({"ImageType": LOCALIZER}, "localizer")],
)
@pytest.mark.parametrize("frames", [False, True])
def test_a_lone_slice_and_a_localizer_are_no_scan_by_path_or_by_folder(
    tmp_path, elements, words, frames
):
    def edit(made, _index):
        for name, value in elements.items():
            setattr(made, name, value)

    path = tmp_path / "IM1"
    if frames:
        write_frames(path, STORED[:1], edit=edit)
    else:
        write_slices(tmp_path, STORED[:1], name="IM1", edit=edit)
    for given in (path, tmp_path):
        for read in (read_volume, read_geometry):
            with pytest.raises(PipelineError, match=words):
                read(given)


def test_of_two_scans_the_description_or_uid_chooses(tmp_path):
    write_slices(tmp_path, STORED, series="1.2.1", name="a{}", SeriesDescription="thin")
    write_slices(tmp_path, STORED[:4], series="1.2.2", name="b{}", SeriesDescription="thick")
    words = r"2 DICOM series: 'thin' \(6 slices, 1\.2\.1\), 'thick' \(4 slices, 1\.2\.2\)"
    with pytest.raises(PipelineError, match=words + r".* set source\.series"):
        read_volume(tmp_path)
    for chosen, count in (("thin", 6), ("1.2.1", 6), ("thick", 4)):
        volume = read_volume(tmp_path, series=chosen)
        assert volume.array.shape[0] == count
        assert read_geometry(tmp_path, series=chosen).shape[0] == count
        (note,) = volume.notes
        assert f"({10 - count} slices" in note.found
    with pytest.raises(PipelineError, match=r"no DICOM series 'bone', but 'thin'.*'thick'"):
        read_volume(tmp_path, series="bone")
    write_slices(tmp_path, STORED[:3], series="1.2.9", name="c{}", SeriesDescription="thin")
    with pytest.raises(PipelineError, match=r"2 DICOM series: .* to the UID of one"):
        read_volume(tmp_path, series="thin")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("007", b"", "the file is empty"),
        ("007.dcm", b"no slice at all", "no DICOM, expected a DICOM slice"),
        ("007", bytes(128) + b"DICM" + b"\x02\x00", "damaged|ends early"),
    ],
)
def test_a_damaged_slice_is_not_left_out(tmp_path, name, content, words):
    write_slices(tmp_path, STORED)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=f"007.*({words})"):
        read_volume(tmp_path)


def test_slices_are_known_by_their_first_bytes(tmp_path):
    write_slices(tmp_path / "scan", STORED[:2], name="1.2.840.{}")
    write_others(tmp_path / "others")
    (tmp_path / "scan" / "bad.dcm").touch()
    assert all(may_hold_slices(path) for path in (tmp_path / "scan").iterdir())
    found = {path.name for path in (tmp_path / "others").iterdir() if may_hold_slices(path)}
    assert found == {"survey0", "survey1", "lone0"}
    assert not is_dicom(tmp_path / "others" / "readme.txt")
    assert not may_hold_slices(tmp_path)


def test_frames_are_described_one_by_one(tmp_path):
    def shorten(made, _index):
        del made.PerFrameFunctionalGroupsSequence[-1]

    write_frames(tmp_path / "short", STORED, edit=shorten)
    with pytest.raises(PipelineError, match="6 frames, and where 5 lie"):
        read_volume(tmp_path / "short")

    def without_places(made, _index):
        for name in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            delattr(made, name)
        made.ImagePositionPatient, made.ImageOrientationPatient = [1, 2, 3], [1, 0, 0, 0, 1, 0]

    write_frames(tmp_path / "bare", STORED, edit=without_places)
    with pytest.raises(PipelineError, match="picture that does not say where it lies"):
        read_volume(tmp_path / "bare")
