"""A CSV says what there is."""

import pytest

from pipeline.datasets import list_cases


@pytest.fixture
def write(tmp_path, touch):
    touch("images/a.nii.gz", "images/b.nii.gz", "masks/a.nii.gz")

    def build(text: str):
        (tmp_path / "manifest.csv").write_text(text, encoding="utf-8")
        return tmp_path / "manifest.csv"

    return build


HEADER = "case,image,label,group,role\n"


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
        ("case,image, Case \na,images/a.nii.gz,b\n", "the column case twice: case,image,Case"),
        ("case,image,\n", r"the columns case,image,\(one without name\)"),
        (HEADER + "a,images/a.nii.gz\n", "line 2: fewer values than columns"),
        (
            HEADER + 'a,images/a.nii.gz,,"x\ny",\n',
            r"the group 'x\\ny', expected a name",
        ),
        ("case;image\n", "expected case,image,label,group,role.*; save it with commas"),
        (HEADER + "a,images/c.nii.gz,,,\n", r"case a: .*line 2: image .*c\.nii\.gz not there"),
        (HEADER + "a,images/a.nii.gz,masks/c.nii.gz,,\n", r"label .*c\.nii\.gz not there"),
        (HEADER + "a,images/a.nii.gz,,,training\n", "role 'training', expected"),
        (HEADER + "a,images/a.nii.gz,,,train\n", "role train without label"),
        (HEADER + "a,images/a.nii.gz,masks/a.nii.gz,,healthy\n", "role healthy with a label"),
        (HEADER + ",images/a.nii.gz,,,\n", "line 2: case or image is empty"),
        (HEADER + "a,images/a.nii.gz,,,,extra\n", "more values than columns"),
        (HEADER + "a/b,images/a.nii.gz,,,\n", r"csv: line 2: the name 'a/b', .*; correct it"),
        (HEADER + "a,images/a.nii.gz,,,\n" + "a,images/b.nii.gz,,,\n", "more than once"),
    ],
)
def test_faults(write, refused, text, words):
    line = refused("manifest", words, write(text))
    assert "manifest.csv" in line or "images" in line
