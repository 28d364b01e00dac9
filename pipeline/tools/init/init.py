"""`grcsf init`: looks at a folder, and writes a configuration that runs as it is."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from pipeline.datasets.configured import planned_cases
from pipeline.errors import PipelineError, file_fault
from pipeline.planning.preflight import check_split, check_units
from pipeline.settings.paths import file_refusal
from pipeline.settings.reading import load_settings
from pipeline.settings.section import CONTROL
from pipeline.storage.files import replacing
from pipeline.tools.init.proposal import (
    EXPERIMENTS,
    WITH_MAPS,
    Proposals,
    calcium,
    dataset_name,
    free_slices,
    proposals,
)
from pipeline.tools.init.survey import Survey

TEMPLATE = Path(__file__).parent / "configuration.yaml.j2"
LINE = 100
WHY = "\x1f"  # stands in a line before what is to become the comment above it
OPTIONS = ("modality", "binarise", "foreground", "channel", "tilted", "on_error")
NO_FREE_SLICES = (
    "no slice without lesion was seen, from which an MAE could learn: experiments with residual "
    "maps are left out; give scans without lesion (source.healthy) to have them"
)
ONE_MODALITY = "expected one, which all are read as: list the others apart, or set source.modality"


def check_asked(root: Path, output: Path, experiments: Sequence[str], *, force: bool) -> None:
    """Refuse what no configuration can be written for, or to, before any image is read.

    Raises:
        PipelineError: an existing file without `force`, an unknown experiment, none, or a path that
            a configuration would take for another.
    """
    # no `force` may remove a folder with all that is in it, or a device
    if (refusal := file_refusal(output)).startswith("found "):
        raise PipelineError(f"--output: {output}: {refusal}; choose another --output")
    if output.exists() and not force:
        remedy = "choose another --output, or --force to write over it"
        raise file_fault(output, "is there already", "a new file", remedy)
    if unknown := [name for name in experiments or [""] if name not in EXPERIMENTS]:
        expected = f"expected some of {', '.join(EXPERIMENTS)}"
        raise PipelineError(f"--experiments: found {unknown[0]!r}, {expected}")
    absolute = str(root.absolute())
    # $ begins a variable there, and Snakemake takes braces for wildcards; names may be no text
    if set("${}") & set(absolute) or CONTROL.search(absolute) or not _is_text(absolute):
        found, remedy = "a path that no configuration can hold", "rename it, or give a link to it"
        raise file_fault(
            Path(ascii(absolute)), found, "text without $, braces or line breaks", remedy
        )


def _is_text(path: str) -> bool:
    return path.encode(errors="replace").decode() == path


def init(found: Survey, output: Path, experiments: Sequence[str]) -> list[str]:
    """Write the configuration of a surveyed folder; return what a person should know.

    It is read and checked before it takes its place.

    Raises:
        PipelineError: a split that so few cases do not allow, or labels that no setting reads.
    """
    notes = [str(fault) for fault in found.faults]
    kinds = Counter(each.modality for each in found.sample).most_common()
    if len(kinds) > 1:
        seen = ", ".join(f"{kind} in {count}" for kind, count in kinds)
        notes.append(f"{found.root}: images of several modalities ({seen}); {ONE_MODALITY}")
    chosen = list(dict.fromkeys(experiments))
    if free_slices(found) == 0 and set(chosen) & set(WITH_MAPS):
        notes.append(NO_FREE_SLICES)
        chosen = [name for name in chosen if name not in WITH_MAPS] or ["unetpp"]
    text = configuration(found, chosen, proposals(found))
    with replacing(output) as temporary:
        # a comment may name a file whose name holds bytes that are no text
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        settings = load_settings(temporary)
        ((name, dataset),) = settings.datasets.items()
        cases = planned_cases(settings, name)  # as these settings list them
        check_split(dataset, cases, settings.seed)
        check_units(dataset, cases)
    return notes


def configuration(found: Survey, experiments: Sequence[str], proposed: Proposals) -> str:
    """The text of the configuration, each proposed value below what led to it."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))

    def said(name: str) -> str:
        one = proposed[name]
        return f"{one.key}: {one.value}{WHY}{' '.join(one.why.split())}"

    filled = template.render(
        said=said,
        root=json.dumps(str(found.root.absolute()), ensure_ascii=False),
        cases=f"{len(found.cases)} cases",
        sampled=len(found.sample) + len({fault.case for fault in found.faults}),
        gpus={"value": proposed["gpus"].value != "0"},
        name=_key(dataset_name(found)),
        options=[option for option in OPTIONS if option in proposed],
        roles=any(case.role for case in found.labelled),
        maes=_maes(experiments, proposed),
        experiments=experiments,
        calcium=calcium(found),
    )
    return "".join(f"{line}\n" for row in filled.splitlines() for line in _commented(row))


def _key(name: str) -> str:
    """A name as YAML reads it back as text: `2024-01-15` would be a date, and `12` a number."""
    return name if yaml.safe_load(name) == name else json.dumps(name)


def _maes(experiments: Sequence[str], proposed: Proposals) -> list[dict[str, Any]]:
    """One MAE for each ratio, or one for both; none where nothing needs residual maps."""
    if not set(experiments) & set(WITH_MAPS):
        return []
    if "," in proposed["ratios"].value:
        return [{"name": "shared"}]
    return [{"name": "mae50", "ratio": 0.5}, {"name": "mae75", "ratio": 0.75}]


def _commented(row: str) -> list[str]:
    """A row of the template, with what led to its value above it."""
    text, _, why = row.partition(WHY)
    if not why:
        return [row]
    indent = " " * (len(text) - len(text.lstrip()))
    begin = f"{indent}# "
    wrapper = textwrap.TextWrapper(LINE, initial_indent=begin, subsequent_indent=begin)
    wrapper.break_long_words = wrapper.break_on_hyphens = False  # paths and names
    return [*wrapper.wrap(why), text]
