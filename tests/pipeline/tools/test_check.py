"""`grcsf check`: every fault of every case, what a data set is like, and what a run will need."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.datasets import loading
from pipeline.errors import Finding, PipelineError
from pipeline.ingest import ingest
from pipeline.ingestion.listing import listed_cases
from pipeline.settings import HEALTHY, FurtherImage
from pipeline.storage.files import read_json
from pipeline.storage.images.volumes import write_volume
from pipeline.storage.layout import Layout
from pipeline.tools.check.check import check
from pipeline.tools.check.page import write_page
from pipeline.tools.check.record import Check
from pipeline.tools.check.summary import needs, summary
from pipeline.tools.check.table import print_check
from tests.pipeline.tools.checks import GRID, SHAPE, checked, settings, told


def write(root, case, image, label=None, label_grid=GRID):
    write_volume(root / "imagesTr" / f"{case}_0000.nii.gz", image, GRID)
    if label is not None:
        write_volume(root / "labelsTr" / f"{case}.nii.gz", label, label_grid)


def ct(random):
    """HU with air alone in the first slice."""
    image = random.integers(-900, 300, SHAPE).astype(np.int16)
    image[0] = -1000
    return image


@pytest.fixture
def root(tmp_path):
    """Two good CTs, the second without lesion."""
    random = np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "raw" / folder).mkdir(parents=True)
    lesions = np.zeros(SHAPE, np.uint8)
    lesions[2:4, 5:9, 5:10] = lesions[6, 1, 1] = 1
    write(tmp_path / "raw", "a", ct(random), lesions)
    write(tmp_path / "raw", "b", ct(random), np.zeros(SHAPE, np.uint8))
    content = {"labels": {"background": 0, "lesion": 1}, "channel_names": {"0": "CT"}}
    content |= {"numTraining": 2, "file_ending": ".nii.gz"}
    (tmp_path / "raw" / "dataset.json").write_text(json.dumps(content), "utf-8")
    return tmp_path / "raw"


def test_a_split_that_the_cases_cannot_have_is_an_error(tmp_path, root):
    found = checked(tmp_path, root)
    (line,) = told(found, "error")[""]
    assert line.startswith("split: 2 cases leave 1 for training and validation")
    assert found.errors == 1


def test_a_good_data_set_is_described(tmp_path, root):
    write(root, "c", ct(np.random.default_rng(7)), np.zeros(SHAPE, np.uint8))
    found = checked(tmp_path, root)
    assert found.errors == 0
    assert told(found, "warning") == {case: ["the label holds no lesion"] for case in "bc"}
    assert set(told(found, "note")) <= {""}
    lines = dict(summary(found))
    assert lines["cases"] == "3, of which 3 can be used"
    assert lines["roles"] == "3 left to the split"
    assert lines["with reference"] == "3, 2 without lesion"
    assert lines["empty slices a case"] == "1"
    assert lines["lesions a case"] == "2"
    assert lines["lesion voxels a case"] == "41"
    assert lines["lesion ml a case"] == f"{41 * 0.75 / 1000:.4g}"
    # of 1 and 40 voxels, 0.75 mm³ each
    assert lines["a lesion's voxels, 5, 25, 50, 75, 95 %"] == "2.95 – 10.75 – 20.5 – 30.25 – 38.05"
    assert {"disk, case stores", "disk, together"} <= set(dict(needs(found)))
    written = json.loads((tmp_path / "results/ct/check/check.json").read_text("utf-8"))
    assert written["disk_bytes"] == found.disk
    assert {one["case"]: one["lesions"] for one in written["cases"]} == {"a": 2, "b": 0, "c": 0}
    first = written["cases"][0]
    assert sorted(first["each_lesion_voxels"]) == [1, 40]
    assert sorted(first["each_lesion_mm3"]) == pytest.approx([0.75, 30.0])


def test_lesions_and_cases_are_counted_by_the_size_classes_of_fig_9(tmp_path, root):
    label = np.zeros(SHAPE, np.uint8)
    label[1:7, 1:20, 1:10] = 1  # 1,026 voxels
    label[1, 22, 1:11] = 1  # 10 voxels
    write(root, "c", np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(np.int16) - 1000, label)
    lines = dict(summary(checked(tmp_path, root)))
    assert lines["lesions by voxels"] == "1–100: 3; 101–1000: 0; >1000: 1"
    assert lines["cases by lesion voxels (Fig. 9)"] == "1–100: 1; 101–1000: 0; >1000: 1"
    assert lines["lesion voxels a case"] == "41 – 538.5 – 1,036"


def test_patients_without_calcium_are_no_reason_to_worry(tmp_path, root):
    found = checked(tmp_path, root, evaluation={"metrics": "calcium"})
    assert told(found, "warning") == {}
    assert told(found, "note") == {"b": ["the label holds no lesion"]}


def test_whatever_a_library_raises_about_one_case_is_its_finding(tmp_path, root, monkeypatch):
    read = loading.read_volume

    def reading(path, *others, **chosen):
        if path.name == "b_0000.nii.gz":
            raise MemoryError("Unable to allocate 2 TiB")
        return read(path, *others, **chosen)

    monkeypatch.setattr(loading, "read_volume", reading)
    found = checked(tmp_path, root)
    said = "memory is too small for it (MemoryError: Unable to allocate 2 TiB)"
    assert told(found, "error")["b"] == [said]
    assert [case.case for case in found.usable] == ["a"]


def test_orphans_are_told_beside_the_faults_of_cases(tmp_path, root):
    for name in ("lost", "orphan"):
        write_volume(root / "labelsTr" / f"{name}.nii.gz", np.zeros(SHAPE, np.uint8), GRID)
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"nothing")
    write(root, "c", np.full(SHAPE, 7, np.int16))
    found = checked(tmp_path, root)
    errors = [one for one in found.findings if one.severity == "error"]
    orphans = [Path(one.file).name for one in errors if one.found == "label without image"]
    assert orphans == ["lost.nii.gz", "orphan.nii.gz"]
    names = {Path(one.file).name for one in errors}
    assert names >= {"b.nii.gz", "c.nii.gz", "c_0000.nii.gz"}
    assert [one.case for one in found.usable] == ["a"]


def test_a_folder_that_is_no_data_set_is_a_finding(tmp_path):
    (tmp_path / "empty").mkdir()
    found = checked(tmp_path, tmp_path / "empty")
    assert [one.found for one in found.findings] == ["not there"]
    assert found.findings[0].file == str(tmp_path / "empty" / "dataset.json")
    assert (found.cases, found.disk) == ([], {})


def test_what_was_left_out_is_noted(tmp_path, root):
    (root / "imagesTr" / "._a_0000.nii.gz").write_bytes(b"")
    (root / "imagesTs").mkdir()
    write_volume(root / "imagesTs" / "t_0000.nii.gz", ct(np.random.default_rng(2)), GRID)
    found = checked(tmp_path, root)
    assert told(found, "note")[""] == [
        "1 of 3 cases without reference: predicted, not scored",
        "left out, file ._* (left by macOS): imagesTr/._a_0000.nii.gz",
    ]
    assert dict(summary(found))["roles"] == "1 unlabelled, 2 left to the split"


def test_healthy_scans_are_told_and_one_that_is_a_case_s_image_again_is_an_error(tmp_path, root):
    folder = tmp_path / "healthy"
    folder.mkdir()
    write_volume(folder / "new.nii.gz", ct(np.random.default_rng(2)), GRID)
    shutil.copy(root / "imagesTr" / "a_0000.nii.gz", folder / "copy.nii.gz")
    further, chosen = [FurtherImage(folder, HEALTHY)], settings()
    found = check(Layout(tmp_path / "results", "ct"), chosen, root, further, 1, 2)
    assert told(found, "error")["copy"] == ["a healthy scan with the voxels of a"]
    assert told(found, "note")[""] == ["2 of 4 cases healthy: only autoencoders learn from them"]
    assert dict(summary(found))["roles"] == "1 healthy, 2 left to the split"
    layout, source = Layout(tmp_path / "results", "ct"), chosen.source
    with pytest.raises(PipelineError, match="case copy: a healthy scan with the voxels of a"):
        ingest(layout, source, root, further, 1)
    ingest(layout, source.model_copy(update={"on_error": "skip"}), root, further, 1)
    manifest = read_json(layout.cases)
    roles = {name: (case["role"], case["labelled"]) for name, case in manifest["cases"].items()}
    assert roles == {"a": ("", True), "b": ("", True), "new": (HEALTHY, False)}
    assert list(manifest["set_aside"]) == ["copy"]


def test_a_dropped_pair_is_told_even_if_its_name_is_no_text(tmp_path, root, caplog):
    (root / "imagesTr" / os.fsdecode(b"\xff_0000.nii")).touch()
    found = checked(tmp_path, root)
    (line,) = (line for line in told(found, "warning")[""] if line.startswith("left out"))
    assert line.endswith("image that is no case and no label: imagesTr/\\udcff_0000.nii")
    layout = Layout(tmp_path / "results", "ct")
    write_page(layout, found)
    assert "udcff" in layout.check(".html").read_text("utf-8")
    source = settings().source.model_copy(update={"root": str(root)})
    listed_cases(source, root, ())
    assert [each.levelname for each in caplog.records if line in each.getMessage()] == ["WARNING"]


def test_the_command_ends_with_1_on_errors(tmp_path, root):
    given = settings().model_dump(mode="json", exclude_unset=True)
    given["source"]["root"] = str(root)
    content = {"results": str(tmp_path / "results"), "datasets": {"ct": given}}
    (tmp_path / "ct.yaml").write_text(yaml.safe_dump(content), "utf-8")
    command = ["check", "--config", str(tmp_path / "ct.yaml"), "--dataset", "ct"]
    write(root, "c", ct(np.random.default_rng(7)), np.zeros(SHAPE, np.uint8))
    good = CliRunner().invoke(app, command)
    assert good.exit_code == 0, "a warning alone is no error"
    assert "ct: 0 errors, 2 warnings, 0 notes" in good.output
    assert (tmp_path / "results/ct/check/check.html").exists()
    (root / "labelsTr" / "b.nii.gz").write_bytes(b"nothing")
    bad = CliRunner().invoke(app, command)
    assert bad.exit_code == 1
    assert "ct: 1 error, 1 warning" in bad.output


@pytest.mark.parametrize("path", ["/[old]/b.nii.gz", "/data[/old]/b.nii.gz"])
def test_brackets_in_a_path_are_printed_as_they_are(path, capsys):
    print_check(Check("ct", [], [Finding("odd", file=path, case="[b]")]))
    shown = capsys.readouterr().out
    assert path in shown
    assert "[b]" in shown
