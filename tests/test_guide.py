"""The guides, typed as they stand: each command in order, from an empty folder to a conversation that is over.

Everything is a real process. ``hs`` is ``tests/hs.py``, and the person with the browser is ``tests/browser.py``.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
import requests
from docutils import nodes
from docutils.core import publish_doctree

from .browser import Browser, said
from .helpers import PATIENCE, PORTAL, Json, held_port, wait_until

ROOT = Path(__file__).parents[1]
NAMES = ("README.rst", "docs/setup.rst", "docs/legacy.rst", "docs/testing.rst")
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}
STRICT = {"report_level": 2, "syntax_highlight": "none", "_disable_config": True, "doctitle_xform": False}
NODE_TOO = ("npm", "install", "-g", "@hubspot/cli")
CALL = 'curl -d "text=a human, please" --data-urlencode "contact=+34911222333" http://localhost:5000/chat/c1'
TALK = 'curl -d "text=my order?" http://localhost:5000/chat/c1'


def sections(page: str) -> dict[str, list[tuple[str, str]]]:
    """Each section's blocks of code, as pairs of language and text."""
    found: dict[str, list[tuple[str, str]]] = {}
    for section in publish_doctree(PAGES[page], settings_overrides=STRICT).findall(nodes.section):
        inner = {id(one) for child in section.findall(nodes.section) if child is not section for one in child.findall()}
        blocks = [one for one in section.findall(nodes.literal_block) if id(one) not in inner]
        found[section[0].astext()] = [(one["classes"][1], one.astext()) for one in blocks if one["classes"]]
    return found


SETUP = sections("docs/setup.rst")
WITH_HUBSPOT = [block for title, blocks in SETUP.items() if re.match("[0-9]", title) for block in blocks]
MOVES = SETUP["When your domain moves"]
SEVERAL = SETUP["Several deployments"]
WITHOUT = SETUP["Without an account"]
BEGIN = ("ini", "# .env\nFLASK_SECRET_KEY=k\nFLASK_HUBSPOT_HITL_PUBLIC_URL=https://bot.example.com")
INBOX = ("ini", "# .env\nFLASK_HUBSPOT_HITL_PORTAL_ID=424242\nFLASK_HUBSPOT_HITL_INBOX_ID=700200300")
WORDS = next(block for block in WITH_HUBSPOT if "CLIENT_ID" in block[1])
IN_SHORT = sections("README.rst")["Setting HubSpot up"]
README = [
    BEGIN,
    IN_SHORT[0],
    WORDS,
    ("shell", "flask run --port 5000"),
    INBOX,
    IN_SHORT[1],
    ("shell", f"{CALL}\n{TALK}\nflask hubspot-hitl doctor"),
]


class Person:
    """Somebody who types a guide into terminals, in a folder that is empty at first."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.at = self.home
        self.outputs: dict[str, str] = {}
        self._tools = folder / "bin"
        self._words = folder / "words.json"
        self._log = folder / "printed"
        self._held = [held_port() for _ in range(3)]
        self._ports = [one.getsockname()[1] for one in self._held]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._make_tools()
        self.url = f"http://localhost:{self._ports[0]}"
        self.desk = f"http://127.0.0.1:{self._ports[1]}"
        clean = {name: value for name, value in os.environ.items() if "HUBSPOT_HITL_" not in name}
        path = os.pathsep.join([str(self._tools), str(Path(sys.executable).parent), os.environ["PATH"]])
        self._env = clean | {"PATH": path, "HS_STAND_IN": self.desk, "HS_WORDS": str(self._words)}
        self._env |= {"PYTHONUNBUFFERED": "1", "NO_PROXY": "localhost,127.0.0.1"}

    def _make_tools(self) -> None:
        """HubSpot's command line."""
        self._tools.mkdir()
        hs = self._tools / "hs"
        hs.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {ROOT / "tests" / "hs.py"} "$@"\n')
        hs.chmod(0o755)

    def use_stand_in(self) -> None:
        """Begin with a stand-in where the guide has HubSpot: only its address is given beside what the guide says."""
        self._start("stand-in", f"python -m flask_hubspot_hitl.simulator --port {self._ports[1]}")
        self._env["FLASK_HUBSPOT_HITL_API_BASE_URL"] = self.desk

    def does(self, blocks: list[tuple[str, str]]) -> None:
        """Work through a guide, its files and its commands."""
        for language, text in blocks:
            if language == "ini":
                self._writes(text)
            else:
                assert language == "shell"
                for line in text.replace("\\\n", "").splitlines():
                    self._types(" ".join(line.split()))

    def _writes(self, text: str) -> None:
        """Bring ``.env`` up to date, as a person does: a value that is there is not written twice."""
        name, *lines = text.splitlines()
        assert name == "# .env"
        words = json.loads(self._words.read_text()) if self._words.exists() else {}
        path = self.at / ".env"
        have = dict(line.split("=", 1) for line in path.read_text().splitlines()) if path.exists() else {}
        before = dict(have)
        for key, value in (self._local(line).split("=", 1) for line in lines):
            word = key.removeprefix("FLASK_HUBSPOT_HITL_").lower()
            have[key] = words[word] if value.startswith("<") and word in words else value.strip("<>")
        if have != before:
            path.write_text("".join(f"{key}={value}\n" for key, value in have.items()))
            if "app" in self._processes:
                self._restart()

    def _local(self, text: str) -> str:
        """The guide's addresses as they are on this machine."""
        for name, port in (("bot.example.com", self._ports[0]), ("bot.example.org", self._ports[2])):
            text = text.replace(f"https://{name}", f"http://localhost:{port}")
        text = text.replace("localhost:5000", self.url.removeprefix("http://")).replace("127.0.0.1:8200", self.desk[7:])
        return text.replace("--port 5000", f"--port {self.url.rpartition(':')[2]}")

    def _types(self, line: str) -> None:
        match shlex.split(line):
            case ["cd", where]:
                self.at = (self.at / where).resolve()
                return
            case ["python3", "-m", "venv", _] | [".", ".venv/bin/activate"]:
                return  # the tests' own is used
            case ["pip", "install", "Flask-HubSpot-HITL", "python-dotenv"]:
                return
            case ["npm", *_]:
                assert line == shlex.join(NODE_TOO)
                return
            case ["python", "-m", "flask_hubspot_hitl.simulator", "--port", "8200"]:
                self._start("stand-in", f"python -m flask_hubspot_hitl.simulator --port {self._ports[1]}")
                return
            case ["flask", "hubspot-hitl", "simulate", "--env", *_, ">", ".env"]:
                ours = f"--env {self.url} --port {self._ports[1]}"
                self._start("stand-in", line.removesuffix(" > .env").replace("--env", ours), into=self.at / ".env")
                return
            case ["flask", "run", *_]:
                self._start("app", self._local(line))
                return
            case ["curl", *_] if shutil.which("curl") is None:
                self.outputs[line] = self._posts(line)
                return
        self.outputs[line] = self._runs(self._local(line))
        if line == "flask hubspot-hitl install-url":
            self._installs(self.outputs[line].strip())
        if line == TALK:
            self._answers_as_agent()

    def _runs(self, line: str) -> str:
        done = subprocess.run(
            ["sh", "-c", line], cwd=self.at, env=self._env, capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def _posts(self, line: str) -> str:
        """What ``curl`` does, where there is none."""
        *words, url = shlex.split(self._local(line))[1:]
        data = dict(one.split("=", 1) for one in words if not one.startswith("-"))
        return requests.post(url, data=data, timeout=60).text

    def _installs(self, link: str) -> None:
        with contextlib.closing(Browser()) as browser:
            page = browser.connect(link, PORTAL)
            assert (page.status_code, said(page)) == (200, "HubSpot is connected")

    def _start(self, name: str, line: str, *, into: Path | None = None) -> None:
        """Start what runs in a terminal of its own, unless it is there already; ``into`` is where its words go."""
        if name in self._processes:
            return
        printed: IO[bytes]
        with (into or self._log).open("ab") as printed:
            self._processes[name] = subprocess.Popen(shlex.split(line), cwd=self.at, env=self._env, stdout=printed)
        where = f"{self.desk}/_sim/env" if name == "stand-in" else f"{self.url}/hubspot/healthz"
        wait_until(lambda: self._answers(where), PATIENCE, f"{line} to serve")

    def _answers(self, where: str) -> bool:
        with contextlib.suppress(requests.ConnectionError):
            return requests.get(where, timeout=20).ok
        return False

    def _restart(self) -> None:
        """Stop ``flask run``, and start it again where PUBLIC_URL says."""
        self._end(self._processes.pop("app"))
        address = re.findall(r"^FLASK_HUBSPOT_HITL_PUBLIC_URL=([^,\n]*)", (self.at / ".env").read_text(), re.M)[0]
        self.url = address
        self._start("app", f"flask run --port {address.rpartition(':')[2]}")

    def _answers_as_agent(self) -> None:
        """Take the conversation, answer, close it; the app hears all of it."""
        [called] = [said for line, said in self.outputs.items() if "text=a human" in line]
        assert (called, self.outputs[TALK]) == ("I am calling somebody.", "")
        before = len(self.printed())

        def newest() -> str:
            return str(self.ask("threads")[-1]["id"])

        def texts() -> list[str]:
            return [one.get("text", "") for one in self.ask(f"threads/{newest()}")["messages"]]

        wait_until(lambda: "my order?" in texts(), PATIENCE, "the user's words")
        number = newest()
        for verb, more, heard in (
            ("assign", {"actorId": "A-987"}, "c1 Noor Haddad joined the chat."),
            ("reply", {"text": "On its way"}, "c1 On its way []"),
            ("close", {}, "c1 The chat with our team is over (agent)."),
        ):
            self.ask(f"threads/{number}/{verb}", more)
            self._hears(heard, before)

    def _hears(self, line: str, since: int) -> None:
        wait_until(lambda: line in self.printed()[since:], PATIENCE, line)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        process.wait(60)

    def ask(self, path: str, body: Json | None = None) -> Any:
        """Look at the stand-in, or do something there."""
        answer = requests.request(
            "POST" if body is not None else "GET", f"{self.desk}/_sim/{path}", json=body, timeout=30
        )
        assert answer.ok, answer.text
        return answer.json()

    def printed(self) -> list[str]:
        """What the app has printed."""
        return self._log.read_text().splitlines()

    def files(self) -> dict[str, bytes]:
        """All files, but the database and what Python makes."""
        found = [one for one in self.home.rglob("*") if one.is_file()]
        return {str(one): one.read_bytes() for one in found if not {"instance", "__pycache__"} & set(one.parts)}

    def close(self) -> None:
        """Close all terminals."""
        for process in self._processes.values():
            self._end(process)
        for held in self._held:
            held.close()


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    made = Person(tmp_path)
    yield made
    made.close()


def save_the_app(person: Person) -> None:
    """The two blocks of the README's quickstart, as ``app.py``."""
    blocks = [text for language, text in sections("README.rst")["Quickstart"] if language == "python"]
    (person.at / "app.py").write_text("\n".join(blocks[:2]), encoding="utf-8")


def follow(person: Person, guide: list[tuple[str, str]]) -> None:
    """From the empty folder to a conversation that is over; and again, which changes nothing."""
    begin = guide.index(next(block for block in guide if block[0] == "ini"))
    person.does(guide[:begin])
    save_the_app(person)
    person.does(guide[begin:])
    assert "Done: make the channel" in person.outputs["flask hubspot-hitl setup"]
    assert person.outputs["flask hubspot-hitl doctor"].endswith("All is well.\n")
    files, first = person.files(), person.outputs
    person.at, person.outputs = person.home, {}
    person.does(guide)
    assert person.outputs.keys() == first.keys()
    assert person.files() == files
    for line in ("flask hubspot-hitl project init hubspot", "flask hubspot-hitl setup"):
        assert person.outputs[line].startswith("Nothing to change.\n"), line
    assert len(person.ask("projects")["apps"]) == 2, "the one that is there from the start, and ours"


@pytest.mark.skipif("HITL_TEST_API_VERSION" in os.environ, reason="a new app has the newest version")
def test_the_quickstart_of_the_readme(person: Person) -> None:
    """Each line in its order; nothing else is typed or written."""
    steps = sections("README.rst")["Quickstart"]
    save_the_app(person)
    person.does([block for block in steps if block[0] == "shell"])
    assert list(person.outputs.values())[1:3] == [person.outputs["flask hubspot-hitl doctor"], "You said: hello"]
    assert person.outputs["flask hubspot-hitl doctor"].endswith("All is well.\n")
    stranger = CALL.replace("contact=+34911222333", "contact=nobody@example.com")
    person.does([("shell", stranger)])
    assert person.outputs[stranger] == "HubSpot does not know that contact."


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guide_without_an_account(person: Person) -> None:
    follow(person, WITHOUT)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_guide_with_hubspot(person: Person) -> None:
    person.use_stand_in()
    follow(person, WITH_HUBSPOT)
    person.does(MOVES)
    [ours] = [one for one in person.ask("projects")["apps"] if one["project"]]
    assert ours["target_url"] == f"{person.url}/hubspot/webhook"
    person.does([("shell", f"{CALL}\n{TALK}")])  # the old address is not served here: doctor would say so
    person.does(SEVERAL)
    assert [one["account"] for one in person.ask("projects")["apps"] if one["project"]] == ["111", ours["account"]]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_in_short(person: Person) -> None:
    person.use_stand_in()
    follow(person, README)


def test_the_readme_s_commands_are_the_guide_s() -> None:
    assert {line for _, block in IN_SHORT for line in block.splitlines()} <= {
        line for language, block in WITH_HUBSPOT if language == "shell" for line in block.splitlines()
    }


def test_the_dates_of_the_page_for_legacy_apps_are_those_of_the_facts() -> None:
    """docs/hubspot.rst (Calendar)."""
    facts = (ROOT / "docs" / "hubspot.rst").read_text(encoding="utf-8")
    calendar = facts.partition("12.1 Calendar\n")[2].partition("12.2 Paths\n")[0]
    [found] = publish_doctree(PAGES["docs/legacy.rst"]).findall(
        lambda node: isinstance(node, nodes.table) and "What ends at HubSpot" in node.astext()
    )
    rows = [[cell.astext() for cell in row.children] for row in found.findall(nodes.row)][1:]
    assert len(rows) == 4
    for when, what, _ in rows:
        assert re.search(rf"^{re.escape(when)} +{re.escape(what)}$", calendar.replace("``", ""), re.M), when
