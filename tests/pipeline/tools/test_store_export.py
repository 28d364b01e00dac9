"""`grcsf store export`: images and residual maps as files for any viewer."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.masks import grid_differences, store_geometry
from pipeline.storage.zarr_store import open_store, read_array, write_store
from tests.pipeline.results import rewrite_attributes
from tests.pipeline.storage.images.grids import attributes_of, tilted, turned


def export(config, output, *arguments):
    files = ["--config", str(config), "--dataset", "discs", "--output", str(output)]
    return CliRunner().invoke(app, ["store", "export", *files, *arguments])


def test_export_writes_what_any_viewer_overlays(config, ingested, tmp_path):
    output = tmp_path / "out"
    done = export(config, output, "a")
    assert done.exit_code == 0, done.output
    names = ["a-image.nii.gz", "a-mrm-50-masked.nii.gz", "a-mrm-75-masked.nii.gz"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert done.stdout.split() == [str(output / name) for name in names]
    store = open_store(ingested.case_store("a"))
    image = read_volume(output / names[0])
    np.testing.assert_array_equal(image.array, read_array(store, "image"))
    maps = read_array(open_store(ingested.residual_store("mrm", "a")), "residual")
    expected = store_geometry(store)
    for name, values in zip(names[1:], maps, strict=True):
        volume = read_volume(output / name)
        assert volume.geometry.shape == expected.shape
        for part in ("spacing", "origin", "direction"):
            stored, written = getattr(expected, part), getattr(volume.geometry, part)
            np.testing.assert_allclose(written, stored, atol=1e-5)
        values = torch.from_numpy(values.astype(np.float32))[:, None]
        resized = F.interpolate(values, (30, 26), mode="bilinear")
        np.testing.assert_array_equal(volume.array, resized[:, 0].numpy())


@pytest.mark.parametrize("lies", ["sagittal", "tilted"])
def test_an_image_lies_as_its_file_does_unless_no_nifti_file_can(config, ingested, tmp_path, lies):
    store = open_store(ingested.case_store("a"))
    image, grid = read_array(store, "image"), store_geometry(store)
    expected = turned(image, grid) if lies == "sagittal" else (image, grid)
    source = expected[1] if lies == "sagittal" else tilted(20, grid.shape, grid.spacing)
    rewrite_attributes(ingested.case_store("a"), source_grid=attributes_of(source))
    assert export(config, tmp_path / "out", "a").exit_code == 0
    for path in (tmp_path / "out").iterdir():
        assert grid_differences(read_volume(path).geometry, expected[1]) == []
    written = read_volume(tmp_path / "out" / "a-image.nii.gz").array
    np.testing.assert_array_equal(written, expected[0])


@pytest.mark.parametrize(
    ("case", "more", "reason"),
    [
        ("f", [], "case f: not among the 5 ingested cases"),
        ("c", [], "case c: has no residual maps yet; run residual-maps first"),
        ("c", ["--residuals", "mrm"], "not there; run the stage that writes it"),
        ("b", [], "made with other settings than residuals.mrm has now"),
    ],
)
def test_export_says_what_it_lacks(config, ingested, tmp_path, case, more, reason):
    path = ingested.residual_store("mrm", "b")
    made_by = {"fingerprint": "f", "residuals": {"visible": "paste"}}
    write_store(path, {"residual": np.zeros((2, 6, 32, 32), np.float16)}, made_by, slice_axis=1)
    error = export(config, tmp_path / "out", case, *more).exception
    assert isinstance(error, PipelineError)
    assert reason in str(error)
