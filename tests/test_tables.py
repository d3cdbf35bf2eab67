"""What commands print for people: tables as wide as the terminal, words whole, and the same when nobody looks."""

from __future__ import annotations

import ast
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from flask_hubspot_hitl.cli import tables
from flask_hubspot_hitl.handoffs import words

HEADERS = ("Event", "Received (UTC)", "Error")
WORDS = "reading a channel account: HubSpot answered 503 INTERNAL_ERROR and wants to be asked again much later"
ROWS = [(7, "2026-11-29 23:52:07", WORDS), (123456, None, "[bold]no markup[/bold] in 名前")]
CODE = f"""
from flask_hubspot_hitl.cli import tables
print("\\n".join(tables.table({HEADERS!r}, {ROWS!r}, wraps=("Error",))))
print(tables.fitted("Why: " + {WORDS!r}, indent=5))
"""


def at_a_terminal(columns: int, code: str = CODE, **env: str) -> str:
    """What is printed there."""
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm-256color", **env}
    process = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    said = b""
    while True:
        try:
            part = os.read(master, 65_536)
        except OSError:  # Linux says so that the other side is closed
            break
        if not part:
            break
        said += part
    assert process.wait(60) == 0
    os.close(master)
    return said.decode().replace("\r\n", "\n")


def test_what_is_piped_is_as_wide_as_it_is_and_plain() -> None:
    assert tables.table(HEADERS, ROWS, wraps=("Error",)) == [
        "Event   Received (UTC)       Error",
        f"7       2026-11-29 23:52:07  {WORDS}",
        "123456  –                    [bold]no markup[/bold] in 名前",
    ]


@pytest.mark.parametrize("columns", [120, 80, 60, 40])
def test_a_terminal_breaks_between_words(columns: int) -> None:
    lines = at_a_terminal(columns, NO_COLOR="1").splitlines()
    plain = [line.replace("\x1b[1m", "").replace("\x1b[0m", "") for line in lines]
    assert all(len(line.rstrip()) <= columns for line in plain), plain
    printed = " ".join(" ".join(plain).split())
    for word in WORDS.split():
        assert printed.count(word) >= 2, f"{word} is broken"
    assert "2026-11-29 23:52:07" in printed
    assert any("Received (UTC)" in line for line in plain)


def test_a_terminal_has_bold_headers() -> None:
    assert "\x1b[1m" in at_a_terminal(120)


def test_a_time_is_written_in_one_way() -> None:
    there = datetime(2026, 11, 30, 1, 52, 7, tzinfo=timezone(timedelta(hours=2)))
    assert words.date(there) == words.date(int(there.timestamp() * 1000)) == "2026-11-29 23:52:07"
    assert words.date(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02 00:00:00"
    assert words.date(None) is None


def test_a_number_has_its_noun() -> None:
    assert [words.count(one, "error") for one in (0, 1, 2)] == ["0 errors", "1 error", "2 errors"]
    assert words.count(2, "process", "es") == "2 processes"
    assert [words.span(one) for one in (7, 119, 120, 7200, 200_000)] == ["7 s", "119 s", "2 min", "2 h", "2 d"]


def test_the_bar_of_setup_moves_with_what_is_done() -> None:
    code = """if True:
        from flask_hubspot_hitl.cli.setup import _Bar
        bar = _Bar(hidden=False)
        bar.on_plan(4)
        bar.on_wait(2.0)
        bar.on_done()
        bar.on_wait(61.0)
        bar.close()
    """
    said = at_a_terminal(100, code)
    first, second = said.partition("2 s")[0], said.rpartition("2 s")[2]
    assert "Waiting until HubSpot shows the channel" in first
    assert "0/4" in first
    assert "1/4" in second
    assert "61 s" in second


OURS = re.compile(r"\(s\)|\b(lanes?|leased?|leases|parked|fed|quarantined|payload)\b")
"""Words of the code, and a plural that nobody has decided on."""


def printed(path: Path) -> Iterator[str]:
    """The texts of a module that may come before somebody's eyes: literals of several words, and commands' help."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {id(one.value) for one in ast.walk(module) if isinstance(one, ast.Expr)}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and any("command" in ast.dump(mark) for mark in node.decorator_list):
            hidden -= {id(first.value) for first in node.body[:1] if isinstance(first, ast.Expr)}
    for node in ast.walk(module):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and " " in node.value
            and id(node) not in hidden
        ):
            yield node.value


def test_commands_print_no_words_of_the_code() -> None:
    paths = sorted(Path(tables.__file__).parent.rglob("*.py"))
    texts = [text for path in paths for text in printed(path)]
    assert len(texts) > 300
    assert [text for text in texts if OURS.search(text)] == []
