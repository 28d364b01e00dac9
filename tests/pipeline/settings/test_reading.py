"""Every fault of a configuration is told by key, with what was found and what is allowed."""

import copy
from pathlib import Path

import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.settings import Residuals, Settings, residual_count, source_root, stage_settings
from pipeline.settings.reading import load_settings, merge, read_configuration, validate

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "config").glob("*.yaml"))
MAPS = [{"mae": "shared", "mask_ratio": 0.5}, {"mae": "shared", "mask_ratio": 0.75}]
GIVEN = {
    "datasets": {
        "brain": {
            "source": {"adapter": "atlas", "root": "somewhere"},
            "slices": {"size": [64, 64], "percentiles": [0, 99.9]},
            "mae": {"shared": {"preset": "tiny"}},
            "residuals": {"mrm": {"preset": "fast", "maps": MAPS}},
            "experiments": {"u": {"model": "unetpp"}, "g": {"model": "grcsf", "residuals": "mrm"}},
        }
    }
}
TABLE = {
    "title": "t",
    "headings": ["Method"],
    "columns": ["dice"],
    "rows": [{"labels": ["ours"], "experiment": "g"}],
}


def changed(path: str, value: object) -> dict:
    given = copy.deepcopy(GIVEN)
    *way, last = path.split(".")
    place = given["datasets"]["brain"]
    for key in way:
        place = place.setdefault(key, {})
    place[last] = value
    return given


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    assert load_settings(path).datasets


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (
            "mae.shared.epoch",
            3,
            "datasets.brain.mae.shared.epoch: unknown key; did you mean 'epochs'",
        ),
        ("evalution", {}, "did you mean 'evaluation'"),
        ("experiments.u.training.losss", "x", "did you mean 'loss'"),
        ("mae.shared.epochs", "many", "mae.shared.epochs: found 'many' (str)"),
        (
            "mae.shared.batch_size",
            0,
            "mae.shared.batch_size: found 0 (int), expected at least 1",
        ),
        ("mae.shared.image_size", 100, "image_size 100 is no multiple of patch_size 16"),
        ("mae.shared.epochs", 0, "epochs 0 needs a checkpoint"),
        (
            "mae.shared",
            {"architecture": "simmim", "checkpoint": "x.pth"},
            "checkpoint is for architecture 'mae'",
        ),
        ("slices.window", [0, 1], "either window (two HU values) or percentiles"),
        ("slices.percentiles", [0, 97], "percentile 97 is not stored"),
        ("slices.percentiles", [99, 1], "not below"),
        ("source.foreground", [0], "source.foreground.0: found 0"),
        (
            "source",
            {"adapter": "atlas", "root": "x", "binarise": True, "foreground": [1]},
            "either binarise",
        ),
        ("source.phantom", {"kind": "head", "cases": 3}, "either root"),
        ("postprocess", {"min_volume_mm3": 5}, "for method components or calcium"),
        ("postprocess", {"method": "components", "grow": True}, "grow is for method calcium"),
        (
            "postprocess",
            {"method": "calcium", "majority_over": "all"},
            "majority_over is for grow: true",
        ),
        ("experiments.g.residuals", "mmr", "names 'mmr', but residuals has only: mrm"),
        ("experiments.g.residuals", None, "'grcsf' needs residuals"),
        ("experiments.u.residuals", "mrm", "'unetpp' takes no residuals"),
        ("evaluation.baseline", "w", "names 'w', but experiments has only"),
        ("residuals.mrm.preset", "slow", "expected 'paper', 'fast', 'lean' or 'tissue'"),
        ("residuals.mrm.preset", ["paper"], "expected 'paper', 'fast', 'lean' or 'tissue'"),
        (
            "mae.shared",
            {"epochs": 10, "adversarial": {}},
            "start_epoch: found 10, expected less than epochs 10",
        ),
        ("residuals.mrm.maps", [{"mae": "x", "mask_ratio": 0.5, "passes": 1}], "names 'x'"),
        ("residuals.mrm.passes", 3, "residuals.mrm.passes: unknown key"),
        ("residuals.cam", {"grad_cam": "v"}, "residuals.cam.grad_cam names 'v'"),
        ("residuals.cam", {"grad_cam": "g"}, "'g' itself needs residual maps"),
        ("residuals.cam", {"grad_cam": "u", "mask": 1}, "cam.mask: unknown key; known keys: grad"),
        ("residuals.mrm.mask", 1, "residuals.mrm.mask: unknown key; did you mean 'masks'"),
        ("experiments.g.rcu.patch_sizes", [64, 8, 8], "rcu.patch_sizes: found 64 at 1/4 scale"),
        (
            "experiments.g.rcu.levels",
            [2, 1],
            "patch_sizes: found 3, expected one for each of the 2",
        ),
        ("experiments.g.rcu", {"levels": [0, 0], "patch_sizes": [8, 8]}, "each once"),
        ("experiments.g.rcu", None, "'grcsf' without rcu takes no residuals"),
        ("experiments.g.gcu.kind", "spacial", "experiments.g.gcu.kind: found 'spacial'"),
        ("experiments.g.gcu.levels", [4], "experiments.g.gcu.levels.0: found 4"),
        ("experiments.g.gcu.levels", [], "expected at least one"),
        ("experiments.u.gcu", None, "'unetpp' takes no gcu"),
        ("experiments.u.backbone", "unet", "'unetpp' takes no backbone"),
        (
            "experiments.u",
            {"model": "grcsf", "gcu": None, "rcu": None, "backbone": "unet"},
            "gcu and rcu are both off: write model: unet",
        ),
        (
            "experiments.u",
            {"model": "unet", "encoder": "mobilenet", "width": 5},
            "width: found 5, expected an even one",
        ),
        ("experiments.u.model", "mae_unet", "'mae_unet' needs mae_encoder"),
        ("experiments.u.mae_encoder", {"mae": "shared"}, "'unetpp' takes no mae_encoder"),
        (
            "experiments.u",
            {"model": "mae_unet", "mae_encoder": {"mae": "x"}},
            "experiments.u.mae_encoder.mae names 'x', but mae has only: shared",
        ),
        (
            "experiments.u",
            {"model": "mae_unet", "mae_encoder": {"mae": "shared"}, "encoder": "mobilenet"},
            "'mae_unet' takes no encoder",
        ),
        ("split.test", "x", "split.test: found 'x'"),
        (
            "split.test",
            0,
            "split.test: found 0 (int), expected a whole number from 1 on, or a fraction",
        ),
        ("slices.size", 48, "slices.size: found 48 (int), expected a list in brackets"),
        ("mae.shared.epochs", True, "epochs: found True (bool), expected a whole number"),
        ("mae.shared.epochs", "12", "epochs: found '12' (str), expected a whole number"),
        ("split.test", "half", "split.test: found 'half' (str), expected a whole number from 1"),
        ("mae.shared.learning_rate", True, "learning_rate: found True (bool), expected a number"),
        ("mae.shared.learning_rate", float("inf"), "(float), expected a finite number"),
        ("slices.size", [224], "slices.size: found [224] (list), expected more of them"),
        ("slices.percentiles", [0, 1, 99], "(list), expected at most 2 of them"),
        ("experiments", {}, "experiments: found {} (dict), expected at least 1 of them"),
        ("split.subsets", None, "split.subsets: found nothing, expected a whole number"),
        ("experiments.a b", {}, "experiments.a b: found 'a b' (str), expected letters, digits,"),
        ("experiments.u.model", 3, "found 3 (int), expected 'unet', 'unetpp', 'mae_unet' or"),
        ("source.binarise", "maybe", "source.binarise: found 'maybe' (str), expected true or"),
        ("mae", [], "datasets.brain.mae: found [] (list), expected keys and values"),
        ("experiments.g.subsets", [2], "experiments.g.subsets: found 2, but split has 1"),
        ("tables.t", {**TABLE, "columns": ["dise"]}, "columns: found 'dise', expected any of"),
        ("tables.t", {**TABLE, "columns": ["pooled_voe_volume"]}, "metrics: voxel does not score"),
        ("tables.t", {**TABLE, "headings": ["A", "B"]}, "found 1 labels, expected one for each"),
        ("tables.t", {**TABLE, "best_within": "A"}, "best_within: found 'A', expected one of"),
        (
            "tables.t",
            {**TABLE, "rows": [{"labels": ["a"], "experiment": "v"}]},
            "tables.t.rows names 'v', but experiments has only: u, g",
        ),
        (
            "tables.t",
            {**TABLE, "rows": [{**TABLE["rows"][0], "published": {"iou": 0.3}}]},
            "published.iou belongs to none of the columns: dice",
        ),
        ("mae.shared.train_mask_ratios", [0.001], "0.001, which masks 0 of 196 patches"),
        (
            "residuals.mrm.maps",
            [{"mae": "shared", "mask_ratio": 0.999, "passes": 1}],
            "residuals.mrm.maps.mask_ratio: found 0.999, which masks 196 of 196 patches",
        ),
    ],
)
def test_a_fault_names_its_key(path, value, said):
    with pytest.raises(PipelineError) as raised:
        validate(changed(path, value), "my.yaml")
    assert said in str(raised.value)
    assert str(raised.value).startswith("configuration my.yaml: ")


def test_all_faults_are_told_at_once():
    given = changed("mae.shared.epoch", 3)
    given["datasets"]["brain"]["split"] = {"subsets": 0}
    with pytest.raises(PipelineError) as raised:
        validate(given, "my.yaml")
    assert len(str(raised.value).splitlines()) == 2


def test_a_list_is_not_called_too_short_for_its_faulty_members():
    given = changed("residuals.mrm.maps", [{"mae": "shared", "mask_ratio": "half", "passes": 1}])
    with pytest.raises(PipelineError) as raised:
        validate(given, "my.yaml")
    assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(PipelineError, match="expected at least 1 of them"):
        validate(changed("residuals.mrm.maps", []), "my.yaml")


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: {b: 1}\nc: &d {e: 1}\nf: {<<: *d, e: 2}\ng: [{h: 1}, {i: 1, i: 2}]\n")
    with pytest.raises(PipelineError, match="line 4: found 'i' a second time"):
        read_configuration(path)
    path.write_text("a: {b: 1}\nc: &d {e: 1}\nf: {<<: *d, e: 2}\n")
    assert read_configuration(path)["f"] == {"e": 2}


def test_unreadable_files_are_one_line(tmp_path):
    with pytest.raises(PipelineError, match="No such file"):
        load_settings(tmp_path / "none.yaml")
    for text, told in [
        ("a: [1\nb: 2\n", r"bad.yaml: line 2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: b: c\n", "bad.yaml: line 1: not valid YAML: mapping values are not allowed here"),
        ("a: \x00\n", "bad.yaml: not valid YAML: unacceptable character"),
        ("results: {{ scratch }}\n", "bad.yaml: line 1: not valid YAML: found unhashable key"),
        ("", r"bad.yaml: found nothing, expected keys and values"),
    ]:
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(PipelineError, match=told) as raised:
            load_settings(tmp_path / "bad.yaml")
        assert len(str(raised.value).splitlines()) == 1
    (tmp_path / "bad.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(PipelineError, match=r"bad.yaml: found no UTF-8 text"):
        load_settings(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(PipelineError, match="expected keys and values"):
        load_settings(tmp_path / "list.yaml")


def test_overrides_reach_nested_keys_and_leave_the_rest(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(GIVEN))
    settings = load_settings(
        path, {"results": "/x", "datasets": {"brain": {"split": {"subsets": 3}}}}
    )
    assert settings.results == "/x"
    assert settings.datasets["brain"].split.subsets == 3
    assert settings.datasets["brain"].source.root == "somewhere"
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_presets_give_masks_and_passes_and_yield_to_what_is_given():
    fast = validate(GIVEN, "x").datasets["brain"].residuals["mrm"]
    assert (fast.masks, fast.visible) == ("stratified", "ignore")
    assert [one.passes for one in fast.maps] == [2, 4]
    own = changed("residuals.mrm", {"preset": "paper", "visible": "predict", "maps": MAPS})
    paper = validate(own, "x").datasets["brain"].residuals["mrm"]
    assert (paper.masks, paper.visible) == ("random", "predict")
    assert [one.passes for one in paper.maps] == [5, 5]


def test_a_preset_s_passes_follow_the_ratio_and_not_the_place():
    def passes(preset, *ratios):
        maps = [{"mae": "shared", "mask_ratio": ratio} for ratio in ratios]
        found = Residuals.model_validate({"preset": preset, "maps": maps})
        return [one.passes for one in found.maps]

    assert passes("fast", 0.75, 0.5) == [4, 2]
    assert passes("fast", 0.5) == [2]
    assert passes("lean", 0.5, 0.75, 0.3, 0.2) == [2, 2, 4, 5]
    assert passes("paper", 0.3) == [5]
    with pytest.raises(ValueError, match="passes"):
        passes("fast", 0.3)


def test_maps_of_one_ratio_have_titles_of_their_own():
    def titles(*maps):
        listed = [{"mae": mae, "mask_ratio": ratio, "passes": 1} for mae, ratio in maps]
        chosen = {"masks": "random", "visible": "paste", "maps": listed}
        return Residuals.model_validate(chosen).titles

    assert titles(("a", 0.5), ("a", 0.75)) == ("Residual, 50% masked", "Residual, 75% masked")
    assert titles(("a", 0.5), ("b", 0.5)) == ("Residual, 50% masked, a", "Residual, 50% masked, b")
    assert len(set(titles(("a", 0.5), ("a", 0.5), ("b", 0.5)))) == 3


def section(given: dict, stage: str, name: str = "") -> dict:
    return stage_settings(Settings.model_validate(given), stage, "brain", name)


def test_a_stage_depends_on_its_own_section_only():
    stages = [("train_mae", "shared"), ("residual_maps", "mrm"), ("train_segmentation", "g")]
    stages += [("ingest", ""), ("split", ""), ("predict", "g"), ("postprocess", "")]
    scored = changed("evaluation.bootstrap_samples", 500)
    for stage, name in stages:
        assert section(GIVEN, stage, name) == section(scored, stage, name)
    assert section(GIVEN, "evaluate", "g") != section(scored, "evaluate", "g")
    longer = changed("mae.shared.epochs", 7)
    assert section(GIVEN, "train_mae", "shared") != section(longer, "train_mae", "shared")
    assert section(GIVEN, "residual_maps", "mrm") == section(longer, "residual_maps", "mrm")
    pictures = changed("mae.shared.picture_epochs", 3)
    assert section(GIVEN, "train_mae", "shared") == section(pictures, "train_mae", "shared")
    other = changed("mae.shared.architecture", "simmim")
    for stage, name in (("train_mae", "shared"), ("residual_maps", "mrm")):
        assert section(GIVEN, stage, name) != section(other, stage, name)
    faster = changed("experiments.g.training.learning_rate", 0.5)
    assert section(GIVEN, "train_segmentation", "u") == section(faster, "train_segmentation", "u")
    assert section(GIVEN, "predict", "g") == section(faster, "predict", "g")
    first = changed("experiments.g.subsets", [1])
    assert section(GIVEN, "train_segmentation", "g") == section(first, "train_segmentation", "g")
    assert section(GIVEN, "evaluate", "g") == section(first, "evaluate", "g")
    assert section(GIVEN, "residual_maps", "mrm")["subsets"] == [1]


def test_residual_maps_are_made_for_the_subsets_that_use_them():
    halves = changed("split.subsets", 3)
    experiments = halves["datasets"]["brain"]["experiments"]
    experiments["g"] |= {"subsets": [2]}
    assert section(halves, "residual_maps", "mrm")["subsets"] == [2]
    experiments["h"] = {"model": "grcsf", "residuals": "mrm", "subsets": [2, 3]}
    assert section(halves, "residual_maps", "mrm")["subsets"] == [2, 3]


def test_grad_cam_needs_its_network_on_every_subset_that_uses_the_maps():
    halves = changed("split.subsets", 2)
    chosen = halves["datasets"]["brain"]
    chosen["residuals"]["cam"] = {"grad_cam": "u"}
    chosen["experiments"]["u"] |= {"subsets": [1]}
    chosen["experiments"]["c"] = {"model": "grcsf", "residuals": "cam", "subsets": [1]}
    settings = validate(halves, "x")
    assert residual_count(settings.datasets["brain"], "c") == 1
    faster = copy.deepcopy(halves)
    faster["datasets"]["brain"]["experiments"]["u"]["training"] = {"learning_rate": 0.5}
    assert section(halves, "residual_maps", "cam") == section(faster, "residual_maps", "cam")
    wider = copy.deepcopy(halves)
    wider["datasets"]["brain"]["experiments"]["u"]["width"] = 8
    assert section(halves, "residual_maps", "cam") != section(wider, "residual_maps", "cam")
    chosen["experiments"]["c"]["subsets"] = [1, 2]
    with pytest.raises(PipelineError, match="'u' is not trained on subset 2"):
        validate(halves, "x")


def with_encoder(**mae: object) -> dict:
    given = changed("mae.shared", {"preset": "tiny", **mae})
    encoder = {"mae": "shared"}
    given["datasets"]["brain"]["experiments"]["m"] = {"model": "mae_unet", "mae_encoder": encoder}
    return given


@pytest.mark.parametrize(
    ("mae", "said"),
    [
        ({"architecture": "simmim"}, "mae_encoder.mae: found a SimMIM, expected an MAE"),
        ({"image_size": 48, "patch_size": 12}, "found patch_size 12, expected a power of two"),
    ],
)
def test_an_encoder_that_no_decoder_fits_is_refused(mae, said):
    with pytest.raises(PipelineError, match=said):
        validate(with_encoder(**mae), "my.yaml")


def test_grad_cam_of_an_mae_s_encoder_is_refused():
    given = with_encoder()
    given["datasets"]["brain"]["residuals"]["cam"] = {"grad_cam": "m"}
    with pytest.raises(PipelineError, match="'m' has the encoder of an MAE"):
        validate(given, "my.yaml")


@pytest.mark.parametrize("stage", ["train_segmentation", "predict"])
def test_a_network_depends_on_its_mae_s_shape_and_not_on_its_training(stage):
    given = section(with_encoder(), stage, "m")
    assert given == section(with_encoder(epochs=7), stage, "m")
    assert given != section(with_encoder(preset="small"), stage, "m")
    others = (section(one, stage, "g") for one in (with_encoder(), with_encoder(preset="small")))
    assert next(others) == next(others)


def test_experiments_without_a_common_subset_cannot_be_compared():
    apart = changed("split.subsets", 2)
    for name, subset in (("u", 1), ("g", 2)):
        apart["datasets"]["brain"]["experiments"][name] |= {"subsets": [subset]}
    with pytest.raises(PipelineError, match="no subset that all of them have in common"):
        validate(apart, "x")


def test_a_root_may_hold_an_environment_variable(monkeypatch):
    monkeypatch.setenv("MY_SCANS", "/scans")
    settings = validate(changed("source.root", "$MY_SCANS/brain"), "x")
    assert source_root(settings, "brain") == Path("/scans/brain")
    monkeypatch.delenv("MY_SCANS")
    with pytest.raises(PipelineError, match="environment variable is not set"):
        source_root(settings, "brain")
