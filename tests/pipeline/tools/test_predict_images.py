"""A run taken along: bundles are whole or refused, images are predicted as the stages would."""

import json

import numpy as np
import pytest
import SimpleITK
from matplotlib.image import imread
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.datasets import loading
from pipeline.datasets.cases import NAME_RULE
from pipeline.errors import PipelineError
from pipeline.evaluation.cohort.measures import claimed_agatston
from pipeline.networks.grad_cam import grad_cam_maps
from pipeline.predict import predict
from pipeline.prediction.bundle import open_bundle
from pipeline.residual_maps import residual_maps
from pipeline.storage.images.volumes import read_volume, write_volume
from pipeline.storage.masks import grid_differences
from pipeline.storage.zarr_store import open_store, read_array
from pipeline.tools.export import predict_images as images_module
from pipeline.tools.export.predict_images import predict_images
from tests.pipeline.storage.images.grids import turned
from tests.pipeline.tools.bundles import SEED, exported, raw

STAGE = ("--config", "c", "--dataset", "d", "--experiment", "e")


@pytest.fixture
def without_pages(monkeypatch):
    """Pages, which take seconds for all images, are empty."""
    monkeypatch.setattr(images_module, "prediction_page", lambda *_: b"")


@pytest.mark.parametrize("chosen", ["grcsf", "looked"])
def test_an_image_is_predicted_as_the_stages_would(
    run, tmp_path, resources, residuals, mae, chosen
):
    layout, dataset = run
    slices = dataset.slices
    residual_maps(layout, "mrm", "1of1", residuals, {"shared": mae}, (1,), slices, SEED, resources)
    cam = dataset.residuals["cam"]
    grad_cam_maps(layout, "cam", "1of1", cam, dataset.experiments["unet"], (1,), slices, resources)
    maps = {"grcsf": 2, "looked": 1}[chosen]
    predict(layout, chosen, 1, dataset.experiments[chosen], maps, slices, resources)
    expected = read_array(open_store(layout.prediction_store(chosen, 1, "d")), "probability")

    model = exported(run, tmp_path / "run.zip", chosen)
    image = raw(run, tmp_path / "d.nii.gz")
    predict_images([image], model, tmp_path / "out", resources, probabilities=True)
    found = read_volume(tmp_path / "out" / "d-probability.nii.gz")
    # slices share their batches with other cases there
    np.testing.assert_allclose(found.array, expected.astype(np.float32), atol=2e-3)
    mask = read_volume(tmp_path / "out" / "d.nii.gz")
    sure = np.abs(expected.astype(np.float32) - 0.5) > 2e-3
    assert (mask.array[sure] == (expected >= 0.5)[sure]).all()
    source = read_volume(image).geometry
    for one in (found.geometry, mask.geometry):
        assert one.shape == source.shape
        np.testing.assert_allclose(one.origin, source.origin)
        np.testing.assert_allclose(one.direction, source.direction)
    measured = json.loads((tmp_path / "out" / "d.json").read_text("utf-8"))
    voxel_ml = 3.0 * 0.8 * 0.8 / 1000
    assert measured["lesion_ml"] == pytest.approx(np.count_nonzero(mask.array) * voxel_ml)
    assert imread(tmp_path / "out" / "d.png").shape[1] > 300


@pytest.mark.usefixtures("without_pages")
def test_an_image_stored_in_another_plane_gets_the_same_mask_on_its_own_grid(
    run, tmp_path, resources
):
    layout, dataset = run
    axial = dataset.slices.model_copy(update={"plane": "axial"})
    chosen = dataset.model_copy(update={"slices": axial})
    model = exported((layout, chosen), tmp_path / "run.zip", "unet")
    upright = raw(run, tmp_path / "d.nii.gz")
    volume = read_volume(upright)
    sagittal = turned(volume.array, volume.geometry)
    write_volume(tmp_path / "e.nii.gz", *sagittal)
    predict_images(
        [upright, tmp_path / "e.nii.gz"], model, tmp_path / "out", resources, probabilities=True
    )
    for kind in ("", "-probability"):
        as_stored, other = (read_volume(tmp_path / "out" / f"{c}{kind}.nii.gz") for c in "de")
        assert 0 < as_stored.array.sum() < as_stored.array.size
        np.testing.assert_array_equal(other.array, turned(as_stored.array, volume.geometry)[0])
        assert grid_differences(other.geometry, sagittal[1]) == []


@pytest.mark.usefixtures("without_pages")
def test_every_format_is_read(run, tmp_path, resources):
    model = exported(run, tmp_path / "run.zip", "unet")
    images = [raw(run, tmp_path / f"image-{end[1:]}{end}") for end in (".mhd", ".nrrd", ".nii")]
    series = tmp_path / "series"
    series.mkdir()
    array = read_array(open_store(run[0].case_store("d")), "image")
    for z, plane in enumerate(array):
        slice_ = SimpleITK.GetImageFromArray(plane[None])
        tags = {"0008|0060": "MR", "0020|000e": "1.2.3", "0020|0013": str(z + 1)}
        tags |= {"0020|0032": f"0\\0\\{3 * z}", "0020|0037": "1\\0\\0\\0\\1\\0"}
        for tag, value in tags.items():
            slice_.SetMetaData(tag, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{z}.dcm"))
        writer.Execute(slice_)
    predict_images([*images, series], model, tmp_path / "out", resources)
    written = sorted(path.name for path in (tmp_path / "out").glob("*") if path.suffix != ".json")
    endings = {"image-mhd": "mha", "image-nii": "nii.gz", "image-nrrd": "nii.gz"}
    endings["series"] = "nii.gz"
    assert written == [f"{n}.{end}" for n, mask in endings.items() for end in (mask, "png")]
    masks = [read_volume(tmp_path / "out" / name).array for name in written if "png" not in name]
    assert all((mask == masks[0]).all() for mask in masks)


@pytest.mark.usefixtures("without_pages")
def test_faulty_images_are_named_and_the_others_done(run, tmp_path, resources):
    model = exported(run, tmp_path / "run.zip", "unet")
    good = raw(run, tmp_path / "good.nii.gz")
    (tmp_path / "bad.nii.gz").write_bytes(good.read_bytes()[:200])
    four = SimpleITK.GetImageFromArray(np.zeros((2, 4, 8, 8), np.int16), isVector=False)
    SimpleITK.WriteImage(four, str(tmp_path / "four.nii.gz"))
    images = [good, tmp_path / "bad.nii.gz", tmp_path / "four.nii.gz", tmp_path / "none.nii.gz"]
    with pytest.raises(PipelineError) as raised:
        predict_images(images, model, tmp_path / "out", resources)
    lines = str(raised.value).splitlines()
    assert lines[0] == "3 of 4 images could not be used:"
    assert len(lines) == 4
    for name in ("bad", "four", "none"):
        assert any(line.startswith(f"case {name}: ") for line in lines[1:])
    assert (tmp_path / "out" / "good.nii.gz").exists()


@pytest.mark.usefixtures("without_pages")
def test_an_image_that_a_stage_refuses_leaves_the_others(run, tmp_path, resources, monkeypatch):
    model = exported(run, tmp_path / "run.zip", "unet")
    images = [raw(run, tmp_path / name) for name in ("second.nii", "third.nii")]

    def written(layout, bundle, cases, *others, stages=images_module._run_stages, **chosen):
        if "second" in cases:
            raise PipelineError("case second: refused")
        stages(layout, bundle, cases, *others, **chosen)

    monkeypatch.setattr(images_module, "_run_stages", written)
    with pytest.raises(PipelineError, match="1 of 2 images") as raised:
        predict_images(images, model, tmp_path / "out", resources)
    assert str(raised.value).splitlines()[1] == f"{images[0]}: case second: refused"
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["third.nii.gz"]


def test_an_image_is_never_replaced_by_its_mask(run, tmp_path, resources):
    model = exported(run, tmp_path / "run.zip", "unet")
    (tmp_path / "scans").mkdir()
    image = raw(run, tmp_path / "scans" / "d.nii.gz")
    before = image.read_bytes()
    (tmp_path / "link").symlink_to(tmp_path / "scans")
    for output in (tmp_path / "scans", tmp_path / "link"):
        with pytest.raises(PipelineError, match="choose another folder"):
            predict_images([image], model, output, resources)
    assert image.read_bytes() == before
    assert list((tmp_path / "scans").iterdir()) == [image]


@pytest.mark.usefixtures("without_pages")
def test_names_must_tell_images_apart_and_keep_no_other_from_its_mask(run, tmp_path, resources):
    model = exported(run, tmp_path / "run.zip", "unet")
    names = ["a/x.nii.gz", "b/x.nii", "a/é.nii", "good.nii.gz"]
    images = [tmp_path / name for name in names]
    for image in images:
        image.parent.mkdir(exist_ok=True)
        raw(run, image)
    with pytest.raises(PipelineError) as raised:
        predict_images(images, model, tmp_path / "out", resources)
    first, *lines = str(raised.value).splitlines()
    assert first == "3 of 4 images could not be used:"
    assert sorted(line.rpartition(": ")[2] for line in lines) == [
        "all would be called x; rename all but one",
        f"found the name 'é', expected {NAME_RULE}; rename it",
    ]
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["good.nii.gz"]


def test_a_mask_never_has_the_name_of_a_probability_map(tmp_path, resources):
    images = [tmp_path / "a.nii.gz", tmp_path / "a-probability.nii.gz"]
    with pytest.raises(PipelineError, match=r"probability map of .*a\.nii\.gz; rename it"):
        predict_images(
            images, tmp_path / "run.zip", tmp_path / "out", resources, probabilities=True
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.nii"], "images need --model"),
        (["--model", "m", "--output", "o"], "expected images with --model"),
        (["x.nii", "--model", "m", "--output", "o", "--config", "c"], "leave --config"),
        ([*STAGE, "--model", "m"], "go with images"),
        ([*STAGE, "--probabilities"], "go with images"),
    ],
)
def test_a_command_of_neither_use_is_refused(arguments, said):
    done = CliRunner().invoke(app, ["predict", *arguments])
    assert isinstance(done.exception, PipelineError)
    assert said in str(done.exception)


def test_the_agatston_score_is_that_of_whole_candidates(run, tmp_path):
    bundle = open_bundle(exported(run, tmp_path / "run.zip", "unet"), tmp_path / "tree")
    hu = np.full((3, 8, 8), 40, np.int16)
    hu[1, 2:4, 2:4] = 310
    hu[1, 6, 6] = 500
    mask = np.zeros(hu.shape, bool)
    mask[1, 2, 2] = True
    # four pixels of 0.25 mm², 300 HU and more, 3 mm apart; the other candidate is not claimed
    assert claimed_agatston(bundle.dataset, mask, hu, (3.0, 0.5, 0.5)) == pytest.approx(
        4 * 0.25 * 3
    )


@pytest.mark.usefixtures("without_pages")
def test_whatever_one_image_raises_the_others_are_predicted(run, tmp_path, resources, monkeypatch):
    model = exported(run, tmp_path / "run.zip", "unet")
    good = [raw(run, tmp_path / f"good-{n}.nii.gz", case) for n, case in enumerate("abcdea")]
    bad = {name: tmp_path / f"{name}.nii.gz" for name in ("library", "memory", "cut", "gone")}
    for name in ("library", "memory", "cut"):
        raw(run, bad[name])
    bad["cut"].write_bytes(bad["cut"].read_bytes()[:200])
    read = loading.read_volume

    def reading(path, *others, **chosen):
        if path == bad["library"]:
            np.zeros(3).reshape(2, 2)
        if path == bad["memory"]:
            raise MemoryError
        return read(path, *others, **chosen)

    monkeypatch.setattr(loading, "read_volume", reading)
    mixed = [*good[:2], *bad.values(), *good[2:]]
    with pytest.raises(PipelineError) as raised:
        predict_images(mixed, model, tmp_path / "out", resources)
    first, *lines = str(raised.value).splitlines()
    assert first == "4 of 10 images could not be used:"
    assert [line.split(":")[0] for line in lines] == [f"case {name}" for name in bad]
    assert f"case library: {bad['library']}: cannot be used (ValueError: cannot reshape" in lines[0]
    assert "memory is too small for it (MemoryError)" in lines[1]
    masks = sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz"))
    assert masks == [path.name for path in good]
    assert not list((tmp_path / "out").glob(".*"))


def test_a_stop_is_no_fault_of_an_image(run, tmp_path, resources, monkeypatch):
    model = exported(run, tmp_path / "run.zip", "unet")

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(loading, "read_volume", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_images([raw(run, tmp_path / "d.nii")], model, tmp_path / "out", resources)
