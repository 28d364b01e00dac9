"""HTML from the templates beside this module; a page embeds everything that it shows."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape


def rendered(template: str, content: Mapping[str, Any]) -> str:
    """A template with its content; text is escaped, and a name that is not given is an error."""
    return _environment().get_template(template).render(content)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["emphasis"] = emphasis
    return environment


def emphasis(text: str) -> Markup:
    r"""The comparison's Markdown as HTML: `**best**`, `<u>second</u>`, `\*`, small intervals."""
    marked = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", str(escape(text)))
    marked = re.sub(r"&lt;u&gt;([\d.]+)&lt;/u&gt;", r"<u>\1</u>", marked)
    marked = re.sub(r"(?<=[\d>*] )(\[[^\]]+, [^\]]+\])$", r"<small>\1</small>", marked)
    return Markup(marked.replace("\\*", "*"))


def embedded(picture: bytes) -> str:
    """A picture as base64, for a `data:` address."""
    return base64.b64encode(picture).decode("ascii")
