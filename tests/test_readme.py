"""The README and the pages that a user reads: their tables are complete, and their snippets run as pasted."""

from __future__ import annotations

import ast
import os
import re
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from configparser import ConfigParser
from dataclasses import MISSING, fields
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import pytest
import requests
from blinker import NamedSignal
from docutils import nodes
from docutils.core import publish_doctree
from docutils.nodes import Node
from flask import Flask
from werkzeug.serving import WSGIRequestHandler, make_server

import flask_hubspot_hitl
from flask_hubspot_hitl import cli, signals
from flask_hubspot_hitl.cli.doctor import Code
from flask_hubspot_hitl.config import Settings
from tests.bench import __main__ as bench
from tests.rig import __main__ as rig
from tests.simulator_helpers import Stand, running, until

ROOT = Path(__file__).parents[1]
NAMES = ["handlers", "verbs", "availability", "signals", "settings", "commands", "connecting", "doctor", "bridges"]
NAMES += ["production", "admin", "security", "people", "testing", "speed"]
"""The pages in the order in which their snippets are run, after the README's."""
FILES = [ROOT / "README.rst", *(ROOT / "docs" / f"{name}.rst" for name in NAMES)]
TEXTS = [path.read_text(encoding="utf-8") for path in FILES]
TEXT = "\n".join(TEXTS)
RULES = (ROOT / "docs" / "rules.rst").read_text(encoding="utf-8")
STRICT = {"report_level": 1, "halt_level": 2, "syntax_highlight": "none", "_disable_config": True}
TREES = [publish_doctree(text, settings_overrides=STRICT) for text in TEXTS]
PHONE = "+34911222333"
DAY_AFTER_TOMORROW = datetime.now(UTC) + timedelta(days=2)


def every(kind: type[Node]) -> Iterator[Any]:
    """The nodes of a kind in all pages, in order."""
    return (node for tree in TREES for node in tree.findall(kind))


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order, without those that are files of their own."""
    found = [one.astext() for one in every(nodes.literal_block) if language in one["classes"]]
    return [one for one in found if not re.match(r"# [\w.]+\.py\n", one)]


def files(name: str) -> list[str]:
    """The code blocks that begin with the name of the file they are."""
    found = [one.astext() for one in every(nodes.literal_block)]
    return [one for one in found if one.startswith(f"# {name}\n")]


def table(first_heading: str) -> list[list[str]]:
    """The rows below the heading of the table whose first heading is given."""
    for found in every(nodes.table):
        rows = [[cell.astext() for cell in row.children] for row in found.findall(nodes.row)]
        if rows[0][0] == first_heading:
            return rows[1:]
    raise AssertionError(f"no table {first_heading}")


def words(text: str) -> str:
    """Text without the differences of Markdown, rst and line ends."""
    return " ".join(text.replace("`", "").split())


def test_it_renders_without_a_warning() -> None:
    messages = [one.astext() for one in every(nodes.system_message)]
    assert not messages
    assert not [one for one in TEXT.splitlines() if len(one) > 120]


def test_the_readme_is_short() -> None:
    assert len(TEXTS[0].splitlines()) <= 350


def test_settings_table_is_complete() -> None:
    rows = {name: (default, unit) for name, default, unit, _ in table("HUBSPOT_HITL_…")}
    specs = {spec.name.upper(): spec for spec in fields(Settings)}
    assert rows.keys() == specs.keys()
    for name, spec in specs.items():
        default, unit = rows[name]
        value = spec.default
        if value is MISSING:
            assert default == "required", name
        elif value is None or value == ():
            assert default == "–", name
        elif isinstance(value, tuple):
            assert default == ",".join(value), name
        else:
            assert default == (f"{value:.0f}" if isinstance(value, float) else str(value)), name
        assert (unit == "seconds") == isinstance(value, float), name
        assert (unit == "bytes") == name.endswith("_BYTES"), name


def documented_signals() -> dict[str, str]:
    """Every signal with the literal below it."""
    body = ast.parse(Path(signals.__file__).read_text(encoding="utf-8")).body
    found = {}
    for line, below in pairwise(body):
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name) and isinstance(below, ast.Expr):
            found[line.targets[0].id] = str(ast.literal_eval(below.value))
    return found


def test_signals_table_is_complete() -> None:
    documented = documented_signals()
    rows = {name: re.split(r",\s+", keywords) for name, keywords, _ in table("Signal")}
    assert rows.keys() == documented.keys()
    assert rows.keys() == {name for name, value in vars(signals).items() if isinstance(value, NamedSignal)}
    for name, keywords in rows.items():
        listed = re.findall(r"``(\w+)``", documented[name].partition("(text")[0])
        assert keywords == [one for one in listed if one.islower()], name


def commands(group: click.Group, before: str = "") -> Iterator[str]:
    """The full names of a group's commands."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{before}{name} ")
        else:
            yield before + name


def test_command_table_is_complete() -> None:
    assert {name for name, _ in table("Command")} == set(commands(cli.group))


def test_the_table_of_findings_is_complete() -> None:
    assert table("Code") == [[one.code, one.level.value, one.title] for one in Code]


def test_the_finding_shown_is_what_doctor_says() -> None:
    [shown] = [one for one in blocks("text") if one.startswith("HH")]
    said = (ROOT / "tests" / "doctor.golden").read_text(encoding="utf-8")
    assert f"\n{shown}\n" in said


def test_the_promise_is_in_the_words_of_the_rules() -> None:
    promise = RULES.partition("E. The promise\n")[2].split("\n\n")[1]
    assert promise.startswith("Accepted is durable")
    assert words(promise) in words(TEXTS[0])


def test_what_is_named_exists() -> None:
    for name in re.findall(r"``HUBSPOT_HITL_([A-Z_]+)``", TEXT):
        assert name.lower() in {spec.name for spec in fields(Settings)}, name
    for name in ("ContactNotFound", "DeliveryFailed", "HistoryEntry", "Contact", "HITLError"):
        assert f"``{name}" in TEXT
        assert hasattr(flask_hubspot_hitl, name)
    for path in re.findall(r"``((?:example_app|flask_hubspot_hitl)/[\w./]*)``", TEXT):
        assert (ROOT / path).exists(), path


def test_the_quickstart_is_short() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 15


def shell_lines() -> Iterable[str]:
    """Every line of every shell block."""
    return (line for block in blocks("shell") for line in block.splitlines() if line.strip())


@pytest.mark.parametrize("line", list(shell_lines()))
def test_shell_lines_name_what_exists(line: str) -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    match shlex.split(line):
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        case ["pip", "install", what] | ["pip", "install", what, "python-dotenv"]:
            name, _, extra = what.rstrip("]").partition("[")
            assert name == setup["metadata"]["name"]
            assert not extra or extra in setup["options.extras_require"]
        case ["flask", "--app", "example_app", "demo", *options]:
            from example_app.demo import demo

            assert set(options) <= {name for option in demo.params for name in option.opts}
        case ["flask", "hubspot-hitl", *rest]:
            known = set(commands(cli.group))
            assert rest[0] in known or " ".join(rest[:2]) in known
        case ["python", "-m", "flask_hubspot_hitl.simulator", "--port", _]:
            pass
        case ["hs" | "cd" | "curl" | "." | "python3", *_] | ["flask", "run", *_]:
            pass  # test_guide.py types them
        case ["python", "-m", "tests.rig", *options]:
            rig.parser().parse_args(options)  # an unknown one would exit
        case ["python", "-m", "tests.bench", *options]:
            bench.parser().parse_args(options)
        case _:
            pytest.fail(f"the test does not know how to check: {line}")


class Quiet(WSGIRequestHandler):
    """Does not log."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@pytest.fixture
def stand() -> Iterator[Stand]:
    with running() as (process, base):
        made = Stand(process, base)
        yield made
        made.http.close()


@pytest.fixture
def business_hours() -> str:
    return "mon-sun 00:00-24:00"


@pytest.fixture
def pasted(
    stand: Stand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, business_hours: str
) -> Iterator[dict[str, Any]]:
    """The python blocks, run one after the other as one module, served where PUBLIC_URL says."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    for name in [name for name in os.environ if "HUBSPOT_HITL_" in name]:
        monkeypatch.delenv(name)
    for name, value in (stand.env | {"HUBSPOT_HITL_PUBLIC_URL": f"http://localhost:{port}"}).items():
        monkeypatch.setenv(f"FLASK_{name}", value)
    monkeypatch.setenv("FLASK_SECRET_KEY", "a key of the app's own")
    always = {"AVAILABILITY": "hours", "BUSINESS_HOURS": business_hours, "BUSINESS_TIME_ZONE": "UTC"}
    for name, value in always.items():
        monkeypatch.setenv(f"FLASK_HUBSPOT_HITL_{name}", value)
    stand.sim("PUT", "target", {"url": f"http://localhost:{port}/hubspot/webhook"})
    printed: list[str] = []
    module: dict[str, Any] = {
        "__name__": "pasted_from_readme",
        "print": lambda *parts: printed.append(" ".join(map(str, parts))),
        "printed": printed,
        "url": f"http://127.0.0.1:{port}",
    }
    server = make_server(
        "127.0.0.1",
        port,
        lambda environ, start: module["app"](environ, start),
        threaded=True,
        request_handler=Quiet,
        fd=listener.fileno(),
    )
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        for number, block in enumerate(blocks("python")):
            exec(compile(block, f"README.rst and docs, python block {number}", "exec"), module)
        yield module
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        listener.close()
        if isinstance(app := module.get("app"), Flask):
            state = app.extensions["hubspot_hitl"]
            state.dispatcher.stop()
            state.ledger.close()


def test_python_snippets_run_as_pasted(pasted: dict[str, Any], stand: Stand) -> None:
    printed: list[str] = pasted["printed"]
    until(lambda: "c-7 The chat with our team is over (user)." in printed)

    def say(text: str) -> requests.Response:
        return stand.http.post(f"{pasted['url']}/chat/c1", data={"text": text, "contact": PHONE}, timeout=30)

    with pasted["app"].app_context():
        see_it_through(pasted, stand)
    assert say("hello").text == "You said: hello"
    assert say("a human, please").text == "I am calling somebody."
    until(lambda: stand.sim("GET", "threads")[-1]["status"] == "OPEN")
    thread = stand.sim("GET", "threads")[-1]["id"]
    stand.act(thread, "assign", actorId="A-987")
    until(lambda: "c1 Noor Haddad joined the chat." in printed)
    assert say("my order?").status_code == 204
    until(lambda: "my order?" in [one.get("text") for one in stand.sim("GET", f"threads/{thread}")["messages"]])
    stand.act(thread, "reply", text="On its way")
    until(lambda: "c1 On its way []" in printed)
    pasted["gone"].add("c1")
    refused = stand.act(thread, "reply", text="Anything else?")["id"]

    def status() -> dict[str, Any]:
        found = stand.sim("GET", f"threads/{thread}")["messages"]
        return next(dict(one["status"]) for one in found if one["id"] == refused)

    until(lambda: status()["statusType"] == "FAILED")
    assert status()["failureDetails"]["errorMessage"] == "The user has left the chat."
    stand.act(thread, "close")
    until(lambda: "c1 The chat with our team is over (agent)." in printed)
    assert say("hello").text == "You said: hello"


def see_it_through(pasted: dict[str, Any], stand: Stand) -> None:
    """Ask, promise, hand over, draft, read and rate, by the functions of "Is anybody there?"."""
    hitl = pasted["hitl"]
    assert pasted["hand_over"]("c-20", PHONE, "Shall I look it up?") == "A colleague will be with you."
    assert hitl.waiting("c-20").ahead == 0
    until(lambda: hitl.get("c-20").thread_id)
    thread = hitl.get("c-20").thread_id

    def shown(text: str) -> dict[str, Any] | None:
        found = stand.sim("GET", f"threads/{thread}")["messages"]
        return next((one for one in found if text in (one.get("text") or "")), None)

    until(lambda: shown("Shall I look it up?"))
    assert shown("Shall I look it up?")["type"] == "COMMENT"  # type: ignore[index]
    said = stand.act(thread, "reply", text="I have looked it up.")["id"]
    until(lambda: "c-20 I have looked it up. []" in pasted["printed"])
    until(lambda: shown("I have looked it up.")["status"]["statusType"] == "SENT")  # type: ignore[index]
    pasted["page_shows"]("c-20", said)
    until(lambda: shown("I have looked it up.")["status"]["statusType"] == "READ")  # type: ignore[index]
    hitl.stop("c-20")
    assert pasted["page_rates"]("c-20", 5, "So quick!") == "Thank you!"
    assert pasted["page_rates"]("c-20", 1, None) == "There is nothing to rate."
    until(lambda: shown("So quick!"))


@pytest.mark.parametrize("business_hours", [f"{DAY_AFTER_TOMORROW:%a} 09:00-10:00".lower()])
def test_what_the_readme_promises_when_nobody_is_there(pasted: dict[str, Any]) -> None:
    block = next(one for one in blocks("python") if "def hand_over" in one)
    assert len([line for line in block.splitlines() if line.strip()]) <= 20
    with pasted["app"].app_context():
        assert pasted["hand_over"]("c-21", PHONE) == f"We are back on {DAY_AFTER_TOMORROW:%A} at 09:00 UTC."
        assert pasted["hitl"].get("c-21") is None


def test_shell_snippets_of_the_command_line_run(pasted: dict[str, Any], tmp_path: Path) -> None:
    runner = pasted["app"].test_cli_runner()
    (tmp_path / "event.json").write_text("[]", encoding="utf-8")
    (tmp_path / "story.jsonl").write_text('{"dir": "webhook-out", "feed": "app", "body": "[]"}', encoding="utf-8")
    done = 0
    for line in shell_lines():
        arguments = shlex.split(line)
        if arguments[:2] == ["flask", "hubspot-hitl"] and arguments[2] not in ("worker", "simulate"):
            result = runner.invoke(args=arguments[1:])
            assert result.exit_code == 0, f"{line}: {result.output}"
            done += 1
    assert done >= 6


def test_the_stand_in_starts_with_the_options_shown() -> None:
    shown = [
        shlex.split(line) for line in shell_lines() if "simulate" in line and "8200" in line and "record" not in line
    ]
    for words in shown:
        options = words[words.index("8200") + 1 :]
        with running(*options) as (process, base):
            assert requests.get(f"{base}/_sim/env", timeout=20).status_code == 200
            values = requests.get(f"{base}/_sim/chaos", timeout=20).json()
        for name in re.findall(r"(\w+)=[0-9]", " ".join(options)):
            assert values[name]
        assert process.returncode == 0
    assert len(shown) == 2


YOUR_APP = """
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL, operator_message

def show(app, message, **extra):
    print(message.text)

def create_app(settings):
    app = Flask("yourapp")
    app.config.from_mapping(settings)
    HubSpotHITL(app)
    operator_message.connect(show, app)
    return app
"""


@pytest.mark.parametrize(
    "conftest",
    [pytest.param(0, id="factory"), pytest.param(1, id="app made at import", marks=pytest.mark.slow)],
)
def test_the_hosts_test_runs_as_pasted(tmp_path: Path, conftest: int) -> None:
    """With a factory, and with the quickstart's own app, which is made when its file is imported."""
    [test] = files("test_bot.py")
    own = files("conftest.py")[conftest]
    quickstart = "\n".join(blocks("python")[:2])
    written = {"yourapp.py": YOUR_APP, "app.py": quickstart, "conftest.py": own, "test_bot.py": test}
    for name, text in written.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    if conftest == 0:
        lines = [line for line in f"{own}\n{test}".splitlines() if line.strip() and not line.startswith("#")]
        assert len(lines) < 15
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if "HUBSPOT_HITL_" not in name}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_fixture_that_closes_each_app_runs_as_pasted(tmp_path: Path) -> None:
    whole = YOUR_APP.replace("    HubSpotHITL(app)", "    hitl.init_app(app)").replace(
        "def show", "hitl = HubSpotHITL()\n\ndef show"
    )
    settings = {"HUBSPOT_HITL_CLIENT_SECRET": "a" * 32, "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.test"}
    settings["HUBSPOT_HITL_DATABASE_URL"] = f"sqlite:///{tmp_path / 'hitl.sqlite3'}"
    whole = whole.replace(
        "    app.config.from_mapping(settings)", f"    app.config.from_mapping(settings, **{settings})"
    )
    test = """
import threading
import pytest
from yourapp import hitl
from flask_hubspot_hitl import LedgerUnavailable

apps = []

@pytest.mark.parametrize("number", range(3))
def test_it(app, number):
    assert app.testing
    for one in apps:
        with one.app_context(), pytest.raises(LedgerUnavailable):
            hitl.get("c1")
    apps.append(app)
    with app.app_context():
        assert hitl.get("c1") is None
    assert threading.active_count() == 1
"""
    for name, text in {"yourapp.py": whole, "conftest.py": files("conftest.py")[2], "test_bot.py": test}.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if "HUBSPOT_HITL_" not in name}
    environment |= {"PYTHONPATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
