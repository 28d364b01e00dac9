"""Residual stores hold what the settings say, are made once, and do not depend on their batch."""

import shutil

import numpy as np
import pytest
import torch
from torch._inductor import config as inductor

from grcsf.mae.build import build_masked_model
from pipeline import residual_maps as stage
from pipeline.errors import PipelineError
from pipeline.networks.build import masked_models
from pipeline.networks.weights import keep_model
from pipeline.storage.files import read_json, write_json
from pipeline.storage.folders import folder_of
from pipeline.storage.zarr_store import open_store, read_array
from tests.pipeline.results import MAE, RESIDUALS, RESOURCES, SLICES

SEED = 5


def reconstruct(layout, *, mae=MAE, residuals=RESIDUALS, resources=RESOURCES, subsets=(1,)):
    maes = {"shared": mae}
    stage.residual_maps(layout, "mrm", "1of1", residuals, maes, subsets, SLICES, SEED, resources)


def made_cases(layout):
    return sorted(path.stem for path in layout.stage("residual_maps").glob("mrm/*.zarr"))


def test_residual_stores_hold_what_the_settings_say(with_residuals):
    store = open_store(with_residuals.residual_store("mrm", "a"))
    maps = read_array(store, "residual")
    assert maps.shape == (2, 6, 32, 32)
    assert maps.dtype == np.float16
    assert np.isfinite(maps).all()
    assert 0 <= maps.min() < maps.max() <= 1
    assert not maps[:, 0].any(), "an empty slice needs no pass"
    assert store.attrs["coverage"] == [{"min": 1, "mean": 1.0}, {"min": 3, "mean": 3.0}]
    assert store.attrs["image"] == open_store(with_residuals.case_store("a")).attrs["sha256_image"]
    assert store.attrs["weights"] == {
        "shared": read_json(with_residuals.mae("shared"))["weights_sha256"]
    }
    assert store.attrs["residuals"] == RESIDUALS.model_dump(mode="json")


def test_healthy_scans_get_no_maps(with_mae):
    content = read_json(with_mae.cases)
    content["cases"]["e"]["role"] = "healthy"
    write_json(with_mae.cases, content)
    reconstruct(with_mae)
    assert made_cases(with_mae) == list("abcd")


def test_residual_stores_are_made_once_a_version(with_residuals, monkeypatch):
    def written():
        stores = {case: with_residuals.residual_store("mrm", case) for case in "abcde"}
        return {case: (store / "zarr.json").stat().st_mtime_ns for case, store in stores.items()}

    before = written()
    reconstruct(with_residuals)
    assert written() == before
    shutil.rmtree(with_residuals.residual_store("mrm", "b"))
    reconstruct(with_residuals)
    after = written()
    assert [case for case in "abcde" if after[case] != before[case]] == ["b"]
    monkeypatch.setattr(stage, "VERSION", stage.VERSION + 1)
    reconstruct(with_residuals)
    assert not set(written().items()) & set(after.items())


def test_a_machine_without_compiler_is_told(with_mae):
    torch.compiler.reset()
    # a process remembers what vectors its compiler takes, so this one must not be asked
    without_compiler = {
        "cpp.cxx": (None, "no-such-compiler"),
        "cpp.vec_isa_ok": True,
        "force_disable_caches": True,
    }
    compiling = RESOURCES.model_copy(update={"compile": True})
    with inductor.patch(without_compiler), pytest.raises(PipelineError) as raised:
        reconstruct(with_mae, resources=compiling)
    assert made_cases(with_mae) == []
    (line,) = str(raised.value).splitlines()
    assert line.startswith("resources.compile: torch cannot compile here (")
    assert "no-such-compiler" in line
    assert line.endswith("install what is missing, or set resources.compile: false")


def test_cases_of_other_subsets_are_left_out(with_mae):
    halves = {"1": {"train": ["a"], "test": ["d"]}, "2": {"train": ["b"], "test": ["c"]}}
    write_json(with_mae.split, {**read_json(with_mae.split), "subsets": halves})
    for subsets, expected in (((2,), ["b", "c", "e"]), ((1, 2), ["a", "b", "c", "d", "e"])):
        reconstruct(with_mae, subsets=subsets)
        assert sorted(read_json(with_mae.residual_batch("mrm", "1of1"))["cases"]) == expected


@pytest.mark.parametrize("architecture", ["mae", "simmim"])
def test_a_model_without_weights_becomes_the_one_that_was_kept(ingested, architecture):
    kind = MAE.model_copy(update={"architecture": architecture})
    torch.manual_seed(1)
    model = build_masked_model(architecture, kind.preset, image_size=32, patch_size=8).eval()
    keep_model(model, ingested.mae("shared"), "x", {})
    loaded = masked_models(ingested, {"shared": kind})["shared"]
    images, masks = torch.rand(2, 1, 32, 32), torch.arange(16).expand(2, 16) < 8
    assert torch.equal(loaded(images, masks), model(images, masks))


def test_where_all_is_made_no_model_is_needed(with_residuals):
    shutil.rmtree(folder_of(with_residuals.mae("shared")))
    reconstruct(with_residuals)
    shutil.rmtree(with_residuals.residual_store("mrm", "a"))
    with pytest.raises(PipelineError, match=r"model .*: not there; run its training again"):
        reconstruct(with_residuals)


def test_tissue_masks_leave_the_background_dark_whatever_the_batch(ingested):
    finer = MAE.model_copy(update={"patch_size": 4})
    torch.manual_seed(0)
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=4)
    keep_model(model, ingested.mae("shared"), "x", {})
    # only case d is looked at
    content = read_json(ingested.cases)
    write_json(ingested.cases, {**content, "cases": {"d": content["cases"]["d"]}})

    def slice_maps(masks, slices_per_batch=6):
        chosen = RESIDUALS.model_copy(update={"masks": masks})
        used = RESOURCES.model_copy(update={"slices_per_batch": slices_per_batch})
        reconstruct(ingested, mae=finer, residuals=chosen, resources=used)
        maps = read_array(open_store(ingested.residual_store("mrm", "d")), "residual")
        shutil.rmtree(ingested.residual_store("mrm", "d"))
        return maps[:, 3].astype(np.float32)  # (R, h, w)

    tissue = slice_maps("tissue")
    assert not tissue[:, :4, :4].any(), "a corner beside the body"
    assert (tissue[:, 12:20, 12:20].mean(axis=(1, 2)) > 0.01).all()
    assert slice_maps("stratified")[:, :4, :4].any()
    np.testing.assert_allclose(slice_maps("tissue", 1), tissue, atol=1e-3)


@pytest.mark.parametrize("swapped", ["", "image/c/0/0/0"], ids=["stores", "shards"])
def test_another_image_or_a_damaged_one_is_refused_and_all_others_are_made(with_mae, swapped):
    def swap():
        first, second = (with_mae.case_store(case) / swapped for case in "bc")
        first.rename(with_mae.root / "x")
        second.rename(first)
        (with_mae.root / "x").rename(second)

    swap()
    with pytest.raises(PipelineError) as raised:
        reconstruct(with_mae)
    lines = str(raised.value).splitlines()
    for case, line in zip("bc", lines, strict=True):
        store = with_mae.case_store(case)
        assert line.startswith(f"case {case}: {store} holds another image than {with_mae.cases}")
    assert made_cases(with_mae) == ["a", "d", "e"]
    assert not with_mae.residual_batch("mrm", "1of1").exists()
    swap()
    metadata = with_mae.case_store("c") / "zarr.json"
    whole = metadata.read_bytes()
    metadata.write_text("{", "utf-8")
    with pytest.raises(PipelineError, match=f"store {with_mae.case_store('c')}: damaged"):
        reconstruct(with_mae)
    assert made_cases(with_mae) == list("abde")
    metadata.write_bytes(whole)
    reconstruct(with_mae)
    assert made_cases(with_mae) == list("abcde")


def test_residuals_that_are_no_numbers_are_never_kept(ingested):
    model = build_masked_model("mae", "tiny", image_size=32, patch_size=8)
    with torch.no_grad():
        model.decoder_pred.weight.fill_(3e38)
    keep_model(model, ingested.mae("shared"), "x", {})
    with pytest.raises(PipelineError, match="found residuals that are no finite numbers"):
        reconstruct(ingested)
    assert made_cases(ingested) == []
