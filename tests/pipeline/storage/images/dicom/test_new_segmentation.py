"""A DICOM SEG says which voxels of which slices are lesion, to every reader, the same each time."""

import io
import shutil
import subprocess

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK

from pipeline.errors import PipelineError
from pipeline.storage.images.dicom.new_segmentation import (
    Maker,
    segmentation_bytes,
    segmented_series,
)
from pipeline.storage.images.dicom.segmentation import read_segmentation
from pipeline.storage.images.volumes import read_geometry
from tests.pipeline.dicom_files import both, random_values, write_frames, write_slices

SHAPE = (6, 8, 9)
MAKER = Maker("GRCSF 1.0", "GRCSF/net", "0123abcd", "GRCSF lesions: net of set", "a digest")
OBLIQUE, FLIPPED = ((0.96, 0, 0.28), (0, 0, -1)), ((-0.96, 0, 0.28), (0, 1, 0))
# of the slices as their files are ordered, from the lowest along their normal
ORDER = (3, 0, 5, 1, 4, 2)


def lesions():
    mask = np.zeros(SHAPE, bool)
    mask[1, 2:4, 5] = True
    mask[4, 6, 1:8] = True
    return mask


def written(write, folder, axes=OBLIQUE, **chosen):
    """A series of oblique, anisotropic slices whose files are in no order."""
    along_row = np.array(axes[0]) / np.linalg.norm(axes[0])
    along_column = np.array(axes[1]) - along_row * (along_row @ axes[1])
    along_column /= np.linalg.norm(along_column)
    normal = np.cross(along_row, along_column)
    places = [(np.array([-10, 5, 3]) + 2.5 * place * normal).round(9) for place in ORDER]
    cosines = np.concatenate([along_row, along_column]).round(9).tolist()
    positions = [place.tolist() for place in places]
    write(
        folder / "s", random_values(SHAPE), positions,
        spacing=(0.7, 0.9), orientation=cosines, **chosen,
    )  # fmt: skip
    return folder / "s"


def seg(folder, mask, maker=MAKER):
    return segmentation_bytes(segmented_series(folder), mask, maker)


def parsed(content):
    return pydicom.dcmread(io.BytesIO(content))


def places(indices, origin, steps):
    """Positions (x, y, z) in mm, sorted; `steps` are columns for z, y and x."""
    found = np.asarray(origin) + np.asarray(indices) @ np.asarray(steps).T
    return np.array(sorted(found.round(3).tolist()))


@both
@pytest.mark.parametrize("axes", [OBLIQUE, FLIPPED])
def test_every_reader_finds_the_lesions_where_they_lie(tmp_path, write, axes):
    folder = written(write, tmp_path, axes)
    geometry, mask = read_geometry(folder), lesions()
    file = tmp_path / "mask.dcm"
    file.write_bytes(seg(folder, mask))
    lps = slice(None, None, -1)
    steps = (geometry.axes * geometry.spacing)[lps]
    expected = places(np.argwhere(mask), geometry.origin[lps], steps)

    np.testing.assert_array_equal(read_segmentation(file, geometry) > 0, mask)
    image = SimpleITK.ReadImage(str(file))
    array = SimpleITK.GetArrayFromImage(image)
    assert array.shape == SHAPE
    steps = (np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing())[:, lps]
    found = places(np.argwhere(array), image.GetOrigin(), steps)
    np.testing.assert_allclose(found, expected, atol=2e-3)
    volume = highdicom.seg.segread(file).get_volume(combine_segments=True)
    found = places(np.argwhere(volume.array), volume.affine[:3, 3], volume.affine[:3, :3])
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_slices_at_rounded_positions_lie_where_the_image_does_in_every_reader(tmp_path):
    heights = [round(0.625 * place, 1) for place in range(12)]
    write_slices(tmp_path / "s", random_values((12, 8, 9)), [(0, 0, height) for height in heights])
    geometry = read_geometry(tmp_path / "s")
    file = tmp_path / "mask.dcm"
    file.write_bytes(seg(tmp_path / "s", np.ones((12, 8, 9))))
    assert read_segmentation(file, geometry).all()
    image = SimpleITK.ReadImage(str(file))
    ends = sorted(image.TransformIndexToPhysicalPoint((0, 0, place))[2] for place in (0, 11))
    assert ends == pytest.approx([0, 11 * geometry.spacing[0]], abs=1e-6)


def test_a_direction_that_each_frame_gives_for_itself_is_read(tmp_path):
    def moved(made, _):
        (shared,) = made.SharedFunctionalGroupsSequence
        for frame in made.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        made.SharedFunctionalGroupsSequence = []

    folder = written(write_frames, tmp_path, edit=moved)
    (tmp_path / "mask.dcm").write_bytes(seg(folder, lesions()))
    found = read_segmentation(tmp_path / "mask.dcm", read_geometry(folder))
    np.testing.assert_array_equal(found > 0, lesions())


@both
@pytest.mark.parametrize("mask", [lesions(), np.zeros(SHAPE, bool)], ids=["some", "none"])
def test_the_file_is_what_the_standard_asks_for(tmp_path, write, mask):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy checks DICOM files and is not installed (package dicom3tools)")
    file = tmp_path / "mask.dcm"
    file.write_bytes(seg(written(write, tmp_path), mask))
    checked = subprocess.run(["dciodvfy", "-new", file], capture_output=True, text=True)
    assert "Segmentation" in checked.stderr
    assert [line for line in checked.stderr.splitlines() if line.startswith("Error")] == []
    assert checked.returncode == 0


def test_without_lesion_the_segment_has_a_frame_of_zeros_for_every_slice(tmp_path):
    made = parsed(seg(written(write_slices, tmp_path), np.zeros(SHAPE, bool)))
    assert made.NumberOfFrames == SHAPE[0]
    assert not any(made.PixelData)
    assert [one.SegmentLabel for one in made.SegmentSequence] == ["Lesion"]


def test_each_frame_refers_to_the_slice_at_its_place(tmp_path):
    folder = written(write_slices, tmp_path)
    made = parsed(seg(folder, lesions()))
    sources = {file.SOPInstanceUID: file for file in map(pydicom.dcmread, folder.iterdir())}
    assert len(sources) == made.NumberOfFrames
    for frame in made.PerFrameFunctionalGroupsSequence:
        (derived,) = frame.DerivationImageSequence[0].SourceImageSequence
        place = sources[derived.ReferencedSOPInstanceUID].ImagePositionPatient
        assert frame.PlanePositionSequence[0].ImagePositionPatient == pytest.approx(place)


def test_it_belongs_to_the_patient_and_study_and_says_what_made_it(tmp_path):
    def named(made, _):
        made.SpecificCharacterSet, made.PatientName = "ISO_IR 100", "Müller^Jörg"
        made.StudyDate, made.SeriesNumber = "20240229", 4

    made = parsed(seg(written(write_slices, tmp_path, edit=named, PatientSex="F"), lesions()))
    source = pydicom.dcmread(next((tmp_path / "s").iterdir()))
    for name in ("PatientID", "PatientSex", "StudyInstanceUID", "StudyDate", "FrameOfReferenceUID"):
        assert made[name].value == source[name].value
    assert str(made.PatientName) == "Müller^Jörg"
    assert (made.Modality, made.SeriesDescription) == ("SEG", "GRCSF lesions: net of set")
    assert made.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID
    assert (made.SeriesNumber, made.ContentDate) == (1004, "20240229")
    (segment,) = made.SegmentSequence
    assert (segment.SegmentAlgorithmType, segment.SegmentAlgorithmName) == (
        "AUTOMATIC",
        "GRCSF/net",
    )
    assert segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmVersion == "0123abcd"
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"


@pytest.mark.parametrize(
    ("characters", "name"),
    [("ISO_IR 192", "Ünal^Ö"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_a_name_in_any_characters_stays_as_it_is(tmp_path, characters, name):
    def named(made, _):
        made.SpecificCharacterSet, made.PatientName = characters, name

    made = parsed(seg(written(write_slices, tmp_path, edit=named), lesions()))
    assert str(made.PatientName) == name


def test_the_same_mask_of_the_same_images_is_the_same_file_and_no_other_shares_its_uid(tmp_path):
    folder = written(write_slices, tmp_path)
    first, other = lesions(), lesions()
    other[0, 0, 0] = True
    content = seg(folder, first)
    assert seg(folder, first) == content
    remade = Maker("GRCSF 1.0", "GRCSF/net", "0123abcd", "the same", "another digest")
    made = [parsed(one) for one in (content, seg(folder, other), seg(folder, first, remade))]
    for name in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({one[name].value for one in made}) == 3


def test_values_that_may_be_empty_may_be_missing_and_a_thickness_too(tmp_path):
    def anonymous(made, _):
        for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID"):
            delattr(made, name)
        for name in ("AccessionNumber", "StudyDate", "StudyTime", "ReferringPhysicianName"):
            delattr(made, name)
        del made.SliceThickness

    made = parsed(seg(written(write_slices, tmp_path, edit=anonymous), lesions()))
    assert made.PatientID == ""
    (measures,) = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.SliceThickness == pytest.approx(2.5)


def lacking(name):
    return lambda made, _: delattr(made, name)


def having(name, value):
    return lambda made, index: setattr(made, name, value(index))


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lacking("StudyInstanceUID"), r"\.dcm: no StudyInstanceUID, expected a UID"),
        (lacking("SOPInstanceUID"), r"\.dcm: no SOPInstanceUID, expected a UID"),
        (lacking("FrameOfReferenceUID"), r"\.dcm: no FrameOfReferenceUID, expected a UID"),
        (having("StudyInstanceUID", lambda _: "x1"), r"\.dcm: StudyInstanceUID 'x1', expected"),
        (having("SOPInstanceUID", lambda _: "1.2"), "6 slices with 1 SOPInstanceUID"),
        (having("PatientID", str), "slices of several studies or patients"),
        (having("PatientSex", lambda _: "X"), "no DICOM SEG can be made .*'X' is not a valid"),
    ],
)
def test_headers_of_which_none_can_be_made_are_refused_in_one_line(tmp_path, edit, words):
    folder = written(write_slices, tmp_path, edit=edit)
    with pytest.raises(PipelineError, match=words) as caught:
        seg(folder, lesions())
    assert "--format nifti" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tilted_slices_are_refused_because_readers_would_stack_them_upright(tmp_path):
    leaning = (1, 0, 0, 0, 0.96, -0.28)
    write_slices(tmp_path / "s", random_values(SHAPE), orientation=leaning)
    with pytest.raises(PipelineError, match=r"slices tilted by 16\.3°.* --format nifti"):
        segmented_series(tmp_path / "s")


def test_frames_in_several_files_are_refused(tmp_path):
    for part in range(2):
        heights = [(0, 0, 3.0 * (2 * part + frame)) for frame in range(2)]
        same = lambda made, _: setattr(made, "SeriesInstanceUID", "1.2.9")  # noqa: E731
        write_frames(tmp_path / "s" / f"{part}", random_values((2, 4, 5)), heights, edit=same)
    with pytest.raises(PipelineError, match="frames in 2 files, expected one file"):
        segmented_series(tmp_path / "s")
