"""Any data set, listed in a CSV with the columns `case,image,label,group,role`."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.datasets.cases import CASE_NAME, NAME_RULE, ROLES, CaseFiles, checked
from pipeline.datasets.lists import listed_path, read_list
from pipeline.errors import Finding, PipelineError, file_fault, one_line
from pipeline.settings import HEALTHY
from pipeline.settings.section import CONTROL

TABLE = "manifest.csv"
COLUMNS = ("case", "image", "label", "group", "role")
NEED_LABEL = ("train", "validation", "test")
LOOKS_FOR = f"{TABLE}, a CSV {','.join(COLUMNS)}, or the path of such a CSV"
Fault = Callable[[str, str, str], PipelineError]  # what was found, expected, and to be done


def fits(root: Path) -> bool:
    """Whether `root` is a CSV, or holds a `manifest.csv`."""
    return (root / TABLE).is_file() or (root.suffix.lower() == ".csv" and root.is_file())


def list_cases(root: Path) -> list[CaseFiles]:
    """One case for each line of the CSV at or in `root`; paths are relative to its folder.

    Raises:
        PipelineError: no such CSV, or a missing, unknown or repeated column.
        ListingError: no case, a case twice, no such file, a wrong role; of all lines at once.
    """
    path = root / TABLE if root.is_dir() else root
    cases: list[CaseFiles] = []
    faults: list[Finding] = []
    text = read_list(path, f"a CSV {','.join(COLUMNS)}")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        _check_columns(reader.fieldnames or (), path)
        for row in reader:
            try:
                cases.append(_case(row, path, reader.line_num))
            except PipelineError as error:
                faults += error.findings
    except csv.Error as error:
        raise file_fault(path, f"no readable CSV ({error})", "", "save it as UTF-8") from error
    return checked(cases, path, "a line per case below the header", faults)


def _check_columns(header: Sequence[str], path: Path) -> None:
    names = [name.strip() for name in header]
    known = [name.lower() for name in names]
    if twice := next((name for name in known if name and known.count(name) > 1), ""):
        found = f"the column {twice} twice: {one_line(','.join(names))}"
        raise file_fault(path, found, "each column once", "remove one of them")
    if not set(COLUMNS[:2]) <= set(names) <= set(COLUMNS):
        apart = any(mark in name for name in names for mark in ";\t")
        listed = ",".join(name or "(one without name)" for name in names)
        raise file_fault(
            path,
            f"the columns {one_line(listed) or 'none'}",
            f"{','.join(COLUMNS)}, of which case and image must be there",
            "save it with commas between the values" if apart else "correct the first line",
        )


def _existing(given: str, column: str, table: Path, fault: Fault) -> Path:
    remedy = "correct it; paths are relative to the CSV"
    try:
        path = listed_path(table.parent, given)
    except ValueError as error:
        raise fault(f"{column}: {error}", "a file", remedy) from None
    if not (path.is_file() or path.is_dir()):
        found = "is no regular file" if path.exists() else "not there"
        raise fault(f"{column} {path} {found}", "a file", remedy)
    return path


def _case(row: dict[str, str | None], table: Path, line: int) -> CaseFiles:
    case = ""

    def fault(found: str, expected: str, remedy: str) -> PipelineError:
        return file_fault(table, f"line {line}: {found}", expected, remedy, case)

    if None in row:
        raise fault("more values than columns", "", "quote names that hold commas")
    if None in row.values():
        remedy = "end the line with a comma for each value that stays empty"
        raise fault("fewer values than columns", "", remedy)
    values = {name.strip(): (value or "").strip() for name, value in row.items()}
    name, role, label = values["case"], values.get("role", ""), None
    if not name or not values["image"]:
        raise fault("case or image is empty", "", "fill in both")
    if not CASE_NAME.fullmatch(name):
        raise fault(f"the name {name!r}", NAME_RULE, "correct it there")
    case = name
    if CONTROL.search(values.get("group", "")):
        raise fault(f"the group {values['group']!r}", "a name of one line", "correct it")
    if role not in ROLES:
        raise fault(f"role {role!r}", f"{', '.join(ROLES[1:])} or nothing", "correct it")
    image = _existing(values["image"], "image", table, fault)
    if values.get("label"):
        label = _existing(values["label"], "label", table, fault)
        if role in ("unlabelled", HEALTHY):
            remedy = "remove the label, or give another role"
            raise fault(f"role {role} with a label", "no label", remedy)
    elif role in NEED_LABEL:
        remedy = "give one, or the role unlabelled"
        raise fault(f"role {role} without label", "a label", remedy)
    elif role != HEALTHY:
        role = "unlabelled"
    return CaseFiles(case, image, label, group=values.get("group", ""), role=role)
