"""`grcsf store ls | verify | prune | export` on a small results tree."""

import errno
import json
import os
import shutil

import numpy as np
import pytest
import torch
import yaml
from torch.nn import functional as F
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PipelineError
from pipeline.storage.files import read_json, write_json
from pipeline.storage.masks import store_geometry
from pipeline.storage.residual_store import write_residuals
from pipeline.storage.volumes import read_volume
from pipeline.storage.zarr_store import open_store, read_array, write_store
from pipeline.tools.store import prune as store_prune
from pipeline.tools.store.inventory import list_stores

MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]


@pytest.fixture
def config(ingested):
    """A configuration of the ingested cases, and their residual and prediction stores."""
    content = {
        "results": str(ingested.root),
        "datasets": {
            "discs": {
                "source": {"adapter": "manifest", "root": "unused"},
                "slices": {"size": [32, 32], "window": [0, 150]},
                "mae": {"shared": {"preset": "tiny", "image_size": 32, "patch_size": 8}},
                "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
                "experiments": {"unet": {"model": "unet"}},
            }
        },
    }
    cases = read_json(ingested.cases)["cases"]
    outputs = [f"{case}.zarr" for case in "ab"]
    write_json(ingested.cases, {"cases": cases, "outputs": [f"{case}.zarr" for case in cases]})
    keys = {case: f"key of {case}" for case in "ab"}
    for case in "ab":
        residual = np.random.default_rng(0).random((2, 6, 32, 32)).astype(np.float16)
        made = {"fingerprint": keys[case], "image": cases[case]["sha256_image"]}
        write_residuals(ingested, "mrm", case, residual, made)
    write_json(ingested.residual_batch("mrm", "1of1"), {"cases": keys, "outputs": outputs})
    probability = np.zeros((6, 30, 26), np.float16)
    path = ingested.prediction_store("unet", 1, "d")
    write_store(path, {"probability": probability}, {"fingerprint": "p"})
    file = ingested.root / "c.yaml"
    file.write_text(yaml.safe_dump(content), "utf-8")
    return file


def call(*arguments):
    return CliRunner().invoke(app, ["store", *map(str, arguments)])


def edit(config, change):
    content = yaml.safe_load(config.read_text("utf-8"))
    change(content["datasets"]["discs"])
    other = config.with_name("other.yaml")
    other.write_text(yaml.safe_dump(content), "utf-8")
    return other


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def test_ls_fits_80_columns_and_tells_sums(config):
    done = call("ls", "--config", config)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("discs/ingest: 5 stores, ") for line in lines)
    assert any(line.startswith("discs/residual_maps/mrm: 2 stores, ") for line in lines)
    (row,) = [line for line in lines if "2×6×32×32" in line and line.startswith("b ")]
    assert row.split()[-1] == "complete"
    assert "key of b" in row


def test_ls_as_json_says_what_lies_on_the_disk(config, ingested):
    (ingested.case_store("e") / "zarr.json").write_text("{", "utf-8")
    records = json.loads(call("ls", "--config", config, "--json").stdout)
    assert [one["case"] for one in records] == [*"abcde", "a", "b", "d"]
    path = ingested.residual_store("mrm", "a")
    files = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    (maps,) = [one for one in records if one["path"] == str(path)]
    assert maps["bytes"] == files
    assert maps["raw_bytes"] == 2 * 6 * 32 * 32 * 2
    assert maps["ratio"] == maps["raw_bytes"] / files
    assert [one["state"] for one in records if one["fault"]] == ["unusable"]


def test_ls_names_a_linked_store_and_counts_its_bytes_elsewhere(config, ingested, tmp_path):
    path = ingested.residual_store("mrm", "a")
    path.rename(tmp_path / "shared.zarr")
    path.symlink_to(tmp_path / "shared.zarr")
    out = call("ls", "--config", config).stdout
    assert "discs/residual_maps/mrm: 1 stores" in out
    assert "1 more linked" in out
    assert [one.state for one in list_stores(ingested) if one.stage == "residual_maps"] == [
        "linked",
        "complete",
    ]


def test_verify_is_content_with_sound_stores(config):
    done = call("verify", "--config", config)
    assert done.exit_code == 0, done.stdout
    assert done.stdout == "8 stores, 0 of them bad\n"


def lose(path):
    shutil.rmtree(path)


def another_image(path):
    write_store(
        path,
        {"residual": np.zeros((2, 6, 32, 32), np.float16)},
        {"fingerprint": "key of a", "image": "of another"},
        slice_axis=1,
    )


def rewrite(maps, key="key of a"):
    def change(path):
        made = {"fingerprint": key, "image": open_store(path).attrs["image"]}
        write_store(path, {"residual": maps.astype(np.float16)}, made, slice_axis=1)

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: flip(path / "residual/c/0/0/0/0"), "residual cannot be read"),
        (lambda path: (path / "residual/c/0/0/0/0").unlink(), "has lost its data"),
        (lambda path: (path / "zarr.json").write_text("{"), "damaged"),
        (lose, "listed in its manifest and not there"),
        (another_image, "was made from another image"),
        (rewrite(np.zeros((2, 6, 32, 32)), "old"), "not the one that its manifest lists"),
        (rewrite(np.zeros((2, 6, 16, 32))), "found shape (2, 6, 16, 32), expected (2, 6, 32, 32)"),
        (rewrite(np.full((2, 6, 32, 32), np.nan)), "no finite numbers"),
    ],
    ids=["flip", "shard", "metadata", "lost", "image", "fingerprint", "shape", "hole"],
)
def test_verify_names_each_bad_store_with_the_remedy(config, ingested, change, said):
    change(ingested.residual_store("mrm", "a"))
    done = call("verify", "--config", config)
    assert done.exit_code == 1
    told, last = done.stdout.splitlines()
    assert "store" in told
    assert str(ingested.residual_store("mrm", "a")) in told
    assert said in told
    assert "run again" in told
    assert last == "8 stores, 1 of them bad"


def test_prune_finds_nothing_in_a_tidy_tree(config, ingested):
    before = sorted(ingested.root.rglob("*"))
    assert call("prune", "--config", config, "--yes").stdout == "nothing to delete\n"
    assert sorted(ingested.root.rglob("*")) == before


def test_prune_shows_first_and_deletes_with_yes(config, ingested):
    content = read_json(ingested.cases)
    del content["cases"]["b"], content["cases"]["e"]
    content["outputs"] = ["a.zarr", "c.zarr", "d.zarr"]
    write_json(ingested.cases, content)
    other = edit(
        config, lambda discs: discs["experiments"].update(new=discs["experiments"].pop("unet"))
    )
    (ingested.case_store("c") / "zarr.json").write_text("{", "utf-8")
    left, fresh = (ingested.stage("ingest") / f".{name}.zarr.1.tmp" for name in ("left", "fresh"))
    for folder in (left, fresh):
        folder.mkdir(parents=True)
        (folder / "part").write_bytes(bytes(10))
    for path in (left / "part", left):
        os.utime(path, (1, 1))
    needless = {
        ingested.case_store("b"): "b is no case of the data set any longer",
        ingested.case_store("e"): "e is no case of the data set any longer",
        ingested.residual_store("mrm", "b"): "b is no case of the data set any longer",
        ingested.case_store("c"): "damaged",
        ingested.prediction_store("unet", 1, "d"): "no configuration has experiments.unet",
        left: "left by a killed job, or set aside",
    }
    shown = call("prune", "--config", other).stdout.splitlines()
    assert "may be deleted; add --yes" in shown[-1]
    assert len(shown) == len(needless) + 1
    for path, reason in needless.items():
        assert any(line.startswith(f"{path}: ") and reason in line for line in shown)
        assert path.exists()
    assert call("prune", "--config", other, "--yes").exit_code == 0
    assert not any(path.exists() for path in needless)
    assert fresh.exists()
    assert ingested.case_store("a").exists()
    assert ingested.residual_store("mrm", "a").exists()


def test_prune_keeps_what_may_be_sound(config, ingested):
    path = ingested.residual_store("mrm", "a") / "zarr.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"store_version": 2', '"store_version": 3'), "utf-8")
    assert call("prune", "--config", config, "--yes").stdout == "nothing to delete\n"
    shown = json.loads(call("ls", "--config", config, "--json").stdout)
    (one,) = [one for one in shown if one["fault"]]
    assert (one["state"], one["case"]) == ("untouchable", "a")
    assert "newer software has written it" in one["fault"]


def test_prune_goes_on_past_what_cannot_be_deleted(config, ingested, monkeypatch):
    for case in "ab":
        (ingested.case_store(case) / "zarr.json").write_text("{", "utf-8")
    remove = store_prune.remove

    def refused(path):
        if path == ingested.case_store("a"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        remove(path)

    monkeypatch.setattr(store_prune, "remove", refused)
    done = call("prune", "--config", config, "--yes")
    assert done.exit_code == 1
    first, second, last = done.stdout.splitlines()
    assert first.endswith("; not deleted: Operation not permitted")
    assert second.startswith(f"{ingested.case_store('b')}: ")
    assert last.startswith("1 of them, ")
    assert not ingested.case_store("b").exists()


@pytest.mark.usefixtures("config")
def test_prune_leaves_a_store_that_was_made_again_meanwhile(ingested):
    file = ingested.case_store("a") / "zarr.json"
    text = file.read_text("utf-8")
    file.write_text("{", "utf-8")
    (one,) = store_prune.needless({ingested: []})[:1]
    file.write_text(text, "utf-8")
    assert one.path == ingested.case_store("a")
    assert store_prune.delete(one) == "it has been made again"
    assert one.path.exists()


def test_somebody_s_own_folders_and_links_end_in_no_traceback(config, ingested):
    own = ingested.stage("predict") / "unet" / "old" / "d.zarr"
    own.parent.mkdir()
    ingested.prediction_store("unet", 1, "d").rename(own)
    loop = ingested.stage("ingest") / "z.zarr"
    loop.symlink_to("z.zarr")
    for command in ("ls", "prune"):
        done = call(command, "--config", config)
        assert done.exit_code == 0, done.output
        assert str(loop) in done.stdout
    assert str(own) not in call("prune", "--config", config).stdout
    assert call("verify", "--config", config).stdout.endswith("9 stores, 1 of them bad\n")


@pytest.mark.parametrize("content", ["{", '{"outputs": ["a.zarr"]}'])
def test_verify_tells_of_a_damaged_manifest_and_goes_on(config, ingested, content):
    manifest = ingested.residual_batch("mrm", "1of1")
    manifest.write_text(content, "utf-8")
    done = call("verify", "--config", config)
    assert done.exit_code == 1
    told, last = done.stdout.splitlines()
    assert told.startswith(f"{manifest}: damaged")
    assert last == "9 stores, 1 of them bad"


def test_prune_keeps_what_any_of_several_configurations_needs(config, ingested):
    other = edit(config, lambda discs: discs["residuals"].clear())
    alone = call("prune", "--config", other).stdout
    assert alone.count("no configuration has residuals.mrm") == 2
    assert call("prune", "--config", other, "--config", config).stdout == "nothing to delete\n"
    assert ingested.residual_store("mrm", "a").exists()


def test_prune_leaves_a_shared_folder_s_sound_stores(config, ingested, tmp_path):
    cache = tmp_path / "cache"
    path = ingested.residual_store("mrm", "a")
    (cache / "a").mkdir(parents=True)
    path.rename(cache / "a" / "k.zarr")
    path.symlink_to(cache / "a" / "k.zarr")
    shutil.copytree(cache / "a" / "k.zarr", cache / "a" / "bad.zarr")
    (cache / "a" / "bad.zarr" / "zarr.json").unlink()
    over = json.dumps({"store": {"root": str(cache)}})
    other = edit(config, lambda discs: discs["residuals"].clear())
    done = call("prune", "--config", other, "--set", over, "--yes")
    assert done.exit_code == 0
    assert sorted(one.name for one in (cache / "a").iterdir()) == ["k.zarr"]
    assert not path.is_symlink()


def test_export_writes_what_any_viewer_overlays(config, ingested, tmp_path):
    output = tmp_path / "out"
    arguments = ("--config", config, "--dataset", "discs", "--output", output)
    done = call("export", "a", *arguments)
    assert done.exit_code == 0, done.output
    names = ["a-image.nii.gz", "a-mrm-50-masked.nii.gz", "a-mrm-75-masked.nii.gz"]
    assert sorted(path.name for path in output.iterdir()) == names
    assert done.stdout.split() == [str(output / name) for name in names]
    store = open_store(ingested.case_store("a"))
    image = read_volume(output / names[0])
    np.testing.assert_array_equal(image.array, read_array(store, "image"))
    maps = read_array(open_store(ingested.residual_store("mrm", "a")), "residual")
    for name, one in zip(names[1:], maps, strict=True):
        found = read_volume(output / name)
        wanted = store_geometry(store)
        assert found.geometry.shape == wanted.shape
        for part in ("spacing", "origin", "direction"):
            np.testing.assert_allclose(
                getattr(found.geometry, part), getattr(wanted, part), atol=1e-5
            )
        resized = F.interpolate(
            torch.from_numpy(one.astype(np.float32))[:, None], (30, 26), mode="bilinear"
        )
        np.testing.assert_array_equal(found.array, resized[:, 0].numpy())


@pytest.mark.parametrize(
    ("case", "more", "said"),
    [
        ("f", [], "case f: not among the 5 ingested cases"),
        ("c", [], "case c: has no residual maps yet; run residual-maps first"),
        ("c", ["--residuals", "mrm"], "not there; run the stage that writes it"),
        ("a", ["--residuals", "x"], "data set discs: residuals has no 'x'; it has: mrm"),
    ],
)
def test_export_says_what_it_lacks(config, tmp_path, case, more, said):
    arguments = ("--config", config, "--dataset", "discs", "--output", tmp_path / "out", *more)
    done = call("export", case, *arguments)
    assert isinstance(done.exception, PipelineError)
    assert said in str(done.exception)


def test_export_refuses_maps_of_other_settings(config, ingested, tmp_path):
    path = ingested.residual_store("mrm", "a")
    settings = {"maps": MAPS, "visible": "paste"}
    made = {"fingerprint": "f", "residuals": settings}
    maps = {"residual": np.zeros((2, 6, 32, 32), np.float16)}
    write_store(path, maps, made, slice_axis=1)
    arguments = ("--config", config, "--dataset", "discs", "--output", tmp_path / "out")
    done = call("export", "a", *arguments)
    assert isinstance(done.exception, PipelineError)
    assert "made with other settings than residuals.mrm has now" in str(done.exception)


def test_an_unknown_data_set_is_named(config):
    done = call("ls", "--config", config, "--dataset", "disc")
    assert "no 'disc'; it has: discs" in str(done.exception)
