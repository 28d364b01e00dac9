"""`grcsf store ls | verify | prune | export` on a small results tree."""

import errno
import json
import os
import shutil
from functools import partial

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.storage.files import read_json, write_json
from pipeline.storage.zarr_store import open_store, write_store
from pipeline.tools.store import prune
from pipeline.tools.store.inventory import list_stores


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)


def call(*arguments):
    return CliRunner().invoke(app, ["store", *map(str, arguments)])


def edit(config, change):
    content = yaml.safe_load(config.read_text("utf-8"))
    change(content["datasets"]["discs"])
    other = config.with_name("other.yaml")
    other.write_text(yaml.safe_dump(content), "utf-8")
    return other


def test_ls_as_json_says_what_lies_on_the_disk(config, ingested):
    (ingested.case_store("e") / "zarr.json").write_text("{", "utf-8")
    records = json.loads(call("ls", "--config", config, "--json").stdout)
    assert [record["case"] for record in records] == [*"abcde", "a", "b", "d"]
    path = ingested.residual_store("mrm", "a")
    files = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    (maps,) = [record for record in records if record["path"] == str(path)]
    assert maps["bytes"] == files
    assert maps["raw_bytes"] == 2 * 6 * 32 * 32 * 2
    assert maps["ratio"] == maps["raw_bytes"] / files
    assert [record["state"] for record in records if record["fault"]] == ["unusable"]


def test_ls_names_a_linked_store_and_counts_its_bytes_elsewhere(config, ingested, tmp_path):
    path = ingested.residual_store("mrm", "a")
    path.rename(tmp_path / "shared.zarr")
    path.symlink_to(tmp_path / "shared.zarr")
    out = call("ls", "--config", config).stdout
    assert "discs/residual_maps/mrm: 1 stores" in out
    assert "1 more linked" in out
    residuals = [store for store in list_stores(ingested) if store.stage == "residual_maps"]
    assert [store.state for store in residuals] == ["linked", "complete"]


def test_a_tidy_tree_is_sound_and_holds_nothing_needless(config, ingested):
    done = call("verify", "--config", config)
    assert done.exit_code == 0, done.stdout
    assert done.stdout == "8 stores, 0 of them bad\n"
    before = sorted(ingested.root.rglob("*"))
    assert call("prune", "--config", config, "--yes").stdout == "nothing to delete\n"
    assert sorted(ingested.root.rglob("*")) == before


def rewrite(path, value=0, height=32, **other):
    """Writes a store again with other maps and attributes."""
    made_by = {**open_store(path).attrs.asdict(), **other}
    maps = np.full((2, 6, height, 32), value, np.float16)
    write_store(path, {"residual": maps}, made_by, slice_axis=1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda path: flip(path / "residual/c/0/0/0/0"), "residual cannot be read"),
        (lambda path: (path / "residual/c/0/0/0/0").unlink(), "has lost its data"),
        (lambda path: (path / "zarr.json").write_text("{"), "damaged"),
        (shutil.rmtree, "listed in its manifest and not there"),
        (partial(rewrite, image="of another"), "was made from another image"),
        (partial(rewrite, fingerprint="old"), "not the one that its manifest lists"),
        (partial(rewrite, height=16), "found shape (2, 6, 16, 32), expected (2, 6, 32, 32)"),
        (partial(rewrite, value=np.nan), "no finite numbers"),
    ],
)
def test_verify_names_each_bad_store_with_the_remedy(config, ingested, change, reason):
    path = ingested.residual_store("mrm", "a")
    change(path)
    done = call("verify", "--config", config)
    assert done.exit_code == 1
    line, last = done.stdout.splitlines()
    assert all(text in line for text in ("store", str(path), reason, "run again"))
    assert last == "8 stores, 1 of them bad"


def test_prune_shows_first_and_deletes_with_yes(config, ingested):
    content = read_json(ingested.cases)
    del content["cases"]["b"], content["cases"]["e"]
    content["outputs"] = ["a.zarr", "c.zarr", "d.zarr"]
    write_json(ingested.cases, content)
    other = edit(config, lambda of: of["experiments"].update(new=of["experiments"].pop("unet")))
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


def test_prune_finds_repeats_that_are_no_longer_asked_for(config, ingested):
    store, second = (ingested.prediction_store(f"unet{end}", 1, "d") for end in ("", "/repeat-2"))
    shutil.copytree(store, second)
    repeated = edit(config, lambda of: of["experiments"]["unet"].update(repeats=2))
    assert call("prune", "--config", repeated).stdout == "nothing to delete\n"
    first, _ = call("prune", "--config", config).stdout.splitlines()
    assert first.startswith(f"{second}: no configuration has repeat 2 of experiments.unet")


def test_prune_keeps_what_may_be_sound(config, ingested):
    path = ingested.residual_store("mrm", "a") / "zarr.json"
    text = path.read_text("utf-8")
    path.write_text(text.replace('"store_version": 2', '"store_version": 3'), "utf-8")
    assert call("prune", "--config", config, "--yes").stdout == "nothing to delete\n"
    shown = json.loads(call("ls", "--config", config, "--json").stdout)
    (record,) = [record for record in shown if record["fault"]]
    assert (record["state"], record["case"]) == ("untouchable", "a")
    assert "newer software has written it" in record["fault"]


def test_prune_goes_on_past_what_cannot_be_deleted(config, ingested, monkeypatch):
    for case in "ab":
        (ingested.case_store(case) / "zarr.json").write_text("{", "utf-8")
    remove = prune.remove

    def refused(path):
        if path == ingested.case_store("a"):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), str(path))
        remove(path)

    monkeypatch.setattr(prune, "remove", refused)
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
    store = next(prune.needless({ingested: []}))
    file.write_text(text, "utf-8")
    assert store.path == ingested.case_store("a")
    assert prune.delete(store) == "it has been made again"
    assert store.path.exists()


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


def test_verify_tells_of_a_damaged_manifest_and_goes_on(config, ingested):
    manifest = ingested.residual_batch("mrm", "1of1")
    manifest.write_text('{"outputs": ["a.zarr"]}', "utf-8")
    done = call("verify", "--config", config)
    assert done.exit_code == 1
    line, last = done.stdout.splitlines()
    assert line.startswith(f"{manifest}: damaged")
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
    assert sorted(store.name for store in (cache / "a").iterdir()) == ["k.zarr"]
    assert not path.is_symlink()
