"""What somebody may type after a command by mistake: one line that says what is wrong, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .conftest import MakeApp

BEYOND_64_BITS = "9" * 30


@pytest.mark.usefixtures("database_url")
@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f"dead show {BEYOND_64_BITS}", "is not in the range"),
        (f"dead retry {BEYOND_64_BITS}", "is not in the range"),
        ("dead show -1", "No such option"),
        ("dead show x", "is not a valid integer"),
        (f"dead show {2**63 - 1}", "No event 9223372036854775807 was given up"),
        (f"reconcile --thread {BEYOND_64_BITS}", "must be a number, such as 424242"),
        ("reconcile --thread \udcff", "must be a number, such as 424242"),
        (f"inboxes --portal {BEYOND_64_BITS}", "must be a number, such as 424242"),
        (f"install-url --portal {BEYOND_64_BITS}", "must be a number, such as 424242"),
        (f"setup --inbox {BEYOND_64_BITS}", "must be a number, such as 424242"),
        ("install-url --minutes nan", "is not a number"),
        ("install-url --minutes 1e300", "is not in the range"),
        ("setup --plan --wait nan", "is not a number"),
        (f"worker --threads {BEYOND_64_BITS}", "is not in the range"),
        (f"handoffs --limit {BEYOND_64_BITS}", "is not in the range"),
    ],
)
def test_numbers_that_are_none(make_app: MakeApp, line: str, says: str) -> None:
    app = make_app(dispatcher="external", SECRET_KEY="a key")
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", *line.split()])
    assert result.exit_code in (1, 2)
    assert says in result.output
    assert isinstance(result.exception, SystemExit)  # and no other


@pytest.mark.parametrize("module", ["flask_hubspot_hitl.simulator", "flask_hubspot_hitl.simulator.botpress"])
@pytest.mark.parametrize("port", ["99999", "65536", "-1", "x", "", "8" * 40])
def test_a_stand_in_is_given_a_port_that_is_none(module: str, port: str) -> None:
    done = subprocess.run([sys.executable, "-m", module, f"--port={port}"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(f"argument --port: {port!r} is no port: a number from 0 to 65535")
    assert "Traceback" not in done.stderr
