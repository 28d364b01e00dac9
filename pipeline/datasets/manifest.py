"""Any data set, listed in a CSV with the columns `case,image,label,group,role`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from pipeline.datasets.cases import CASE_NAME, NAME_RULE, ROLES, CaseFiles, checked
from pipeline.errors import Finding, PipelineError, file_fault

TABLE = "manifest.csv"
COLUMNS = ("case", "image", "label", "group", "role")
NEED_LABEL = ("train", "validation", "test")


def list_cases(root: Path) -> list[CaseFiles]:
    """One case for each line of the CSV at or in `root`; paths are relative to its folder.

    Raises:
        PipelineError: no such CSV, or a missing or unknown column.
        ListingError: no case, a case twice, no such file, a wrong role; of all lines at once.
    """
    path = root / TABLE if root.is_dir() else root
    cases: list[CaseFiles] = []
    faults: list[Finding] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), path)
            for row in reader:
                try:
                    cases.append(_case(row, path, reader.line_num))
                except PipelineError as error:
                    faults += error.findings
    except FileNotFoundError:
        expected = f"a CSV {','.join(COLUMNS)}"
        raise file_fault(path, "not there", expected, "write one, or correct source.root") from None
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise file_fault(path, f"no readable CSV ({error})", "", "save it as UTF-8") from error
    return checked(cases, path, "a line per case below the header", faults)


def _check_columns(header: Sequence[str], path: Path) -> None:
    names = [name.strip() for name in header]
    if not set(COLUMNS[:2]) <= set(names) <= set(COLUMNS):
        apart = any(mark in name for name in names for mark in ";\t")
        raise file_fault(
            path,
            f"the columns {','.join(names) or 'none'}",
            f"{','.join(COLUMNS)}, of which case and image must be there",
            "save it with commas between the values" if apart else "correct the first line",
        )


def _case(row: dict[str, str | None], table: Path, line: int) -> CaseFiles:
    case = ""

    def fault(found: str, expected: str, remedy: str) -> PipelineError:
        return file_fault(table, f"line {line}: {found}", expected, remedy, case)

    def existing(column: str) -> Path:
        path = table.parent / Path(values[column]).expanduser()
        if not path.exists():
            remedy = "correct it; paths are relative to the CSV"
            raise fault(f"{column} {path} not there", "a file", remedy)
        return path

    if None in row:
        raise fault("more values than columns", "", "quote names that hold commas")
    values = {name.strip(): (value or "").strip() for name, value in row.items()}
    name, role, label = values["case"], values.get("role", ""), None
    if not name or not values["image"]:
        raise fault("case or image is empty", "", "fill in both")
    if not CASE_NAME.fullmatch(name):
        raise fault(f"the name {name!r}", NAME_RULE, "correct it there")
    case = name
    if role not in ROLES:
        raise fault(f"role {role!r}", f"{', '.join(ROLES[1:])} or nothing", "correct it")
    image = existing("image")
    if values.get("label"):
        label = existing("label")
        if role == "unlabelled":
            remedy = "remove the label, or give another role"
            raise fault("role unlabelled with a label", "no label", remedy)
    elif role in NEED_LABEL:
        remedy = "give one, or the role unlabelled"
        raise fault(f"role {role} without label", "a label", remedy)
    else:
        role = "unlabelled"
    return CaseFiles(case, image, label, group=values.get("group", ""), role=role)
