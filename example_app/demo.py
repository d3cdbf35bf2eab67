"""``flask --app example_app demo``: the stand-in and this app, each in its own process, until Ctrl-C.

With ``--scripted`` the story of ``story.py`` is played instead. The processes end with this one. ``python -m
example_app.demo`` is the same and starts sooner, because this process needs no app: it imports nothing of it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import click
import requests

from . import bridge_stories, story
from .bridges import BRIDGES

ROOT = Path(__file__).parents[1]
NAME, PHONE = "Ada Lovelace", "+14155550123"
USERS_SCOPE = "crm.objects.users.read"
AVAILABILITY = {"HUBSPOT_HITL_AVAILABILITY": "hubspot", "HUBSPOT_HITL_INBOX_MEMBERS": "987,988"}
"""Have the bot look whether one of the stand-in's agents is there, before it promises one."""
PORT, DESK_PORT = 8100, 8200
"""Where the chat and the stand-in listen, if nobody else does."""
START_SECONDS = 60.0
STOP_SECONDS = 5.0
KEPT = ("HUBSPOT_HITL_API_VERSION",)
"""Settings of the caller's that the demo passes on; the others may belong to a real portal."""


def _die_with_parent() -> None:
    """Linux: get SIGTERM when the parent is gone, even if it was killed."""
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGTERM)


class Servers:
    """The processes, a third one with a ``bridge`` to a Botpress bot; a context manager that leaves none behind."""

    def __init__(self, *, port: int, desk_port: int, bridge: str = "") -> None:
        self._ports = (port, desk_port)
        self._bridge = bridge
        self._children: list[subprocess.Popen[str]] = []
        self._cleanup = contextlib.ExitStack()
        self.chat = self.desk = self.bot = ""

    def __enter__(self) -> Servers:
        port, desk_port = self._ports
        try:
            folder = self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="example-app-"))
            own = {key: text for key, text in os.environ.items() if not key.startswith("HUBSPOT_HITL_") or key in KEPT}
            chat = self._begin("example_app", port, own, "--settings-from-stdin")  # it loads meanwhile
            self.desk = self._address(self._begin("flask_hubspot_hitl.simulator", desk_port, own))
            settings = {
                "FLASK_SECRET_KEY": f"demo-{secrets.token_urlsafe(32)}",
                "FLASK_TRUSTED_HOSTS": json.dumps(["127.0.0.1", "localhost"]),
                "FLASK_EXAMPLE_NAME": NAME,
                "FLASK_EXAMPLE_CONTACT": PHONE,
                "FLASK_EXAMPLE_ADMIN": "true",
                "EXAMPLE_INSTANCE_PATH": folder,
            }
            settings |= self.call("GET", "env") | AVAILABILITY
            self.call("POST", "grant", {"scopes": [USERS_SCOPE]})
            if self._bridge:
                self.bot = self._address(self._begin("flask_hubspot_hitl.simulator.botpress", 0, own))
                settings |= {"EXAMPLE_BRIDGE": self._bridge, **self.call_bot("GET", "env")}
            assert chat.stdin is not None
            with contextlib.suppress(BrokenPipeError), chat.stdin as stdin:  # it has ended: it has said why
                stdin.write(f"{json.dumps(settings)}\n")
            self.chat = self._address(chat)
            self.call("PUT", "target", {"url": f"{self.chat}/hubspot/webhook"})
            first, _, last = NAME.partition(" ")
            self.call("POST", "contacts", {"phone": PHONE, "firstname": first, "lastname": last})
            if self._bridge:
                secret = settings["HUBSPOT_HITL_BOTPRESS_SECRET"]
                path = {"chat": "/chat", "studio": "", "hitl-api": f"/hitl-api/{secret}"}[self._bridge]
                self.call_bot("PUT", "target", {"url": f"{self.chat}/hubspot/botpress{path}"})
                self.call_bot("PUT", "bot", {"title": "Refund", "email": PHONE, "name": NAME})
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _begin(self, module: str, port: int, env: dict[str, str], *options: str) -> subprocess.Popen[str]:
        """Start ``python -m module``."""
        child = subprocess.Popen(  # noqa: S603 - only our own two modules
            [sys.executable, "-m", module, "--port", str(port), *options],
            stdin=subprocess.PIPE if options else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=env,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        self._children.append(child)
        return child

    @staticmethod
    def _address(child: subprocess.Popen[str]) -> str:
        """Return where a process listens; it is in the first line it prints."""
        assert child.stdout is not None
        too_late = threading.Timer(START_SECONDS, child.kill)
        too_late.start()
        line = child.stdout.readline()
        too_late.cancel()
        too_late.join()
        address = next((word.rstrip("/") for word in line.split() if word.startswith("http://")), None)
        if address is None:
            command = " ".join(map(str, child.args)) if isinstance(child.args, list) else ""
            raise click.ClickException(f"One of the processes did not start, see above: {command}")
        return address

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """A control call to the stand-in for HubSpot; its JSON."""
        return self._control(self.desk, method, path, body)

    def call_bot(self, method: str, path: str, body: Any = None) -> Any:
        """A control call to the stand-in for Botpress; its JSON."""
        return self._control(self.bot, method, path, body)

    def _control(self, base: str, method: str, path: str, body: Any) -> Any:
        with requests.Session() as http:
            http.trust_env = False
            answer = http.request(method, f"{base}/_sim/{path}", json=body, timeout=30)
            answer.raise_for_status()
            return answer.json()

    def _wait_until_ready(self) -> None:
        ends = time.monotonic() + START_SECONDS
        with requests.Session() as http:
            http.trust_env = False
            while time.monotonic() < ends:
                try:
                    if http.get(f"{self.chat}/hubspot/healthz", timeout=2).ok:
                        return
                except requests.RequestException:  # a busy machine may even be too slow to answer
                    time.sleep(0.05)
        raise click.ClickException("The example app did not get ready in time; see above.")

    def story(self) -> Iterator[str]:
        """The story to play: see ``story.py`` and ``bridge_stories.py``."""
        if self._bridge:
            return bridge_stories.play(self._bridge, self.chat, self.desk, self.bot)
        return story.play(self.chat, self.desk, name=NAME, contact=PHONE)

    def wait(self) -> None:
        """Return when one of the processes has ended by itself."""
        while all(child.poll() is None for child in self._children):
            time.sleep(0.3)

    def stop(self) -> None:
        """End the processes, and remove their files."""
        for child in self._children:  # the app first: it must not find the others gone
            child.terminate()
            try:
                child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        self._children.clear()
        self._cleanup.close()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@click.command()
@click.option("--scripted", is_flag=True, help="Play the whole story, and exit.")
@click.option("--port", type=click.IntRange(0, 65535), help=f"Of the chat; by default {PORT}, or a free one.")
@click.option(
    "--desk-port", type=click.IntRange(0, 65535), help=f"Of the stand-in; by default {DESK_PORT}, or a free one."
)
@click.option("--traffic", type=click.Path(dir_okay=False, path_type=Path), help="Save the calls to HubSpot here.")
@click.option("--bot-traffic", type=click.Path(dir_okay=False, path_type=Path), help="Save the bot's calls here.")
@click.option("--die-with-parent", is_flag=True, hidden=True)
def demo(
    scripted: bool,
    port: int | None,
    desk_port: int | None,
    traffic: Path | None,
    bot_traffic: Path | None,
    die_with_parent: bool,
) -> None:
    """Be the user in one tab and the agent in the other; or, with --scripted, watch the whole story.

    EXAMPLE_BRIDGE=chat puts a stand-in for a Botpress bot in the place of the app's own; studio and hitl-api do so too,
    with --scripted only, because there the user's channel is Botpress's.
    """
    bridge = os.environ.get("EXAMPLE_BRIDGE", "")
    if bridge not in ("", *BRIDGES):
        raise click.ClickException(f"EXAMPLE_BRIDGE must be one of {', '.join(BRIDGES)}.")
    if bridge not in ("", "chat") and not scripted:
        raise click.ClickException(f"With EXAMPLE_BRIDGE={bridge} the user's channel is Botpress's: add --scripted.")
    if die_with_parent and sys.platform == "linux":
        _die_with_parent()
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # a shell's background jobs start with SIGINT ignored
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    play: Callable[[Servers], None] = _play if scripted else _serve
    if not scripted:
        click.echo("Starting a stand-in for HubSpot, and the chat ...")
        port, desk_port = _or_free(port, PORT), _or_free(desk_port, DESK_PORT)
    try:
        with Servers(port=port or 0, desk_port=desk_port or 0, bridge=bridge) as servers:
            try:
                play(servers)
            finally:
                if traffic is not None:
                    _save(traffic, servers.call("GET", "requests"))
                if bot_traffic is not None and bridge:
                    both = [*servers.call_bot("GET", "requests"), *servers.call_bot("GET", "deliveries")]
                    _save(bot_traffic, sorted(both, key=lambda entry: entry["at"]))
    except KeyboardInterrupt:
        click.echo("Stopped.")
        sys.exit(130 if scripted else 0)


def _or_free(wanted: int | None, usual: int) -> int:
    """The port wanted, else the usual one, else 0: a free one, which is said."""
    if wanted is not None:
        return wanted
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", usual))
        except OSError:
            click.echo(f"Port {usual} is in use: another one is taken.")
            return 0
    return usual


def _serve(servers: Servers) -> None:
    click.echo(f"Be the user here:   {servers.chat}/")
    click.echo(f"Be the agent here:  {servers.desk}/")
    click.echo(f"Look inside here:   {servers.chat}/hubspot/admin")
    click.echo(f"{NAME}, {PHONE}, is a contact that HubSpot knows. Ctrl-C stops both.")
    sys.stdout.flush()
    servers.wait()
    raise click.ClickException("One of the two processes has ended; see above.")


def _play(servers: Servers) -> None:
    try:
        for line in servers.story():
            click.echo(line)
            sys.stdout.flush()
    except story.Missed as missed:
        raise click.ClickException(str(missed)) from None


def _save(path: Path, entries: list[Any]) -> None:
    """Calls that a stand-in has served or made, one JSON object a line."""
    with path.open("w", encoding="utf-8") as file:
        for entry in entries:
            file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    demo()
