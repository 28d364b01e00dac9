"""Any data set, listed in a CSV: `case,image,label,group,role`."""

from __future__ import annotations

import csv
from pathlib import Path

from pipeline.datasets.cases import ROLES, CaseFiles, checked
from pipeline.errors import PipelineError

COLUMNS = ("case", "image", "label", "group", "role")
NEED_LABEL = ("train", "validation", "test")


def list_cases(root: Path, table: str = "manifest.csv") -> list[CaseFiles]:
    """One case per line of the CSV; paths in it are relative to the CSV's own folder.

    Args:
        root: the CSV, or the folder that holds it.
        table: name of the CSV in that folder.

    Raises:
        PipelineError: no such CSV, a missing or unknown column, no case, a case twice, a file
            that is not there, an unknown role, or a role that needs a label without one.
    """
    path = root / table if root.is_dir() else root
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            _check_columns(reader.fieldnames or (), path)
            cases = [_case(row, path, reader.line_num) for row in reader]
    except FileNotFoundError:
        raise PipelineError(f"{path}: not there; expected a CSV {','.join(COLUMNS)}") from None
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise PipelineError(f"{path}: no readable CSV ({error}); save it as UTF-8") from error
    return checked(cases, path, "a line per case below the header")


def _check_columns(found: object, path: Path) -> None:
    names = [str(name).strip() for name in found] if isinstance(found, list) else []
    unknown = [name for name in names if name not in COLUMNS]
    missing = [name for name in COLUMNS[:2] if name not in names]
    if unknown or missing:
        raise PipelineError(
            f"{path}: found the columns {','.join(names) or 'none'}; expected "
            f"{','.join(COLUMNS)}, of which case and image must be there"
        )


def _case(row: dict[str, str | None], path: Path, line: int) -> CaseFiles:
    where = f"{path} line {line}"
    if None in row:
        raise PipelineError(f"{where}: more values than columns; quote names that hold commas")
    values = {name.strip(): (value or "").strip() for name, value in row.items()}
    case, role = values["case"], values.get("role", "")
    if not case or not values["image"]:
        raise PipelineError(f"{where}: case or image is empty; fill in both")
    if role not in ROLES:
        raise PipelineError(
            f"{where}: case {case}: found role {role!r}, expected {', '.join(ROLES[1:])} or nothing"
        )
    image = _existing(values["image"], path, f"{where}: case {case}: image")
    label = None
    if values.get("label"):
        label = _existing(values["label"], path, f"{where}: case {case}: label")
    elif role in NEED_LABEL:
        raise PipelineError(
            f"{where}: case {case}: role {role} needs a label; give one, or the role unlabelled"
        )
    else:
        role = "unlabelled"
    return CaseFiles(case, image, label, group=values.get("group", ""), role=role)


def _existing(value: str, table: Path, where: str) -> Path:
    path = table.parent / Path(value).expanduser()
    if not path.exists():
        raise PipelineError(f"{where} {path} not there; paths are relative to the CSV")
    return path
