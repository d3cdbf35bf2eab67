"""The how-to pages: each one's code is an app, which is served, and talks to the stand-in for HubSpot."""

from __future__ import annotations

import ast
import configparser
import contextlib
import importlib
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
import requests
import socketio
import trustme
import yaml
from celery.contrib.testing.worker import start_worker
from docutils import nodes
from docutils.core import publish_doctree
from flask import Blueprint, Flask, request
from flask_login import login_user
from flask_wtf.csrf import generate_csrf
from sqlalchemy.engine import make_url

from flask_hubspot_hitl import Handoff, Message, operator_message
from flask_hubspot_hitl.botpress import texts
from flask_hubspot_hitl.config import PREFIX, Settings
from flask_hubspot_hitl.testing import Agent, User, wait_until
from flask_hubspot_hitl.testing.fixtures import AppFactory, AssertNothingLost
from flask_hubspot_hitl.testing.serving import Server

from .browser import Browser as Admin
from .browser_helpers import expect
from .helpers import APP, PATIENCE, PORTAL, HubSpot, own_port
from .processes import need
from .story import PHONE
from .test_adoption import nginx

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = Path(__file__).parents[1] / "docs"
STRICT = {"report_level": 2, "syntax_highlight": "none", "_disable_config": True}


def blocks(page: str) -> list[tuple[str, str]]:
    """A page's blocks of code, as pairs of language and text."""
    tree = publish_doctree((DOCS / f"{page}.rst").read_text(encoding="utf-8"), settings_overrides=STRICT)
    return [(one["classes"][1], one.astext()) for one in tree.findall(nodes.literal_block) if one["classes"][1:]]


def files(page: str) -> dict[str, str]:
    """The blocks that begin with the name of the file they are."""
    found = {}
    for _, text in blocks(page):
        first, _, rest = text.partition("\n")
        if first.startswith("# ") and " " not in first[2:]:
            found[first[2:]] = rest
    return found


Save = Callable[[str], None]


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Save]:
    """Writes a page's files into a folder of their own, where they can be imported from."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)

    def write(page: str) -> None:
        for name, text in files(page).items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        importlib.invalidate_caches()

    yield write
    for name in [one for one in sys.modules if one not in before]:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


REACH = "howto-reach"


# --- howto-factory ---------------------------------------------------------------------------------------


class Person(User):
    """Somebody who has logged in."""

    def joins(self) -> None:
        """Log in, by a route of the test's."""
        assert self.post(f"/join/{self.conversation_id}", data={"phone": self.phone}).status_code == 200

    def writes(self, text: str) -> None:
        """Write into the chat, with the page's token."""
        headers = {"X-CSRFToken": self.get("/token").text}
        assert self.post("/chat", data={"text": text}, headers=headers).status_code == 204

    def reads(self) -> list[list[str]]:
        """What the chat shows."""
        found: list[list[str]] = self.get("/chat").json()
        return found


def auth(bot: ModuleType) -> Blueprint:
    """What the page leaves out: how somebody logs in."""
    found = Blueprint("auth", __name__)

    @found.post("/join/<name>")
    @bot.extensions.csrf.exempt  # type: ignore[untyped-decorator]
    def join(name: str) -> str:
        person = bot.models.Person(id=name, phone=request.form["phone"])
        bot.extensions.db.session.add(person)
        bot.extensions.db.session.commit()
        login_user(person)
        return name

    found.add_url_rule("/token", view_func=generate_csrf)
    return found


@pytest.fixture
def user_class() -> type[User]:
    return Person


@pytest.fixture
def hitl_app_factory(save: Save, tmp_path: Path) -> AppFactory:
    def create(settings: dict[str, str]) -> Flask:
        for page in ("howto-factory", REACH):
            save(page)
        bot = importlib.import_module("bot")
        own = {"SECRET_KEY": "a key", "SQLALCHEMY_DATABASE_URI": f"sqlite:///{tmp_path / 'bot.sqlite3'}"}
        app: Flask = bot.create_app(settings | own)
        app.register_blueprint(auth(bot))
        add_the_ways(app)
        return app

    return create


def test_a_factory_with_log_in_csrf_and_a_database(
    user: Person, agent: Agent, hitl_app: Flask, assert_nothing_lost: AssertNothingLost
) -> None:
    assert user.get("/chat").status_code == 401
    user.joins()
    failed = fails_once(hitl_app)
    assert user.post("/chat", data={"text": "hello"}).status_code == 400, "no CSRF token"
    user.writes("hello")
    user.writes("a human, please")
    agent.assign()
    user.writes("my order?")
    agent.sees("my order?")
    agent.reply("On its way")
    agent.close()
    assert_nothing_lost()
    told = [
        ["user", "hello"],
        ["bot", "You said: hello"],
        ["user", "a human, please"],
        ["bot", "I am calling somebody."],
    ]
    assert user.reads()[:4] == told
    assert [text for author, text in user.reads()[4:] if author != "user"] == [
        "Noor Haddad is here.",
        "On its way",
        "The chat with our team is over.",
    ]
    assert failed == ["On its way", "On its way"]
    again_adds_nothing(hitl_app, user)


def fails_once(app: Flask) -> list[str]:
    """A handler that writes, and raises the first time: what it has been called with."""
    bot: Any = sys.modules["bot"]
    called: list[str] = []

    @operator_message.connect_via(app, weak=False)
    def fail(sender: Flask, handoff: Handoff, message: Message, **extra: object) -> None:
        called.append(message.text)
        line = bot.models.Line(conversation_id=handoff.conversation_id, author="nobody", text="Not committed")
        bot.extensions.db.session.add(line)
        bot.extensions.db.session.flush()
        if len(called) == 1:
            raise RuntimeError("the first time")

    return called


def again_adds_nothing(app: Flask, user: Person) -> None:
    """A handler that runs once more finds its line."""
    bot: Any = sys.modules["bot"]
    before = user.reads()
    with app.app_context():
        hitl = bot.extensions.hitl
        [message] = [one for one in hitl.transcript(user.conversation_id) if one.text == "On its way"]
        handoff = type("Handoff", (), {"conversation_id": user.conversation_id})
        bot.handlers.message(app, handoff=handoff, message=message)
    assert user.reads() == before


# --- howto-deploy ----------------------------------------------------------------------------------------

DEPLOY = "howto-deploy"
SERVERS = [
    line for kind, text in blocks(DEPLOY) if kind == "shell" for line in text.splitlines() if "flask" not in line
]


def environment(settings: dict[str, str], folder: Path) -> dict[str, str]:
    """An environment with an app's settings, and nothing of this machine's."""
    clean = {name: value for name, value in os.environ.items() if "HUBSPOT_HITL_" not in name}
    own = {f"FLASK_{name}": value for name, value in settings.items()}
    own |= {"FLASK_SECRET_KEY": "a key", "FLASK_SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'bot.sqlite3'}"}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return clean | own | {"PATH": path, "PYTHONPATH": str(folder), "HOME": str(folder), "NO_PROXY": "127.0.0.1"}


@pytest.mark.parametrize(
    "line",
    [SERVERS[0], *(pytest.param(line, marks=pytest.mark.slow) for line in SERVERS[1:])],
    ids=[line.partition(" ")[0] for line in SERVERS],
)
def test_each_server_s_line_serves(save: Save, hitl_settings: dict[str, str], tmp_path: Path, line: str) -> None:
    need(line.partition(" ")[0].replace("uwsgi", "pyuwsgi"))
    save("howto-factory")
    port = str(own_port())
    with (tmp_path / "said").open("wb") as said:
        server = subprocess.Popen(
            shlex.split(line.replace("8000", port)),
            cwd=tmp_path,
            env=environment(hitl_settings, tmp_path),
            stdout=said,
            stderr=said,
            start_new_session=True,
        )

    def serves() -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(f"http://127.0.0.1:{port}/hubspot/healthz", timeout=20).text == '{"status":"ok"}\n'
        assert server.poll() is None, (tmp_path / "said").read_text()
        return False

    try:
        wait_until(serves, f"{line} to serve")
    finally:
        server.terminate()  # its master alone, see the page
        try:
            server.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)
            server.wait(60)


def test_nginx_takes_its_file(tmp_path: Path) -> None:
    text = files(DEPLOY)["/etc/nginx/conf.d/bot.conf"]
    made = trustme.CA().issue_cert("www.example.com")
    made.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "bot.pem"))
    text = re.sub(r"/etc/ssl/bot\.(pem|key)", str(tmp_path / "bot.pem"), text).replace("443", str(own_port()))
    (tmp_path / "nginx.conf").write_text(f"pid nginx.pid; error_log stderr; events {{}} http {{ {text} }}")
    (tmp_path / "logs").mkdir()
    command = [nginx(), "-p", str(tmp_path), "-c", "nginx.conf", "-t"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(re.findall(r"client_max_body_size (\d+)m", text)[0]) << 20 > Settings.max_body_bytes


@pytest.mark.parametrize("name", ["bot-web.service", "bot-worker.service"])
def test_systemd_takes_its_files(tmp_path: Path, name: str) -> None:
    text = files(DEPLOY)[name]
    for program in ("gunicorn", "flask"):
        path = tmp_path / ".venv" / "bin" / program
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    unit = tmp_path / name
    unit.write_text(text.replace("/srv/bot", str(tmp_path)))
    parsed = configparser.ConfigParser(interpolation=None)
    parsed.optionxform = str  # type: ignore[method-assign, assignment]
    parsed.read(unit)
    assert set(parsed.sections()) == {"Unit", "Service", "Install"}
    known = {name for kind, block in blocks(DEPLOY) if kind == "shell" for name in block.splitlines()}
    assert parsed["Service"]["ExecStart"].removeprefix(f"{tmp_path}/.venv/bin/") in known
    if shutil.which("systemd-analyze"):
        command = ["systemd-analyze", "verify", "--man=no", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert name not in done.stderr, done.stderr


def test_compose_gives_the_app_what_it_needs() -> None:
    compose = yaml.safe_load(files(DEPLOY)["compose.yaml"])
    given = {"CLIENT_ID": "c", "CLIENT_SECRET": "s" * 32, "APP_ID": "3131", "DEVELOPER_API_KEY": "k"}
    given |= {"DB_PASSWORD": "p", "SECRET_KEY": "x"}
    services = compose["services"]
    for service in (services["web"], services["worker"]):
        values = {
            name.removeprefix("FLASK_"): re.sub(r"\$\{(\w+):\?\}", lambda found: given[found[1]], value)
            for name, value in service["environment"].items()
        }
        settings = Settings.from_config(values)
        assert settings.dispatcher == "external"
        assert str(settings.database_url) == "postgresql://bot:p@db/bot"
        assert make_url(values["SQLALCHEMY_DATABASE_URI"]).host in services
        assert service["depends_on"]["db"]["condition"] == "service_healthy"
    lines = {line for kind, text in blocks(DEPLOY) if kind == "shell" for line in text.splitlines()}
    commands = [services[name]["command"].replace("0.0.0.0", "127.0.0.1") for name in ("web", "worker")]
    assert set(commands) <= lines
    ast.parse(services["web"]["healthcheck"]["test"][3])
    dockerfile = files(DEPLOY)["Dockerfile"].splitlines()
    assert {line.split()[0] for line in dockerfile} == {"FROM", "WORKDIR", "COPY", "RUN", "USER"}


@pytest.fixture
def root_log() -> Iterator[None]:
    """Celery's worker takes the root logger for itself, with a level of its own: give it back."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.setLevel(level)
    root.handlers[:] = [one for one in root.handlers if one in handlers]


@pytest.mark.filterwarnings("default")  # Celery's own
@pytest.mark.usefixtures("root_log")
def test_celery_sends_and_receives(
    save: Save, user: Person, agent: Agent, hitl_app: Flask, capsys: pytest.CaptureFixture[str]
) -> None:
    save(DEPLOY)
    tasks = importlib.import_module("bot.tasks")
    hitl_app.config["CELERY_BROKER"] = "memory://"
    tasks.init_app(hitl_app)
    user.calls_a_human()
    celery = hitl_app.extensions["celery"]
    with start_worker(celery, perform_ping_check=False, pool="solo", shutdown_timeout=PATIENCE):
        for _ in range(2):
            tasks.send.delay(user.conversation_id, "From a task", "line-1")
        agent.sees("From a task")
        agent.reply("To a task")
        printed: list[str] = []

        def is_pushed() -> bool:
            printed.append(capsys.readouterr().out)
            return f"{user.conversation_id} To a task\n" in "".join(printed)

        wait_until(is_pushed, "the task to run")
    with hitl_app.app_context():
        sent = [one.text for one in sys.modules["bot"].extensions.hitl.transcript(user.conversation_id)]
    assert sent.count("From a task") == 1


# --- howto-reach -----------------------------------------------------------------------------------------

IO = "const heard = {}; const io = () => ({ on: (name, call) => { heard[name] = call } });"
"""Stands in for the script socket.io.js, which comes from its own project."""
PAGE = """<!doctype html><ul id="lines"></ul><script>{io}{script}</script>"""


def add_the_ways(app: Flask) -> None:
    """What the page adds to the app, and a page with its scripts."""
    app.register_blueprint(importlib.import_module("bot.lines").bp)
    importlib.import_module("bot.sockets").init_app(app)
    script = "\n".join(text for kind, text in blocks(REACH) if kind == "javascript")
    page = PAGE.format(io=IO, script=script)
    app.add_url_rule("/", "page", lambda: page)


def begin(user: Person, agent: Agent) -> None:
    user.joins()
    user.calls_a_human()
    agent.assign()
    agent.reply("On its way")
    user.sees("On its way")


def test_the_page_polls_and_streams(user: Person, agent: Agent, hitl_server: Server, chromium: Browser) -> None:
    begin(user, agent)
    context = chromium.new_context()
    try:
        context.add_cookies([{"name": "session", "value": user.cookies["session"], "url": hitl_server.url}])
        page = context.new_page()
        page.goto(f"{hitl_server.url}/")
        items = page.locator("#lines li")
        page.evaluate("poll()")
        expect(items.last).to_have_text("agent: On its way")
        page.evaluate("stream()")
        agent.reply("It is there")
        expect(items.last).to_have_text("agent: It is there")
        agent.reply("Is it well?")
        user.sees("Is it well?")
        page.evaluate("heard.lines()")
        expect(items.last).to_have_text("agent: Is it well?")
        expect(items).to_have_count(4)
    finally:
        context.close()


@pytest.mark.filterwarnings("default")  # of the client
def test_socket_io_says_that_there_is_something(user: Person, agent: Agent, hitl_server: Server) -> None:
    begin(user, agent)
    stranger, client = socketio.Client(), socketio.Client()
    rung = threading.Event()
    client.on("lines", rung.set)
    with pytest.raises(socketio.exceptions.ConnectionError):
        stranger.connect(hitl_server.url, transports=["polling"])
    headers = {"Cookie": f"session={user.cookies['session']}"}
    client.connect(hitl_server.url, headers=headers, transports=["polling"])
    try:
        agent.reply("It is there")
        assert rung.wait(PATIENCE)
        newest = user.get("/lines?after=1").json()[-1]
        assert (newest["author"], newest["text"]) == ("agent", "It is there")
    finally:
        client.disconnect()


# --- howto-portals ---------------------------------------------------------------------------------------


def test_two_customers_have_portals_of_their_own(
    save: Save, hitl_settings: dict[str, str], hitl_server: Server, hitl_hubspot: HubSpot, tmp_path: Path
) -> None:
    """Everything by the page's commands; the person with the browser is ``tests/browser.py``."""
    save("howto-portals")
    portals = importlib.import_module("portals")
    own = ("PORTAL_ID", "INBOX_ID", "CHANNEL_ID", "CHANNEL_ACCOUNT_ID", "REFRESH_TOKEN", "ACCESS_TOKEN")
    settings = {name: text for name, text in hitl_settings.items() if name.removeprefix(PREFIX) not in own}
    app = portals.create_app(settings | {"SECRET_KEY": "a key"})
    printed: list[str] = []
    vars(portals)["print"] = lambda *parts: printed.append(" ".join(map(str, parts)))
    hitl_server.start(app)
    [commands] = [text for kind, text in blocks("howto-portals") if kind == "shell"]
    inboxes = {PORTAL: "700200300"}
    inboxes["424243"] = hitl_hubspot.control("POST", "apps", {"appId": APP, "portalId": "424243"})[f"{PREFIX}INBOX_ID"]
    try:
        for portal, inbox in inboxes.items():
            for line in commands.replace("424243", portal).replace("700200301", inbox).splitlines():
                done = app.test_cli_runner().invoke(args=shlex.split(line)[1:])
                assert done.exit_code == 0, f"{line}: {done.output}"
                if "install-url" in line:
                    with contextlib.closing(Admin()) as browser:
                        assert browser.connect(done.stdout.strip(), portal).status_code == 200
            hitl_hubspot.contact(portalId=portal, phone=PHONE, firstname="Rosa")
        for customer in portals.PORTALS:
            with app.app_context():
                assert portals.hand_over(customer, "7", PHONE) == "I am calling somebody."
        wait_until(lambda: len(hitl_hubspot.threads()) == 2, "both to be at HubSpot")
        for thread in hitl_hubspot.threads():
            hitl_hubspot.act(thread["id"], "reply", text=f"We are {thread['portalId']}")
        wait_until(lambda: {"acme 7 We are 424242", "globex 7 We are 424243"} <= set(printed), f"both, have {printed}")
    finally:
        hitl_server.stop()
        portals.hitl.close(app)


# --- howto-migrate ---------------------------------------------------------------------------------------


def test_what_one_comes_to_is_there() -> None:
    """Each word in the right column of the table for Botpress is on the page about the bridges, or is a setting."""
    text = (DOCS / "howto-migrate.rst").read_text(encoding="utf-8")
    table = next(iter(publish_doctree(text, settings_overrides=STRICT).findall(nodes.table)))
    rows = [list(row.children) for row in table.findall(nodes.row)][1:]
    assert len(rows) == 9
    bridges = (DOCS / "bridges.rst").read_text(encoding="utf-8")
    known = {spec.name.upper() for spec in fields(Settings)}
    for there, here in rows:
        for word in (one.astext() for one in here.findall(nodes.literal)):
            assert word in known or word.removeprefix("POST ") in bridges or word == "setup", word
        for word in (one.astext() for one in there.findall(nodes.literal)):
            assert word in (DOCS / "botpress.rst").read_text(encoding="utf-8"), word
    assert "userHitlCloseCommand" in texts.TEXTS["en"]
