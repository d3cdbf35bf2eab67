"""A bot that is not ours takes the extension in, by ``docs/twenty-minutes.rst`` alone and behind a real nginx.

The bot is in ``tests/adoption/``, as it was before. The page's edits are made and its commands typed in their order.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from docutils import nodes
from docutils.core import publish_doctree

from .helpers import own_port, wait_until

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "twenty-minutes.rst"
BOT = ROOT / "tests" / "adoption"
STRICT = {"report_level": 2, "syntax_highlight": "none", "_disable_config": True}
PORTS = ("8080", "8000", "8200")
"""Of nginx, gunicorn and the stand-in, where the page is typed."""
TOKEN = re.compile(r'(?:name="csrf_token" value|name="csrf-token" content)="([^"]+)"')
BEFORE = 'gunicorn --bind 127.0.0.1:8000 --workers 2 --threads 4 "shop:create_app()"'


def blocks() -> list[tuple[str, str]]:
    """The page's blocks of code, as pairs of language and text."""
    tree = publish_doctree(PAGE.read_text(encoding="utf-8"), settings_overrides=STRICT)
    return [(one["classes"][1], one.astext()) for one in tree.findall(nodes.literal_block)]


def nginx() -> str:
    """The program; without it the test is skipped, but never in CI."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("nginx is not installed")
        pytest.skip("nginx is not installed")
    return found


class Shop:
    """The bot's folder, its terminals, and a customer with a browser."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {name: str(own_port()) for name in PORTS}
        shutil.copytree(BOT, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        (folder / "tmp").mkdir()
        (folder / "nginx.conf").write_text(self.local((folder / "nginx.conf").read_text()))
        clean = {name: value for name, value in os.environ.items() if "HUBSPOT_HITL_" not in name}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._env = clean | {
            "PATH": path,
            "NO_PROXY": "localhost,127.0.0.1",
            "GIT_CEILING_DIRECTORIES": str(folder.parent),
        }
        self._env["HOME"] = str(folder)  # gunicorn keeps a socket there
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.http = requests.Session()
        self.http.trust_env = False

    def local(self, text: str) -> str:
        """The page's addresses as they are here."""
        for name, port in self._ports.items():
            text = re.sub(rf"(?<=[ :]){name}\b", port, text)
        return text

    def start(self, name: str, command: str, address: str) -> None:
        """Run something in a terminal of its own, in the place of what ran there; wait until it serves."""
        self.end(name)
        with (self.folder / "log").open("ab") as log:
            self._running[name] = subprocess.Popen(
                ["sh", "-c", self.local(command)],
                cwd=self.folder,
                env=self._env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self._serves(self.local(address)), what=f"{name} to serve")

    def _serves(self, address: str) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return self.http.get(address, timeout=20).status_code < 500
        return False

    def run(self, command: str, given: str = "") -> str:
        """Run a command to its end; what it said."""
        done = subprocess.run(
            ["sh", "-c", self.local(command)],
            cwd=self.folder,
            env=self._env,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def end(self, name: str) -> None:
        """Close a terminal with all that runs there."""
        if process := self._running.pop(name, None):
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)

    def follow(self, language: str, text: str) -> str:
        """Do what a block of the page says; what its last command said."""
        if language == "diff":
            return self.run("git apply --whitespace=nowarn -", f"{text}\n")
        if language == "python":
            name = text.partition("\n")[0].removeprefix("# ")
            (self.folder / name).write_text(text, encoding="utf-8")
            return ""
        if "gunicorn" in text:
            self.start("server", text, "http://127.0.0.1:8000/")
            return ""
        if "simulate" in text:
            command = text.replace("--env", f"--port {self._ports['8200']} --env")
            self.start("stand-in", command, "http://127.0.0.1:8200/_sim/env")
            return ""
        if "pip install" in text:
            return ""
        return [self.run(line) for line in text.splitlines()][-1]

    def log_in(self) -> None:
        """Log in as Rosa; nothing was said to her yet."""
        url = self.local("http://localhost:8080/shop/login")
        form = {"csrf_token": self._token(url), "email": "rosa@example.com", "password": "tea"}
        done = self.http.post(url, data=form, timeout=60)
        assert done.url == self.local("http://localhost:8080/shop/"), "the prefix is kept"

    def _token(self, url: str) -> str:
        found = TOKEN.search(self.http.get(url, timeout=60).text)
        assert found is not None
        return found[1]

    def write(self, text: str) -> None:
        """Write into the chat."""
        url = self.local("http://localhost:8080/shop/")
        headers = {"X-CSRFToken": self._token(url)}
        done = self.http.post(f"{url}chat", data={"text": text}, headers=headers, timeout=60)
        assert done.status_code == 204, done.text

    def lines(self) -> list[str]:
        """What the chat page shows."""
        found = self.http.get(self.local("http://localhost:8080/shop/chat/lines"), timeout=60).json()
        return [f"{one['author']}: {one['text']}" for one in found]

    def desk(self, path: str, body: Any = None) -> Any:
        """Look at the stand-in, or be its agent."""
        method = "GET" if body is None else "POST"
        done = self.http.request(method, self.local(f"http://127.0.0.1:8200/_sim/{path}"), json=body, timeout=60)
        assert done.ok, done.text
        return done.json()

    def close(self) -> None:
        """Close all terminals."""
        for name in list(self._running):
            self.end(name)
        self.http.close()
        sys.stderr.write((self.folder / "log").read_text(errors="replace"))  # pytest shows it of a test that failed


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    program = nginx()
    made = Shop(tmp_path)
    try:
        made.run("flask --app shop auth add rosa@example.com Rosa --password tea")  # first: it makes the shop's tables
        made.start("server", BEFORE, "http://127.0.0.1:8000/")
        made.start("nginx", f"exec {program} -p . -c nginx.conf -g 'daemon off;'", "http://127.0.0.1:8080/shop/")
        yield made
    finally:
        made.close()


@pytest.mark.skipif("HITL_TEST_API_VERSION" in os.environ, reason="a new app has the newest version")
def test_the_twenty_minutes(shop: Shop) -> None:
    """Each step in its order; nothing else is typed or written."""
    shop.log_in()
    shop.write("price?")
    price = ["customer: price?", "bot: All teas are 7 euros a tin."]
    assert shop.lines() == price, "the bot works before"
    said = [shop.follow(language, text) for language, text in blocks()]
    assert said[-1].endswith("All is well.\n")
    for text in ("price?", "a human, please", "my order?"):
        shop.write(text)
    called = [*price, *price, "customer: a human, please", "bot: I am calling somebody.", "customer: my order?"]
    assert shop.lines() == called, "still logged in"

    def texts() -> list[str]:
        return [one.get("text", "") for one in shop.desk(f"threads/{shop.desk('threads')[-1]['id']}")["messages"]]

    wait_until(lambda: shop.desk("threads") and "my order?" in texts(), what="the agent to see it")
    thread = shop.desk("threads")[-1]["id"]
    for verb, body, heard in (
        ("assign", {"actorId": "A-987"}, "shop: Noor Haddad joined the chat."),
        ("reply", {"text": "On its way"}, "agent: On its way"),
        ("close", {}, "shop: The chat with our team is over."),
    ):
        shop.desk(f"threads/{thread}/{verb}", body)
        wait_until(lambda heard=heard: heard in shop.lines(), what=heard)  # type: ignore[misc]
    shop.write("price?")
    assert shop.lines()[-1] == price[-1], "the bot has it again"
    assert "All is well." in shop.run("flask --app shop hubspot-hitl doctor")
