"""Builds the site: `make docs`.

The pages are copied as they lie in the repository, so that their links hold in both places, and
the page of commands is written from their own `--help`. Every link, anchor, picture and file that
a page names must be there, and nothing may be loaded from elsewhere; else the last site stays.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[1]
SITE = ROOT / "site"
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "CITATION.cff")
FOLDERS = ("config", "docs")
LOADING = {"script", "link", "img", "iframe", "source", "video", "audio", "embed", "object"}
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
LOADED_BY_STYLE = re.compile(r"""(?:url\(|@import)\s*["']?(?:https?:)?//[^)"']+""")
COMMANDS = """# Commands

*For whoever looks up a command or one of its options.*

What a stage reads, writes and decides stands in [stages](stages.md).

"""


class Page(HTMLParser):
    """What a page of the site links to and loads, and the anchors that it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what one element names."""
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value or "")
            elif name in ("href", "src", "data") and value:
                (self.loads if tag in LOADING else self.links).add(value)


def call(*command: str, folder: Path = ROOT) -> str:
    """What a command prints; its complaint, without its traceback, ends the build."""
    done = subprocess.run(
        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        said = COLOUR.sub("", done.stdout + done.stderr).partition("Traceback")[0]
        sys.exit(
            f"{said.strip()}\nerror: {command[0]} ended with a fault; correct what stands above"
        )
    return done.stdout


def build(work: Path) -> Path:
    """Make the site in a folder of its own, of which a failed build leaves nothing."""
    pages = work / "pages"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, pages / name, ignore=shutil.ignore_patterns("*.py*", "*.toml"))
    for name in FILES:
        shutil.copy(ROOT / name, pages)
    shutil.copy(ROOT / "docs" / "zensical.toml", work)
    text = call("typer", "pipeline.cli", "utils", "docs", "--name", "grcsf")
    commands = COMMANDS + text.partition("## ")[1] + text.partition("\n## ")[2]
    (pages / "docs" / "reference" / "commands.md").write_text(commands, "utf-8")
    call("zensical", "build", "--strict", "--clean", folder=work)
    (work / "site" / "404.html").unlink()  # its addresses are a server's
    return work / "site"


def faults(site: Path) -> Iterator[str]:
    """A line for each link that leads nowhere and each thing that is loaded from elsewhere."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        name = path.relative_to(site)
        for address in page.links | page.loads:
            parts = urlsplit(address)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if parts.scheme or parts.netloc:
                if address in page.loads:
                    yield f"{name} loads {address}"
            elif not target.is_file():
                yield f"{name} names {address}, which is not there"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{name} names {address}, an anchor that is not there"
    for path in site.rglob("*.css"):
        for address in LOADED_BY_STYLE.findall(path.read_text("utf-8")):
            yield f"{path.relative_to(site)} loads {address}"


def main() -> None:
    """Build, check, and only then replace the site of the last call."""
    with tempfile.TemporaryDirectory() as work:
        made = build(Path(work).resolve())
        if found := sorted(faults(made)):
            sys.exit("\n".join([*found, "error: correct the pages that name these"]))
        shutil.rmtree(SITE, ignore_errors=True)
        shutil.copytree(made, SITE)
    print(f"site: {SITE / 'index.html'}")


if __name__ == "__main__":
    main()
