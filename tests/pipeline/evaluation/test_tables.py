"""Names from users: no formula of a spreadsheet, no markup of a page, and themselves again."""

import csv

import pytest

from pipeline.errors import PipelineError
from pipeline.evaluation.pages import emphasis
from pipeline.evaluation.score_files import read_scores
from pipeline.evaluation.tables import TextTable, aligned, cell, text_of, write_csv, write_table
from pipeline.storage.layout import Layout

NAMES = ["=1+1", "+a", "-a", "@x", "\tx", "'=x", "''", "'x", "a=b", "", "nan", "-", "007"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_begins_no_formula_and_is_read_as_it_was(tmp_path, name):
    layout = Layout(tmp_path, "d")
    rows = [{"case": "01", "group": name, "subset": 1, "dice": -0.5}]
    write_csv(layout.scores("e"), [*rows, {"case": "2", "group": "g", "subset": 1, "dice": None}])
    with layout.scores("e").open(newline="", encoding="utf-8") as file:
        written = list(csv.DictReader(file))
    assert written[0]["group"][:1] not in {*"=+-@\t\r"}
    assert (written[0]["dice"], written[1]["dice"]) == ("-0.5", "nan")
    read = read_scores(layout, "e", [1])
    assert read["group"].to_dict() == {"01": name, "2": "g"}
    assert read["dice"].tolist()[0] == -0.5


@pytest.mark.parametrize(
    ("rows", "fault"),
    [
        ([["01", 1, "much"]], "text in column dice"),
        ([["01", 1, 0.5], ["01", 1, 0.6]], "case 01 twice"),
    ],
)
def test_a_damaged_table_of_scores_is_refused(tmp_path, rows, fault):
    layout = Layout(tmp_path, "d")
    records = [dict(zip(("case", "subset", "dice"), row, strict=True)) for row in rows]
    write_csv(layout.scores("e"), records)
    with pytest.raises(PipelineError, match=f"e.csv: {fault}, expected the scores .* delete it"):
        read_scores(layout, "e", [1])


@pytest.mark.parametrize("number", ["-0.5", "+3", "-inf", "-1e-3", -2, 1.5])
def test_numbers_stay(number):
    assert cell(number) == number


def test_text_of_other_files_stays():
    assert text_of("'quoted'") == "'quoted'"


def test_a_page_shows_names_as_they_are_and_keeps_its_own_emphasis(tmp_path):
    table = TextTable(["=a|b", "<b>"], names=2)
    table.rows = [["<img src=x onerror=alert(1)>", "a|b\n`c` [d](e) *f* __g__ h_i", r"**1.0** \*"]]
    table.headings.append("Dice")
    table.numbers = [{"=a|b": "=x", "dice": -1.0}]
    write_table(table, "<h1>\n# x", tmp_path / "t.md", tmp_path / "t.csv")
    title, _, head, _, row = (tmp_path / "t.md").read_text("utf-8").splitlines()
    assert title == r"# \<h1\> # x"
    assert head.startswith(r"| =a\|b")
    assert r"\<img src=x onerror=alert(1)\>" in row
    assert r"a\|b \`c\` \[d\](e) \*f\* \_\_g\_\_ h_i" in row
    assert r"**1.0** \*" in row
    assert (tmp_path / "t.csv").read_bytes() == b"'=a|b,dice\r\n'=x,-1.0\r\n"


def test_a_table_of_the_terminal_is_as_given():
    assert aligned([["a", "b"], ["train_mae", "1"]]).splitlines()[2] == "| train_mae | 1 |"


def test_a_page_shows_the_best_two_figures_and_no_markup_of_names():
    small = "<small>[0.31, 0.52]</small>"
    assert emphasis(r"<u>0.412</u>\* [0.31, 0.52]") == f"<u>0.412</u>* {small}"
    assert emphasis("**0.412** [0.31, 0.52]") == f"<strong>0.412</strong> {small}"
    assert emphasis("<u>x</u>") == "&lt;u&gt;x&lt;/u&gt;"
