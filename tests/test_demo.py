"""The demo as a user starts it: the scripted story with its traffic, the two pages, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import pytest
import requests
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from example_app import demo, story

from .helpers import own_port, wait_until

ROOT = Path(__file__).parents[1]
VALIDATOR = ROOT.parent / "shared" / "tools" / "validate_traffic.py"
WORDS = ["started", "assigned", "note", "text", "reply", "file", "comment", "completed", "bot"]
DEMO = [sys.executable, "-m", "flask", "--app", "example_app", "demo"]


def environment(**more: str) -> dict[str, str]:
    """Ours without what would steer the demo."""
    not_ours = ("HUBSPOT_HITL_", "FLASK_", "HITL_TEST_")
    kept = {key: text for key, text in os.environ.items() if not key.startswith(not_ours)}
    return kept | more


def complaints(stderr: str) -> list[str]:
    """What was said there, but what is no fault: that a version of the API ends, as all but the newest do, and that a
    request waited for a thread, as on a busy machine.
    """
    usual = (" ends in September 2027", "WARNING:waitress.queue:Task queue depth is ")
    return [line for line in stderr.splitlines() if not any(one in line for one in usual)]


@pytest.mark.parametrize(
    "version", [*(pytest.param(one, marks=pytest.mark.slow) for one in ("v3", "2026-03")), "2026-09"]
)
def test_scripted_story_and_its_traffic(version: str, tmp_path: Path) -> None:
    traffic = tmp_path / "traffic.jsonl"
    done = subprocess.run(
        [*DEMO, "--scripted", "--traffic", str(traffic)],
        cwd=ROOT,
        env=environment(HUBSPOT_HITL_API_VERSION=version),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == WORDS
    assert "Noor Haddad" in done.stdout.splitlines()[1]
    assert not complaints(done.stderr)
    records = [json.loads(line) for line in traffic.read_text(encoding="utf-8").splitlines()]
    assert any(one["path"].endswith("/messages") and one["method"] == "POST" for one in records)
    if version != "v3":
        assert any(version in one["path"] for one in records)
    validate(traffic, all_known=version != "2026-03")  # HubSpot publishes no such file for OAuth and contacts


def validate(traffic: Path, *, all_known: bool) -> None:
    """Hold recorded calls against HubSpot's OpenAPI files."""
    if not VALIDATOR.exists():
        if os.environ.get("CI") == "true":
            pytest.fail(f"{VALIDATOR} is missing")
        pytest.skip(f"HubSpot's OpenAPI files are not beside the repository: {VALIDATOR} is missing")
    command = [sys.executable, str(VALIDATOR), str(traffic)]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert checked.returncode == 0, checked.stdout
    assert " 0 failed, " in checked.stdout
    assert not all_known or " 0 unknown" in checked.stdout, checked.stdout


def test_a_step_that_does_not_happen_fails_the_demo() -> None:
    with pytest.raises(story.Missed, match=r"assigned: did not happen within 0\.2 s"):
        story.until("assigned", lambda: None, seconds=0.2)
    broken = (
        "import example_app.story as s; s.QUESTION = 'hours'; s.STEP_SECONDS = 1; s.until.__kwdefaults__['seconds'] = 1"
    )
    code = f"{broken}; from example_app.demo import demo; demo(['--scripted'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 1
    assert "greeting: did not happen within 1 s" in done.stderr


FREE = ("--port", "0", "--desk-port", "0")


@contextmanager
def running(options: Sequence[str] = FREE) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """The interactive demo in a process group of its own, and the two addresses it prints."""
    process = subprocess.Popen(
        [*DEMO, *options], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        addresses: list[str] = []
        while len(addresses) < 2:
            line = process.stdout.readline()
            assert line, "the demo ended early"
            addresses += [word for word in line.split() if word.startswith("http://")]
        yield process, addresses
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=60)
        process.stdout.close()


def wait_until_gone(group: int) -> None:
    """Wait until no process of a group is left."""

    def is_gone() -> bool:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        return False

    wait_until(is_gone, what="the end of all its processes")


def test_two_pages_without_login() -> None:
    with running() as (process, addresses):
        for address in addresses:
            assert address.startswith("http://127.0.0.1:")
            answer = requests.get(address, timeout=30)
            assert answer.status_code == 200
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert requests.get(addresses[0], headers={"Host": "evil.test"}, timeout=30).status_code == 400
        process.terminate()
        assert process.wait(timeout=60) == 0
        wait_until_gone(process.pid)


@pytest.mark.parametrize("how", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow), "SIGKILL", "group"])
def test_nothing_is_left_behind(how: str) -> None:
    if how == "SIGKILL" and sys.platform != "linux":
        pytest.skip("only Linux tells a child that its parent was killed")
    with running() as (process, _):
        if how == "group":
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.send_signal(getattr(signal, how))
        process.wait(timeout=60)
        wait_until_gone(process.pid)  # that nobody listens there proves less: somebody else may, by now


def test_a_port_that_is_taken_is_said_in_words() -> None:
    with running() as (_, addresses):
        port = addresses[0].rstrip("/").rpartition(":")[2]
        done = subprocess.run(
            [*DEMO, *FREE, "--port", port], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=100
        )
    assert done.returncode == 1
    assert f"Port {port} can't be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_usual_ports_are_taken_when_they_are_free() -> None:
    with contextlib.ExitStack() as held:
        for port in (demo.PORT, demo.DESK_PORT):
            one = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):  # somebody else has it: as good
                one.bind(("127.0.0.1", port))
                one.listen()
        with running(()) as (_, addresses):
            assert not {url.rstrip("/").rpartition(":")[2] for url in addresses} & {"8100", "8200"}
    port = own_port()
    with running(("--port", str(port), "--desk-port", "0")) as (_, addresses):
        assert addresses[0] == f"http://127.0.0.1:{port}/"


def needed(name: str, extra: str) -> set[str]:
    """What ``pip install 'name[extra]'`` installs, of what is here."""
    found: set[str] = set()
    left = [Requirement(f"{name}[{extra}]")]
    while left:
        one = left.pop()
        found.add(canonicalize_name(one.name))
        for line in metadata.requires(one.name) or ():
            inner = Requirement(line)
            wanted = any(inner.marker is None or inner.marker.evaluate({"extra": e}) for e in ("", *one.extras))
            if wanted and (canonicalize_name(inner.name) not in found or inner.extras):
                left.append(inner)
    return found


def test_the_demo_imports_only_what_make_demo_installs() -> None:
    """Both processes and the one that starts them, in the bridges' form too; ``make demo`` has nothing else."""
    modules = (
        "example_app.__main__ example_app.app example_app.demo example_app.bridges.chat "
        "flask_hubspot_hitl.simulator.__main__ flask_hubspot_hitl.simulator.botpress.__main__"
    )
    code = f"import sys, importlib\nfor name in {modules.split()}: importlib.import_module(name)\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    owners = metadata.packages_distributions()
    names = {name.partition(".")[0] for name in loaded.stdout.split() if not name.startswith("_")}
    used = {canonicalize_name(owner) for name in names for owner in owners.get(name, ())}
    assert {"flask", "waitress"} <= used
    assert used <= needed("Flask-HubSpot-HITL", "demo")


def test_the_starting_process_loads_no_app() -> None:
    code = "import sys, example_app.demo; print(*(name for name in sys.modules if name in ('flask', 'sqlalchemy')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.strip(), "it would cost a second of each start"
