"""What all commands have in common: version, how much is told, bars on a terminal alone."""

import io
import logging
import sys
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline import cli
from pipeline.cli import terminal
from pipeline.cli.predict import _teller as teller

ROOT = Path(__file__).parents[3]
log = logging.getLogger("pipeline.stage")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """Logging as every other test expects it."""
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, logging.getLogger("pipeline").level
    monkeypatch.setenv("COLUMNS", "80")
    # rich keeps a style's codes as the first terminal had them: the same one in all tests
    monkeypatch.setenv("TERM", "xterm-256color")
    yield
    terminal.close_bar()
    terminal.choose_level(quiet=False, verbose=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("pipeline").setLevel(own)


@pytest.fixture
def told(monkeypatch):
    """told(stream, …): what a stage of three cases writes to stderr."""

    def tell(stream, *, quiet=False, verbose=False):
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.choose_level(quiet=quiet, verbose=verbose)
        for done in (1, 2, 3):
            log.debug("case %d", done, extra={"done": done, "of": 3})
        log.info("3 cases")
        log.warning("look")
        return stream.getvalue()

    return tell


def test_version_is_that_of_the_package():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    said = CliRunner().invoke(cli.app, ["--version"])
    assert (said.exit_code, said.output) == (0, f"grcsf {version}\n")


def test_a_log_holds_lines_and_no_bar(told):
    lines = told(io.StringIO()).splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["3 cases", "look"]


def test_a_terminal_has_a_bar_that_goes_when_all_is_done(told):
    said = told(Terminal())
    assert "3/3" in said
    assert said.endswith("look\n")
    assert "case 3" in said
    assert "/100" not in said


def test_quiet_tells_warnings_alone_and_draws_nothing(told):
    assert told(Terminal(), quiet=True).splitlines()[0].endswith(" look")


def test_a_terminal_that_moves_no_cursor_has_lines_alone(told, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    lines = told(Terminal()).splitlines()
    assert [line.partition(" ")[2] for line in lines] == ["3 cases", "look"]


def test_verbose_tells_details(told):
    lines = told(io.StringIO(), verbose=True).splitlines()
    assert lines[0].endswith(" case 1")
    assert len(lines) == 5


def test_no_color_is_honoured(told, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[3" in told(Terminal()) or "\x1b[9" in told(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    said = told(Terminal())
    assert "3/3" in said
    assert "\x1b[3" not in said
    assert "\x1b[9" not in said


def test_what_is_printed_stands_clear_of_the_bar(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.choose_level(quiet=False, verbose=False)
    log.debug("a", extra={"done": 1, "of": 3})
    with terminal.beside_bar():
        hidden = stream.getvalue()
    assert hidden.endswith("\x1b[2K"), "the bar's line is cleared"
    assert "a" in stream.getvalue()[len(hidden) :], "and drawn again"


def test_no_line_of_predicted_images_is_empty(monkeypatch, capsys):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    terminal.choose_level(quiet=False, verbose=True)
    tell = teller(2)
    tell("scan: 1 ml, 1 lesion")
    tell("")
    lines = [line.partition(" ")[2] for line in stream.getvalue().splitlines()]
    assert lines == ["scan", "an image that could not be used"]
    assert capsys.readouterr().out == "scan: 1 ml, 1 lesion\n"


def test_both_at_once_are_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["grcsf", "--quiet", "--verbose", "split"])
    with pytest.raises(SystemExit, match="--quiet and --verbose: found both, expected one"):
        cli.main()


def test_a_shell_completes_commands(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["grcsf"])
    words = {"COMP_WORDS": "grcsf resid", "COMP_CWORD": "1"}
    completed = CliRunner().invoke(
        cli.app, prog_name="grcsf", env={"_GRCSF_COMPLETE": "complete_bash", **words}
    )
    assert completed.output.split() == ["residual-maps"]
