"""`grcsf predict --format seg`: what is written in place of a NIfTI mask, and what is refused."""

import numpy as np
import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.cohort.measures import in_words
from pipeline.storage.images.dicom.segmentation import read_segmentation
from pipeline.storage.images.volumes import read_geometry, read_volume
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export import predict_images as images_module
from pipeline.tools.export.predict_images import predict_images
from tests.pipeline.dicom_files import write_frames, write_slices
from tests.pipeline.tools.bundles import exported, raw
from tests.pipeline.tools.calls import call


@pytest.fixture
def model(run, tmp_path, monkeypatch):
    """A bundle of a network that finds some lesion; its pages are empty."""
    monkeypatch.setattr(images_module, "prediction_page", lambda *_: b"")
    return exported(run, tmp_path / "run.zip", "unet")


def series(run, path, write=write_slices, **chosen):
    """A case as DICOM, whose first file is its last slice."""
    array = read_array(open_store(run[0].case_store("d")), "image")
    lowest = int(array.min())
    stored = (array - lowest).astype(np.uint16)[::-1]
    positions = [(0, 0, 3.0 * z) for z in range(len(stored))][::-1]
    edit = chosen.pop("edit", lambda made, _: setattr(made, "Modality", "MR"))
    rescale = [(1, lowest)] * len(stored)
    write(path, stored, positions, rescale, edit=edit, **chosen)
    return path


def test_a_segmentation_holds_the_mask_that_nifti_would_and_is_the_same_again(
    run, tmp_path, resources, model
):
    images = [series(run, tmp_path / "slices"), tmp_path / "frames.dcm"]
    series(run, images[1], write_frames)
    predict_images(images, model, tmp_path / "nifti", resources)
    for output, chosen in (("seg", images), ("again", images[:1])):
        predict_images(chosen, model, tmp_path / output, resources, mask_format="seg")
    names = sorted(path.name for path in (tmp_path / "seg").iterdir())
    assert names == [f"{n}.{end}" for n in ("frames", "slices") for end in ("dcm", "json", "png")]
    for image in images:
        mask = read_volume(tmp_path / "nifti" / f"{image.stem}.nii.gz").array
        assert 0 < mask.sum() < mask.size
        file = tmp_path / "seg" / f"{image.stem}.dcm"
        np.testing.assert_array_equal(read_segmentation(file, read_geometry(image)), mask)
    slices = (tmp_path / output / "slices.dcm" for output in ("seg", "again"))
    assert len({file.read_bytes() for file in slices}) == 1


def test_dicom_of_another_modality_is_told_and_named_without_its_ending(
    run, tmp_path, resources, model, caplog
):
    ct = series(run, tmp_path / "SCAN.DCM", write_frames, edit=lambda *_: None)
    mr = series(run, tmp_path / "other.dcm", write_frames)
    predict_images([ct, mr], model, tmp_path / "out", resources, mask_format="seg")
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"SCAN", "other"}
    (told,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert told.startswith(f"SCAN: {ct}: DICOM of modality CT, and the model was trained on MR; ")


def test_what_is_no_dicom_is_refused_before_anything_is_computed(run, tmp_path):
    images = [series(run, tmp_path / "slices"), raw(run, tmp_path / "d.nii")]
    chosen = ("--model", tmp_path / "none.zip", "--output", tmp_path / "out", "--format", "seg")
    code, said = call("predict", *images, *chosen)
    assert code == 1
    assert said.startswith(f"--format seg: found {images[1]}, which is no DICOM")
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


def test_headers_that_no_segmentation_can_refer_to_are_told_before_the_prediction(
    run, tmp_path, resources, model, monkeypatch
):
    def without_study(made, _):
        made.Modality = "MR"
        del made.StudyInstanceUID

    images = [series(run, tmp_path / "bad", edit=without_study), series(run, tmp_path / "good")]
    predicted, stages = [], images_module._run_stages

    def run_stages(layout, bundle, cases, resources, **chosen):
        predicted.extend(cases)
        stages(layout, bundle, cases, resources, **chosen)

    monkeypatch.setattr(images_module, "_run_stages", run_stages)
    with pytest.raises(PipelineError) as raised:
        predict_images(images, model, tmp_path / "out", resources, mask_format="seg")
    first, line = str(raised.value).splitlines()
    assert first == "1 of 2 images could not be used:"
    assert line.startswith(f"case bad: {images[0]}/00")
    assert ".dcm: no StudyInstanceUID, expected a UID" in line
    assert predicted == ["good"]
    assert (tmp_path / "out" / "good.dcm").exists()


def test_each_image_has_a_line_and_the_others_change_no_bit_of_its_mask(run, tmp_path, model):
    images = [raw(run, tmp_path / f"{case}.nii", case) for case in "abd"]

    def predicted(output, images):
        return call("predict", *images, "--model", model, "--output", tmp_path / output)

    code, alone = predicted("alone", images[2:])
    assert code == 0
    number, unit, *lesions = alone.removeprefix("d: ").split()
    assert float(number) > 0
    assert unit == "ml,"
    assert lesions[-1].startswith("lesion")
    code, all_lines = predicted("all", images)
    assert code == 0
    assert [line[:3] for line in all_lines.splitlines()] == ["a: ", "b: ", "d: "]
    assert all_lines.endswith(alone)
    alone_mask, mask = ((tmp_path / name / "d.nii.gz").read_bytes() for name in ("alone", "all"))
    assert mask == alone_mask


def test_the_line_of_a_heart_tells_its_agatston_score():
    measured = {"lesions": 1, "lesion_ml": 0.25, "agatston": 2051.04}
    assert in_words(measured) == "0.25 ml, 1 lesion, Agatston score 2051.0"
    assert in_words({"lesions": 5, "lesion_ml": 2345.6}) == "2350 ml, 5 lesions"
