"""``flask hubspot-hitl simulate`` as somebody uses it by hand: settings to paste, ports, contacts; and all is well."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from flask_hubspot_hitl.hubspot.setup.wanted import CAPABILITIES, capability_drift
from flask_hubspot_hitl.simulator.model import preset
from flask_hubspot_hitl.simulator.serving import listening

from .helpers import PATIENCE, held_port, wait_until
from .test_guide import sections

ANA = "email=Ana@example.com,phone=+34600111222,firstname=Ana"
STAND_INS = {"flask_hubspot_hitl.simulator": 8200, "flask_hubspot_hitl.simulator.botpress": 8300}


def clean() -> dict[str, str]:
    """This process's environment without settings of ours."""
    own = {name: value for name, value in os.environ.items() if "HITL" not in name}
    return own | {"PYTHONUNBUFFERED": "1", "NO_PROXY": "localhost,127.0.0.1"}


@contextlib.contextmanager
def process(*command: str, folder: Path, lines: int = 1) -> Iterator[list[str]]:
    """Run a Python command; the first lines that it prints."""
    started = [sys.executable, *command]
    with (folder / "stderr").open("a") as stderr:
        child = subprocess.Popen(started, cwd=folder, env=clean(), stdout=subprocess.PIPE, stderr=stderr, text=True)
    assert child.stdout is not None
    try:
        yield [child.stdout.readline().rstrip("\n") for _ in range(lines)]
    finally:
        child.terminate()
        child.wait(60)
        child.stdout.close()


def flask(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "flask", *command],
        cwd=folder,
        env=clean(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def url_of(held: socket.socket) -> str:
    return f"http://localhost:{held.getsockname()[1]}"


def answers(url: str) -> bool:
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=30).ok
    return False


def test_a_fresh_stand_in_is_well_after_setup(tmp_path: Path) -> None:
    """Settings pasted as they were printed, the README's app, ``setup``, ``doctor``: each a real process."""
    blocks = [text for language, text in sections("README.rst")["Quickstart"] if language == "python"]
    (tmp_path / "app.py").write_text("\n".join(blocks[:2]), encoding="utf-8")
    simulate = ("-m", "flask", "hubspot-hitl", "simulate", "--port", "0", "--env")
    with held_port() as held, process(*simulate, url_of(held), folder=tmp_path, lines=14) as printed:
        url, number = url_of(held), held.getsockname()[1]
        (tmp_path / ".env").write_text("\n".join(printed), encoding="utf-8")
        assert "Would change the channel 100458" in flask(tmp_path, "hubspot-hitl", "setup", "--plan")
        with process("-m", "flask", "run", "--port", str(number), folder=tmp_path):
            wait_until(lambda: answers(f"{url}/hubspot/healthz"), PATIENCE, "the app to serve")
            told = flask(tmp_path, "hubspot-hitl", "setup", "--check")
            assert told.endswith("All is well.\n"), told
            assert flask(tmp_path, "hubspot-hitl", "doctor").endswith("All is well.\n")
            assert flask(tmp_path, "hubspot-hitl", "setup").startswith("Nothing to change.\n")


def test_the_preset_channel_can_what_setup_wants() -> None:
    assert capability_drift(preset.CAPABILITIES, CAPABILITIES) == {}
    assert set(preset.CAPABILITIES) - set(CAPABILITIES) == {"allowedFileAttachmentMimeTypes"}, "HubSpot's own default"


def test_the_settings_are_lines_for_a_dotenv_file(tmp_path: Path) -> None:
    simulate = ("-m", "flask_hubspot_hitl.simulator", "--port", "0", "--env")
    with process(*simulate, folder=tmp_path, lines=14) as (first, *lines):
        assert first.startswith("# HubSpot stand-in: http://127.0.0.1:")
        base = first.split()[3].rstrip("/")
        assert re.fullmatch(r"FLASK_SECRET_KEY=[\w-]{43}", lines.pop(0)), "HubSpot's tokens are encrypted with it"
        assert all(re.fullmatch(r"FLASK_HUBSPOT_HITL_[A-Z_]+=[!-~]+", line) for line in lines)
        found = dict(line.removeprefix("FLASK_").split("=", 1) for line in lines)
        assert found.pop("HUBSPOT_HITL_PUBLIC_URL") == "http://localhost:5000", "where flask run serves"
        assert found == requests.get(f"{base}/_sim/env", timeout=30).json()


def test_the_command_of_the_page_runs_as_it_stands(tmp_path: Path) -> None:
    [line] = [text for _, text in sections("docs/testing.rst")["Testing your app"] if "simulate --env" in text]
    with process("-m", *line.split(), "--port", "0", folder=tmp_path, lines=14) as (first, *_, last):
        assert last == "FLASK_HUBSPOT_HITL_PUBLIC_URL=http://localhost:5000"
        assert answers(f"{first.split()[3]}_sim/env")


def test_contacts_by_option_are_there_after_a_reset(tmp_path: Path) -> None:
    simulate = (
        "-m",
        "flask_hubspot_hitl.simulator",
        "--port",
        "0",
        "--contact",
        ANA,
        "--contact",
        "phone=+12125550199",
    )
    with process(*simulate, folder=tmp_path) as (first,):
        base = first.split()[2].rstrip("/")
        for _ in range(2):
            token = requests.get(f"{base}/_sim/access-token", timeout=30).json()["access_token"]
            bearer = {"Authorization": f"Bearer {token}"}
            params = {"properties": "email,phone,firstname"}
            listed = requests.get(f"{base}/crm/v3/objects/contacts", params=params, headers=bearer, timeout=30).json()
            ana, other = (one["properties"] for one in listed["results"][-2:])
            assert (ana["email"], ana["phone"], ana["firstname"]) == ("ana@example.com", "+34600111222", "Ana")
            assert (len(listed["results"]), other["phone"]) == (5, "+12125550199")
            assert requests.post(f"{base}/_sim/reset", timeout=30).ok


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("email", "is not KEY=VALUE"),
        ("=x", "is not KEY=VALUE"),
        ("email=", "is not KEY=VALUE"),
        ("Email=a@example.com", "is not KEY=VALUE"),
        ("email=nobody", "is not an e-mail address"),
        ("email=rosa@example.test", "Contact already exists"),
    ],
)
def test_what_is_no_contact_is_told(tmp_path: Path, wrong: str, told: str) -> None:
    command = [sys.executable, "-m", "flask_hubspot_hitl.simulator", "--port", "0", "--contact", wrong]
    done = subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("module", STAND_INS)
def test_a_port_that_is_taken(tmp_path: Path, module: str) -> None:
    usual = STAND_INS[module]
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # somebody else on this machine may have it: as good
            held.enter_context(socket.create_server(("127.0.0.1", usual)))
        with process("-m", module, folder=tmp_path) as (first,):
            address = first.split()[2].rstrip("/")
            assert answers(f"{address}/_sim/env")
            number = address.rpartition(":")[2]
            said = f"Port {usual} is taken, so {number} it is; --port names another.\n"
            assert (tmp_path / "stderr").read_text() == said
            command = [sys.executable, "-m", module, "--port", number]
            done = subprocess.run(command, env=clean(), capture_output=True, text=True, timeout=60, check=False)
            assert (done.returncode, done.stdout) == (2, "")
            assert f"port {number}: Address already in use" in done.stderr


def test_the_usual_port_is_taken_when_it_is_free() -> None:
    with held_port() as held:
        number = held.getsockname()[1]
    with listening("127.0.0.1", None, number) as listener:
        assert listener.getsockname() == ("127.0.0.1", number)
        with listening("127.0.0.1", None, number) as other:
            assert other.getsockname()[1] != number
