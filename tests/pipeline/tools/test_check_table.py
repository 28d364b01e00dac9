"""What `grcsf check` prints."""

import pytest

from pipeline.errors import Finding
from pipeline.tools.check.record import Check
from pipeline.tools.check.table import print_check


@pytest.mark.parametrize("path", ["/[old]/b.nii.gz", "/data[/old]/b.nii.gz"])
def test_brackets_in_a_path_are_shown_as_they_are(path, capsys):
    print_check(Check("ct", [], [Finding("odd", file=path, case="[b]")]))
    shown = capsys.readouterr().out
    assert path in shown
    assert "[b]" in shown


def test_a_terminal_of_80_columns_shows_every_word(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    one = Finding(
        "label spacing (3.00001, 0.501, 0.5) mm",
        "the image's (3, 0.5, 0.5) mm (z, y, x)",
        "resample the label on to the image, or correct the header that is wrong",
        "/data/" + "deep/" * 30 + "sub-r001s001_label.nii.gz",
        "sub-r001s001",
    )
    print_check(Check("ct", [], [one]))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert one.case in shown
    whole = "".join(shown.split())
    for text in (one.found, one.expected, one.remedy):
        assert all(word in shown for word in text.split())
    assert "sub-r001s001_label" in whole
