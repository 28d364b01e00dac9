"""A CSV says what there is."""

import pytest

from pipeline.datasets import list_cases

HEADER = "case,image,label,group,role\n"


@pytest.fixture
def write(tmp_path, touch):
    touch("images/a.nii.gz", "images/b.nii.gz", "masks/a.nii.gz")

    def build(text: str):
        path = tmp_path / "manifest.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return build


def test_paths_are_relative_to_the_csv(write, tmp_path, monkeypatch):
    write(HEADER + "b,images/b.nii.gz,,Ulm,\n" + "a, images/a.nii.gz,masks/a.nii.gz,Bonn,test\n")
    monkeypatch.chdir("/")
    for root in (tmp_path / "manifest.csv", tmp_path):
        first, second = list_cases("manifest", root)
        assert (first.case, first.group, first.role) == ("a", "Bonn", "test")
        assert first.image == tmp_path / "images" / "a.nii.gz"
        assert first.label == tmp_path / "masks" / "a.nii.gz"
        assert (second.label, second.group, second.role) == (None, "Ulm", "unlabelled")


def test_the_csv_may_be_excel_s_and_have_another_name(write, tmp_path):
    # Excel writes a byte order mark
    table = write("\ufeffcase,image\na,images/a.nii.gz\n").rename(tmp_path / "cases.csv")
    assert len(list_cases("manifest", table)) == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the columns none"),
        ("case;image\n", "expected case,image,label,group,role.*; save it with commas"),
        ("case,bild\n", "expected case,image,label,group,role.*; correct the first line"),
        ("case,image,hospital\n", "case,image,hospital"),
        (HEADER + "a,images/c.nii.gz,,,\n", r"case a: .*line 2: image .*c\.nii\.gz not there"),
        (HEADER + "a,images/a.nii.gz,masks/c.nii.gz,,\n", r"label .*c\.nii\.gz not there"),
        (HEADER + "a,images/a.nii.gz,,,training\n", "role 'training', expected"),
        (HEADER + "a,images/a.nii.gz,,,train\n", "role train without label"),
        (HEADER + "a,images/a.nii.gz,,,test\n", "role test without label"),
        (HEADER + "a,images/a.nii.gz,masks/a.nii.gz,,unlabelled\n", "unlabelled with a label"),
        (HEADER + ",images/a.nii.gz,,,\n", "line 2: case or image is empty"),
        (HEADER + "a,images/a.nii.gz,,,,extra\n", "more values than columns"),
        (HEADER + "a/b,images/a.nii.gz,,,\n", r"csv: line 2: the name 'a/b', .*; correct it"),
        (HEADER + "a,images/a.nii.gz,,,\n" + "a,images/b.nii.gz,,,\n", "more than once"),
    ],
)
def test_faults(write, refused, text, words):
    line = refused("manifest", words, write(text))
    assert "manifest.csv" in line or "images" in line


def test_missing_csv(refused):
    refused("manifest", r"manifest\.csv: not there")
