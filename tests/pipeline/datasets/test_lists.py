"""What lists a data set may be damaged or hostile, and is refused in one line."""

import os

import pytest

from pipeline.datasets import list_cases
from pipeline.datasets.left_out import left_out
from pipeline.errors import PipelineError
from pipeline.settings import Source

DEEP = "[" * 200_000


@pytest.mark.parametrize("adapter", ["msd", "nnunet"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f'{{"training": {DEEP}'.encode(), "nested too deep"),
        (b'{"numTraining": ' + b"9" * 6000 + b"}", "no readable JSON .*digits"),
        (b'{"a": 1, "a": 2}', "the key 'a' twice"),
        (b'{"a": "\xff"}', "no UTF-8 text"),
        (b"3", "found int, expected a JSON object"),
    ],
)
def test_a_damaged_description(tmp_path, refused, adapter, content, words):
    (tmp_path / "dataset.json").write_bytes(content)
    assert len(refused(adapter, rf"dataset\.json: .*{words}")) < 1000


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def loop(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [pipe, device, loop, os.mkdir])
@pytest.mark.parametrize(
    ("adapter", "name"), [("msd", "dataset.json"), ("manifest", "manifest.csv")]
)
def test_only_a_regular_file_is_opened(tmp_path, refused, make, adapter, name):
    make(tmp_path / name)
    refused(adapter, rf"{name}: not readable \((found a|Too many levels)")


@pytest.mark.parametrize("given", ["a\0b.nii.gz", "a\nb.nii.gz", "~nouser17/a.nii.gz"])
def test_what_no_path_is(tmp_path, refused, given):
    quoted = given.encode("unicode_escape").decode().replace("\\x00", "\\u0000")
    entry = f'{{"image": "{quoted}", "label": "b"}}'
    (tmp_path / "dataset.json").write_text(f'{{"training": [{entry}]}}', "utf-8")
    refused("msd", r"broken training list \(the path '(a\\|~nouser17)")
    entry = f'{{"c": {{"images": ["{quoted}"], "label": "b"}}}}'
    (tmp_path / "dataset.json").write_text(f'{{"dataset": {entry}}}', "utf-8")
    refused("nnunet", r"broken key dataset \(the path '(a\\|~nouser17)")
    (tmp_path / "manifest.csv").write_text(f'case,image\nc,"{given}"\n', "utf-8", newline="")
    refused("manifest", r"line \d: image: the path '(a\\|~nouser17)")


PAIR = '{"image": "imagesTr/a.nii.gz", "label": "labelsTr/a.nii.gz"}'
LABELS = f'{{"labels": %s, "training": [{PAIR}]}}'


@pytest.mark.parametrize(
    ("adapter", "image"), [("nnunet", "imagesTr/a_0000.nii.gz"), ("msd", "imagesTr/a.nii.gz")]
)
@pytest.mark.parametrize(
    ("labels", "value", "name"),
    [
        ('{"background": 0, "lesion": 1, "ignore": 2}', 2, "ignore"),
        ('{"0": "background", "1": "lesion", "3": "ignore"}', 3, "ignore"),
        ('{"lesion": 0, "background": 1}', 1, "background"),
    ],
)
def test_label_values_that_are_no_lesion_do_not_become_it(
    tmp_path, touch, refused, adapter, image, labels, value, name
):
    (tmp_path / "dataset.json").write_text(LABELS % labels, "utf-8")
    touch(image, "labelsTr/a.nii.gz")
    line = refused(adapter, f"value {value} is '{name}' and would become lesion")
    assert "set source.foreground" in line
    with pytest.raises(PipelineError):
        list_cases(adapter, tmp_path, foreground=(1, 2, 3))
    chosen = tuple({1, 2, 3} - {value})[:1]
    (case,) = list_cases(adapter, tmp_path, foreground=chosen)
    source = Source(adapter=adapter, root=str(tmp_path), foreground=chosen)
    (warning,) = left_out(source, tmp_path, [case])
    assert warning.severity == "warning"
    assert warning.found == f"label value {value} ({name}) is no lesion: taken as background"


@pytest.mark.parametrize(
    "labels", ['{"background": 0, "whole": [1, 2], "core": [2]}', '{"0": "background", "1": "x"}']
)
def test_regions_are_lesion_in_all_of_their_values(tmp_path, touch, labels):
    (tmp_path / "dataset.json").write_text(LABELS % labels, "utf-8")
    touch("imagesTr/a_0000.nii.gz", "labelsTr/a.nii.gz")
    (case,) = list_cases("nnunet", tmp_path)
    assert case.outside == ()


def test_a_label_value_that_is_none(tmp_path, refused):
    (tmp_path / "dataset.json").write_text(LABELS % '{"ignore": "last"}', "utf-8")
    refused("nnunet", "labels: 'last' for ignore, expected a whole number")
