"""Any data set, listed in a CSV with the columns `case,image,label,group,role`."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.datasets.cases import CASE_NAME, NAME_RULE, ROLES, CaseFiles, checked
from pipeline.errors import Finding, PipelineError, file_fault

TABLE = "manifest.csv"
COLUMNS = ("case", "image", "label", "group", "role")
NEED_LABEL = ("train", "validation", "test")


def list_cases(root: Path) -> list[CaseFiles]:
    """One case for each line of the CSV; its paths are relative to its own folder.

    Args:
        root: the CSV, or a folder with a `manifest.csv`.

    Raises:
        PipelineError: no such CSV, or a missing or unknown column.
        ListingError: no case, a case twice, a file that is not there, an unknown role, or a role
            that needs a label without one; the faults of all lines at once.
    """
    path = root / TABLE if root.is_dir() else root
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), path)
            cases: list[CaseFiles] = []
            faults: list[Finding] = []
            for row in reader:
                try:
                    cases.append(_case(row, path, reader.line_num))
                except PipelineError as error:
                    faults += error.findings
    except FileNotFoundError:
        raise file_fault(
            path, "not there", f"a CSV {','.join(COLUMNS)}", "write one, or correct source.root"
        ) from None
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise file_fault(path, f"no readable CSV ({error})", "", "save it as UTF-8") from error
    return checked(cases, path, "a line per case below the header", faults)


def _check_columns(header: object, path: Path) -> None:
    names = [str(name).strip() for name in header] if isinstance(header, list) else []
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in COLUMNS[:2] if name not in names]
    if unknown or missing:
        apart = any(mark in name for name in names for mark in ";\t")
        raise file_fault(
            path,
            f"the columns {','.join(names) or 'none'}",
            f"{','.join(COLUMNS)}, of which case and image must be there",
            "save it with commas between the values" if apart else "correct the first line",
        )


def _case(row: dict[str, str | None], path: Path, line: int) -> CaseFiles:
    at = f"line {line}"
    if None in row:
        raise file_fault(
            path, f"{at}: more values than columns", "", "quote names that hold commas"
        )
    values = {name.strip(): (value or "").strip() for name, value in row.items()}
    case, role = values["case"], values.get("role", "")
    if not case or not values["image"]:
        raise file_fault(path, f"{at}: case or image is empty", "", "fill in both")
    if not CASE_NAME.fullmatch(case):
        raise _fault(path, "", f"{at}: the name {case!r}", NAME_RULE, "correct it there")
    if role not in ROLES:
        expected = f"{', '.join(ROLES[1:])} or nothing"
        raise _fault(path, case, f"{at}: role {role!r}", expected, "correct it")
    image = _existing(values["image"], path, case, f"{at}: image")
    label = None
    if values.get("label"):
        label = _existing(values["label"], path, case, f"{at}: label")
        if role == "unlabelled":
            remedy = "remove the label, or give another role"
            raise _fault(path, case, f"{at}: role unlabelled with a label", "no label", remedy)
    elif role in NEED_LABEL:
        remedy = "give one, or the role unlabelled"
        raise _fault(path, case, f"{at}: role {role} without label", "a label", remedy)
    else:
        role = "unlabelled"
    return CaseFiles(case, image, label, group=values.get("group", ""), role=role)


def _existing(value: str, table: Path, case: str, where: str) -> Path:
    path = table.parent / Path(value).expanduser()
    if not path.exists():
        remedy = "correct it; paths are relative to the CSV"
        raise _fault(table, case, f"{where} {path} not there", "a file", remedy)
    return path


def _fault(table: Path, case: str, found: str, expected: str, remedy: str) -> PipelineError:
    return PipelineError(Finding(found, expected, remedy, str(table), case))
