"""`grcsf store` on residual sets of which each fold has its own."""

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.storage.files import read_json, remove, write_json
from pipeline.storage.images.volumes import read_volume
from pipeline.storage.residual_store import write_residuals
from pipeline.tools.store.inventory import list_stores

TESTED = {"1": ["a", "c"], "2": ["b", "d"]}


def call(*arguments):
    return CliRunner().invoke(app, ["store", *map(str, arguments)])


@pytest.fixture
def folds(config, ingested):
    """Two folds, the maps of three, whose values tell them apart, and those of no fold."""
    content = yaml.safe_load(config.read_text("utf-8"))
    content["datasets"]["discs"]["split"] = {"folds": 2}
    config.write_text(yaml.safe_dump(content), "utf-8")
    subsets = {number: {"train": [], "validation": [], "test": TESTED[number]} for number in TESTED}
    write_json(ingested.split, {"subsets": subsets, "folds": 2, "unlabelled": ["e"]})
    images = {
        name: case["sha256_image"] for name, case in read_json(ingested.cases)["cases"].items()
    }
    for fold in (1, 2, 3):
        for case in "abe":
            maps = np.full((2, 6, 32, 32), fold / 4, np.float16)
            made_by = {"fingerprint": f"{fold}{case}", "image": images[case]}
            write_residuals(ingested, f"mrm/fold-{fold}", case, maps, made_by)
    return config


def test_a_fold_s_stores_are_listed_verified_and_kept(folds, ingested):
    of = {store.of for store in list_stores(ingested) if store.stage == "residual_maps"}
    assert of == {"mrm", "mrm/fold-1", "mrm/fold-2", "mrm/fold-3"}
    verified = call("verify", "--config", folds)
    assert verified.stdout.splitlines()[-1].endswith(" 0 of them bad"), verified.stdout
    shown = call("prune", "--config", folds).stdout
    own = "no configuration has residuals.mrm for all subsets; each fold has its own"
    assert f"{ingested.residual_store('mrm', 'a')}: {own} (" in shown
    gone = "no configuration has residuals.mrm of a fold 3"
    assert f"{ingested.residual_store('mrm/fold-3', 'a')}: {gone} (" in shown
    assert "fold-1" not in shown
    assert "fold-2" not in shown


def test_what_was_pruned_of_a_fold_that_is_gone_is_not_missed(folds, ingested):
    for fold in (2, 3):
        made = {"cases": {"a": f"{fold}a"}, "outputs": ["a.zarr"]}
        write_json(ingested.residual_batch(f"mrm/fold-{fold}", "1of1"), made)
    gone = {"cases": {"a": {"fingerprint": "p"}}, "outputs": ["subset-3/a.zarr"]}
    write_json(ingested.predictions("grcsf/repeat-2", 3), gone)
    assert call("prune", "--config", folds, "--yes").exit_code == 0
    verified = call("verify", "--config", folds)
    assert verified.exit_code == 0, verified.stdout
    remove(ingested.residual_store("mrm/fold-2", "a"))
    told = call("verify", "--config", folds).stdout
    assert "mrm/fold-2/a.zarr: listed in its manifest and not there" in told


@pytest.mark.parametrize(("case", "fold"), [("a", 1), ("b", 2), ("e", 1)])
def test_the_maps_that_are_exported_are_those_of_the_fold_that_tests_the_case(
    folds, tmp_path, case, fold
):
    options = ("--config", folds, "--dataset", "discs", "--output", tmp_path / "out")
    assert call("export", case, *options, "--residuals", "mrm").exit_code == 0
    assert call("export", case, *options).exit_code == 0
    maps = read_volume(tmp_path / "out" / f"{case}-mrm-50-masked.nii.gz").array
    np.testing.assert_allclose(maps, fold / 4, atol=1e-6)
