"""The page for who is on call: every code has its words, every command that it names exists, and a backup restores."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from docutils import nodes
from flask import Flask

from flask_hubspot_hitl.cli import group
from flask_hubspot_hitl.cli.doctor.findings import Code
from flask_hubspot_hitl.clock import SystemClock

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, state_of
from .story import Story
from .test_docs import ROOT, tree

PAGE = ROOT / "docs" / "oncall.rst"
TEXT = PAGE.read_text(encoding="utf-8")
COMMAND = re.compile(r"flask\s+hubspot-hitl((?:\s+[a-z][a-z-]*|\s+--[a-z-]+|\s+[0-9]+)+)")


def test_each_code_of_doctor_has_a_section_of_its_own() -> None:
    titles = [str(one[0].astext()) for one in tree(PAGE).findall(nodes.section)]
    assert [one for one in titles if one.startswith("HH")] == [f"{one.code}: {one.title.rstrip('.')}" for one in Code]


def commands(text: str) -> Iterator[list[str]]:
    """The commands of ours that a text names in a literal or after a colon, without the group's own name."""
    for found in COMMAND.finditer(text):
        yield found[1].split()


def is_known(words: list[str]) -> bool:
    """Whether a command begins like this; what follows may be the sentence's."""
    command: click.Command = group
    while words and isinstance(command, click.Group):
        inner = command.get_command(click.Context(command), words[0])
        if inner is None:
            return False
        command, words = inner, words[1:]
    options = {name for one in command.params for name in one.opts}
    return all(one in options for one in words if one.startswith("--"))


def test_each_command_that_is_named_exists() -> None:
    texts = [TEXT, *(f"{one.why} {one.fix}" for one in Code)]
    named = [words for text in texts for words in commands(text)]
    assert len(named) > 60
    assert [words for words in named if not is_known(words)] == []


def test_the_logs_fields_are_told() -> None:
    source = (ROOT / "flask_hubspot_hitl" / "dispatch" / "event_log.py").read_text(encoding="utf-8")
    fields = set(re.findall(r'^        "(\w+)": ', source, flags=re.MULTILINE))
    log = TEXT.partition("\nThe log\n")[2].partition("\nWhat was given up\n")[0]
    assert set(re.findall(r"^``(\w+)``  ", log, flags=re.MULTILINE)) == fields


# --- backup and restore ----------------------------------------------------------------------------------


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return [one.astext() for one in tree(PAGE).findall(nodes.literal_block) if language in one["classes"]]


def test_a_backup_is_made_while_the_app_runs_and_restores(
    make_app: MakeApp, hubspot: HubSpot, record: Callable[[Flask], Recorder], tmp_path: Path
) -> None:
    """docs/oncall.rst: the commands as they stand there; what came after the backup is fetched again."""
    backup, restore = blocks("sh")
    clock = SystemClock()
    url = f"sqlite:///{tmp_path}/hitl.sqlite3"
    app = make_app(clock=clock, dispatcher="inline", database_url=url)
    seen = record(app)
    story = Story(app, hubspot, clock, seen)  # type: ignore[arg-type]  # its time is not moved here
    thread = story.start("c1").thread_id
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)

    def run(script: str) -> None:
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        subprocess.run(["sh", "-euc", script], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)

    run(backup)
    story.says(thread, "after the backup")
    assert [one["message"].text for one in seen.of("operator_message")] == ["after the backup"]
    state_of(app).close()
    run(restore)
    assert (tmp_path / "hitl.sqlite3").stat().st_mode & 0o777 == 0o600
    same = app.config["HUBSPOT_HITL_PUBLIC_URL"]
    again = make_app(clock=clock, dispatcher="inline", database_url=url, public_url=same)
    heard = record(again)
    assert again.test_cli_runner().invoke(args=["hubspot-hitl", "reconcile", "--all"]).exit_code == 0
    state_of(again).dispatcher.run_due()
    assert [one["message"].text for one in heard.of("operator_message")] == ["after the backup"]
