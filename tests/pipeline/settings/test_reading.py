"""Every fault of a configuration names its key, what was found and what is allowed."""

import os
from pathlib import Path

import pytest
import yaml

from pipeline.errors import PipelineError
from pipeline.settings import Resources, Source, further_images, source_root
from pipeline.settings.paths import checkpoint_files
from pipeline.settings.reading import load_settings, merge, read_configuration, validate

CONFIGS = sorted((Path(__file__).resolve().parents[3] / "config").glob("*.yaml"))
SOURCE = {"adapter": "atlas", "root": "x"}
PLAIN, MOBILE = {"model": "grcsf", "gcu": None, "rcu": None}, {"encoder": "mobilenet"}
MAPS_IN = {"model": "unetpp", "residual_input": True}
ENCODER = {"experiments.m": {"model": "mae_unet", "mae_encoder": {"mae": "shared"}}}


def table(**row):
    rows = [{"labels": ["ours"], "experiment": "g", **row}]
    return {"title": "t", "headings": ["Method"], "columns": ["dice"], "rows": rows}


TABLE = table()


def refused(given: dict) -> str:
    """The message with which a configuration is refused."""
    with pytest.raises(PipelineError) as raised:
        validate(given, "my.yaml")
    assert str(raised.value).startswith("configuration my.yaml: ")
    return str(raised.value)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_is_valid(path):
    if path.stem == "apply":  # to which the command line adds a model
        assert Resources.model_validate(read_configuration(path)["resources"])
        return
    assert load_settings(path).datasets


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("mae.shared.epoch", 3, "brain.mae.shared.epoch: unknown key; did you mean 'epochs'"),
        ("experiments.u.training.losss", "x", "did you mean 'loss'"),
        ("mae.shared.image_size", 100, "image_size 100 is no multiple of patch_size 16"),
        ("mae.shared.epochs", 0, "epochs 0 needs a checkpoint"),
        ("mae.shared", {"architecture": "simmim", "checkpoint": "x"}, "is for architecture 'mae'"),
        ("slices.window", [0, 1], "either window (two HU values) or percentiles"),
        ("slices.percentiles", [0, 97], "percentile 97 is not stored"),
        ("source.foreground", [0], "source.foreground.0: found 0"),
        ("source", {**SOURCE, "binarise": True, "foreground": [1]}, "either binarise"),
        ("postprocess", {"min_volume_mm3": 5}, "for method components or calcium"),
        ("experiments.g.residuals", "mmr", "names 'mmr', but residuals has only: mrm"),
        ("experiments.g.residuals", None, "'grcsf' needs residuals"),
        ("experiments.u.residuals", "mrm", "'unetpp' takes no residuals; residual_input: true"),
        ("experiments.u.residual_input", True, "'unetpp' with residual_input needs residuals"),
        (
            "experiments.u",
            {**MAPS_IN, "residuals": "x"},
            "u.residuals names 'x', but residuals has",
        ),
        (
            "experiments.g.gcu",
            {"kind": "pyramid", "start": 0},
            "start: found 0 with kind 'pyramid'",
        ),
        ("experiments.g.gcu.start", 2, "experiments.g.gcu.start: found 2"),
        ("experiments.g.rcu.start", 0.5, "experiments.g.rcu.start: found 0.5"),
        ("evaluation.baseline", "w", "names 'w', but experiments has only"),
        ("residuals.mrm.preset", "slow", "expected 'paper', 'fast', 'lean' or 'tissue'"),
        ("mae.shared", {"epochs": 10, "adversarial": {}}, "found 10, expected less than epochs 10"),
        ("residuals.mrm.difference", "sign", "'abs', 'squared', 'ssim' or 'signed'"),
        ("residuals.mrm.passes", 3, "residuals.mrm.passes: unknown key"),
        ("residuals.cam", {"grad_cam": "g"}, "'g' itself needs residual maps"),
        ("experiments.g.rcu.patch_sizes", [64, 8, 8], "rcu.patch_sizes: found 64 at 1/4 scale"),
        ("experiments.g.rcu.levels", [2, 1], "found 3, expected one for each of the 2"),
        ("experiments.g.rcu", {"levels": [0, 0], "patch_sizes": [8, 8]}, "each once"),
        ("experiments.g.rcu", None, "'grcsf' without rcu takes no residuals"),
        ("experiments.g.gcu.levels", [4], "experiments.g.gcu.levels.0: found 4"),
        ("experiments.u", {**PLAIN, "backbone": "unet"}, "rcu are both off: write model: unet"),
        ("experiments.u", {**MOBILE, "model": "unet", "width": 5}, "found 5, expected an even"),
        ("experiments.u.model", "mae_unet", "'mae_unet' needs mae_encoder"),
        ("slices.size", 48, "slices.size: found 48 (int), expected a list in brackets"),
        ("mae.shared.epochs", "12", "epochs: found '12' (str), expected a whole number"),
        ("split.test", "half", "split.test: found 'half' (str), expected a whole number from 1"),
        ("mae.shared.learning_rate", float("inf"), "(float), expected a finite number"),
        ("experiments", {}, "experiments: found {} (dict), expected at least 1 of them"),
        ("experiments.a b", {}, "experiments.a b: found 'a b' (str), expected letters, digits,"),
        ("experiments.u.model", 3, "found 3 (int), expected 'unet', 'unetpp', 'mae_unet', 'grcsf'"),
        ("experiments.g.subsets", [2], "experiments.g.subsets: found 2, but split has 1"),
        ("tables.t", {**TABLE, "columns": ["pooled_voe_volume"]}, "metrics: voxel does not score"),
        ("tables.t", {**TABLE, "headings": ["A", "B"]}, "found 1 labels, expected one for each"),
        ("tables.t", table(experiment="v"), "tables.t.rows names 'v', but experiments has only: u"),
        ("tables.t", table(published={"iou": 0.3}), "published.iou belongs to none of the columns"),
        ("mae.shared.train_mask_ratios", [0.001], "0.001, which masks 0 of 196 patches"),
        (
            "residuals.mrm.maps",
            [{"mae": "shared", "mask_ratio": 0.999, "passes": 1}],
            "residuals.mrm.maps.mask_ratio: found 0.999, which masks 196 of 196 patches",
        ),
    ],
)
def test_a_fault_names_its_key(changed, path, value, said):
    assert said in refused(changed({path: value}))


def test_all_faults_are_shown_at_once_but_no_list_is_too_short_for_its_faulty_members(changed):
    given = changed({"mae.shared.epoch": 3, "split": {"subsets": 0}})
    assert len(refused(given).splitlines()) == 2
    half = [{"mae": "shared", "mask_ratio": "half", "passes": 1}]
    assert len(refused(changed({"residuals.mrm.maps": half})).splitlines()) == 1
    assert "expected at least 1 of them" in refused(changed({"residuals.mrm.maps": []}))


@pytest.mark.parametrize(
    ("mae", "said"),
    [
        ({"architecture": "simmim"}, "mae_encoder.mae: found a SimMIM, expected an MAE"),
        ({"image_size": 48, "patch_size": 12}, "found patch_size 12, expected a power of two"),
    ],
)
def test_an_encoder_that_no_decoder_fits_is_refused(changed, mae, said):
    assert said in refused(changed({"mae.shared": {"preset": "tiny", **mae}, **ENCODER}))


def test_experiments_must_fit_together(changed):
    given = changed({**ENCODER, "residuals.cam": {"grad_cam": "m"}})
    assert "'m' has the encoder of an MAE" in refused(given)
    into = {"experiments.i": {**MAPS_IN, "residuals": "mrm"}, "residuals.cam": {"grad_cam": "i"}}
    assert "'i' itself needs residual maps" in refused(changed(into))
    apart = {"split.subsets": 2, "experiments.u.subsets": [1], "experiments.g.subsets": [2]}
    assert "no subset that all of them have in common" in refused(changed(apart))


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: {b: 1}\nc: &d {e: 1}\nf: {<<: *d, e: 2}\ng: [{h: 1}, {i: 1, i: 2}]\n")
    with pytest.raises(PipelineError, match="line 4: found 'i' a second time"):
        read_configuration(path)
    path.write_text("a: {b: 1}\nc: &d {e: 1}\nf: {<<: *d, e: 2}\n")
    assert read_configuration(path)["f"] == {"e": 2}


def test_unreadable_files_are_one_line(tmp_path):
    path = tmp_path / "bad.yaml"
    with pytest.raises(PipelineError, match="No such file"):
        load_settings(path)
    for text, said in [
        ("a: [1\nb: 2\n", r"bad.yaml: line 2: not valid YAML: expected ',' or ']', but got ':'"),
        ("a: \x00\n", "bad.yaml: not valid YAML: unacceptable character"),
        ("", r"bad.yaml: found nothing, expected keys and values"),
        ("\udcff", r"bad.yaml: found no UTF-8 text"),
    ]:
        path.write_text(text, "utf-8", "surrogateescape")
        with pytest.raises(PipelineError, match=said) as raised:
            load_settings(path)
        assert len(str(raised.value).splitlines()) == 1


def test_overrides_reach_nested_keys_and_leave_the_rest(tmp_path, changed):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(changed()))
    over = {"results": "/x", "datasets": {"brain": {"split": {"subsets": 3}}}}
    settings = load_settings(path, over)
    brain = settings.datasets["brain"]
    assert (settings.results, brain.split.subsets, brain.source.root) == ("/x", 3, "somewhere")
    assert merge({"a": {"b": 1}}, {"a": 2}) == {"a": 2}


def test_a_root_may_hold_an_environment_variable(changed, monkeypatch):
    monkeypatch.setenv("MY_SCANS", "/scans")
    settings = validate(changed({"source.root": "$MY_SCANS/brain"}), "x")
    assert source_root(settings, "brain") == Path("/scans/brain")
    monkeypatch.delenv("MY_SCANS")
    with pytest.raises(PipelineError, match="environment variable is not set"):
        source_root(settings, "brain")


@pytest.mark.parametrize(
    ("external", "said"),
    [
        ({"clinic": {**SOURCE, "healthy": ["x"]}}, "external: clinic.healthy: not for an external"),
        ({"clinic": SOURCE, "ward": SOURCE}, "external: ward: found the source of clinic again"),
        (
            {"clinic": {**SOURCE, "on_error": "skip"}},
            "external: clinic.on_error: not for an",
        ),
        (
            {"internal": SOURCE},
            "external: found the name 'internal', which means the data",
        ),
        (
            {"clinic": {"adapter": "atlas"}},
            "external.clinic: give either root (a folder of ima",
        ),
        ({"a b": SOURCE}, "external.a b: found 'a b'"),
        ({"clinic": {**SOURCE, "rooot": "x"}}, "external.clinic.rooot: unknown key; did you mean"),
    ],
)
def test_an_external_set_says_only_how_its_cases_are_read(changed, external, said):
    assert f"datasets.brain.{said}" in refused(changed({"external": external}))


def test_an_external_set_changes_what_ingest_depends_on_and_no_training(changed, part):
    plain, more = changed(), changed({"external": {"clinic": SOURCE}})
    assert "external" not in part(plain, "ingest")
    assert part(more, "ingest")["external"]["clinic"]["root"] == "x"
    for stage, name in (("train_mae", "shared"), ("train_segmentation", "g"), ("split", "")):
        assert part(more, stage, name) == part(plain, stage, name)
    images = further_images(validate(more, "x"), "brain")
    assert [(str(each.path), each.role) for each in images] == [("x", "external/clinic")]


@pytest.mark.parametrize("results", ["-n", "./-n/x", "a\nb"])
def test_results_are_no_option_of_a_command(changed, results):
    assert f"results: found {results!r}" in refused({**changed(), "results": results})


@pytest.mark.parametrize(
    ("path", "said"), [("a\1b", "without control characters"), ("~nouser17/x", "user is not known")]
)
def test_what_no_path_is(changed, path, said):
    settings = validate(changed({"source": {**SOURCE, "root": path, "also_predict": [path]}}), "x")
    for read in (source_root, further_images):
        with pytest.raises(PipelineError, match=said) as raised:
            read(settings, "brain")
        assert repr(path) in str(raised.value)


def bomb():
    lines = ["l0: &l0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (bomb(), "found more than 50000 values"),
        ("a: &a [*a]", "found values nested deeper than 40"),
        ("\n".join(["a0: &a0 x", *(f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000))]), "deeper"),
        ("a: &a {x: 1}\nb: {<<: [" + "*a, " * 60_000 + "*a]}", "found more than 50000 values"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("seed: " + "9" * 6000, "limit .4300 digits. for integer"),
        ("a: 2020-13-45", "month must be in 1..12"),
        ("a: !!timestamp x", "cannot be read"),
        ("#" * 2**21, "found 2097152 bytes, expected at most"),
        ('results: "a\\0b"\ndatasets: {}', "expected text without NUL"),
        ('results: "a\\ud800b"\ndatasets: {}', "expected text without NUL"),
    ],
    ids=str.split("aliases endless chain merges deep digits month time large nul half"),
)
def test_what_would_fill_memory_or_stack_is_one_line(tmp_path, text, said):
    path = tmp_path / "c.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(PipelineError, match=f"^configuration {path}: .*{said}") as raised:
        load_settings(path)
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["pipe", "device", "circle", "folder"])
def test_only_a_regular_file_is_a_configuration_or_a_checkpoint(tmp_path, kind):
    path = tmp_path / "c.yaml"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "circle": "c.yaml"}[kind])
    said = "Too many levels|not there" if kind == "circle" else f"found a {kind}|a folder without"
    for read in (load_settings, checkpoint_files):
        with pytest.raises(PipelineError, match=f"{path}: ({said})"):
            read(path)


def test_a_user_or_a_path_that_cannot_be_is_one_line(changed):
    given = changed({"source.root": "~no-such-user/x"})
    with pytest.raises(PipelineError, match="whose user is not known here"):
        source_root(validate(given, "c"), "brain")
    with pytest.raises(PipelineError, match="expected text without NUL"):
        validate(changed({"source.root": "a\0b"}), "c")
    with pytest.raises(PipelineError, match="a path with a NUL"):
        checkpoint_files(Path("a\0b"))


def test_without_healthy_scans_records_are_as_before_there_were_any():
    assert "healthy" not in Source(**SOURCE).model_dump(mode="json")
    assert Source(**SOURCE, healthy=["a"]).model_dump(mode="json")["healthy"] == ["a"]
