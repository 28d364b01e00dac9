"""Findings as lines, as records, and together."""

import json

import pytest

from pipeline.errors import Finding, PipelineError, file_fault, grouped


@pytest.mark.parametrize(
    ("finding", "line"),
    [
        (Finding("odd"), "odd"),
        (Finding("odd", "even"), "odd, expected even"),
        (Finding("odd", "", "add 1"), "odd; add 1"),
        (Finding("odd", "even", "add 1", "a.nii", "a"), "case a: a.nii: odd, expected even; add 1"),
    ],
)
def test_a_finding_is_one_line_and_one_record(finding, line):
    assert str(finding) == line
    record = json.loads(json.dumps(finding.as_json()))
    assert record.pop("text") == line
    assert Finding(**record) == finding


def test_an_error_s_text_is_made_from_its_faults(tmp_path):
    fault = Finding("odd", "even", case="a")
    error = PipelineError("2 of 3 cases", fault)
    assert str(error) == "2 of 3 cases\ncase a: odd, expected even"
    assert error.findings == (Finding("2 of 3 cases"), fault)
    assert str(file_fault(tmp_path, "empty", "", "fill it")) == f"{tmp_path}: empty; fill it"


def test_alike_findings_are_shown_once():
    alike = [Finding("odd", "even", "add 1", f"{case}.nii", case) for case in "ab"]
    note = Finding("one more", severity="note")
    first, second = grouped([note, *alike])
    assert (first.finding, first.cases) == (alike[0], ["a", "b"])
    assert first.files == ["a.nii", "b.nii"]
    assert (second.finding, second.cases) == (note, [])
