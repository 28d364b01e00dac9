"""How far a command is: lines on stdout always, a bar on stderr where somebody sees it."""

import io
import logging
import sys

import pytest

from pipeline.cli.progress import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def told(monkeypatch, stderr):
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress(2) as tell:
        tell("first: 1 ml")
        tell("")
    return stderr.getvalue()


def test_without_a_terminal_there_are_lines_alone(monkeypatch, capsys):
    assert told(monkeypatch, io.StringIO()) == ""
    assert capsys.readouterr().out == "first: 1 ml\n"


@pytest.mark.parametrize("no_color", [True, False])
def test_on_a_terminal_a_bar_counts_and_has_colours_unless_they_are_unwanted(
    monkeypatch, capsys, no_color
):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    shown = told(monkeypatch, Terminal())
    assert "2/2" in shown
    assert "left" in shown
    assert ("\x1b[38" in shown) is not no_color
    assert capsys.readouterr().out == "first: 1 ml\n"


def test_a_line_on_the_same_terminal_leaves_the_bar_whole(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    shown = told(monkeypatch, terminal)
    assert "first: 1 ml\n" in shown
    assert "passedfirst" not in shown.replace("\x1b[0m", "")


def test_the_log_is_written_above_the_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    handler = logging.StreamHandler(terminal)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with progress(1) as tell:
        assert handler.stream is not terminal
        logging.getLogger().error("a line")
        tell("")
    assert handler.stream is terminal
    assert "a line\n" in terminal.getvalue()
