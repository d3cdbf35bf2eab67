"""What holds recorded calls against HubSpot's documents finds what is wrong with them.

The whole run's calls are held against them at its end: see ``pytest_sessionfinish`` in ``conftest.py``.
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flask_hubspot_hitl.simulator.engine.traffic import FOLDER

from .simulator_helpers import CC, CV, Stand
from .traffic import EXCEPTIONS, TOOL, Documents, Json, Problem, kind_of, must_have_documents


@pytest.fixture(scope="module")
def documents() -> Documents:
    try:
        return Documents()
    except FileNotFoundError:
        if must_have_documents():
            raise
        pytest.skip(f"HubSpot's documents are not beside the repository: {TOOL} is missing")


@pytest.fixture
def publish(stand: Stand) -> Json:
    """A right call: a publish."""
    stand.publish()
    found: Json = stand.sim("GET", "requests")[-1]
    return found


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        ("response_body", "createdAt", "yesterday"),
        ("response_body", "direction", "SIDEWAYS"),
        ("response_body", "id", 5),
        ("response_body", "conversationsThreadId", None),
        ("request_body", "messageDirection", "SIDEWAYS"),
        ("request_body", "senders", "Rosa"),
        ("request_headers", "Content-Type", "text/plain"),
        ("request_headers", "Authorization", "none"),
    ],
)
def test_a_wrong_value_is_found(documents: Documents, publish: Json, where: str, name: str, value: Any) -> None:
    assert documents.problems([publish]) == []
    broken = copy.deepcopy(publish)
    broken[where][name] = value
    assert kind_of(broken) != kind_of(publish) or name == "Authorization"
    [problem, *_] = documents.problems([broken])
    assert problem.part == ("response" if where == "response_body" else "request")


def test_a_missing_value_and_a_wrong_status_are_found(documents: Documents, publish: Json) -> None:
    broken = copy.deepcopy(publish)
    del broken["response_body"]["truncationStatus"]
    assert "truncationStatus" in documents.problems([broken])[0].what
    assert documents.problems([publish | {"status": 202}])
    assert documents.problems([publish | {"path": "/conversations/v4/custom-channels/1/messages"}])


def test_what_the_extension_leaves_out_is_no_exception(documents: Documents, stand: Stand) -> None:
    stand.call("POST", "/crm/v3/objects/contacts/search", json={})
    [search] = stand.sim("GET", "requests")
    assert documents.problems([search]) == []
    search["request_headers"]["User-Agent"] = "Flask-HubSpot-HITL"
    assert documents.problems([search])


def test_only_calls_that_are_alike_are_looked_at_once(stand: Stand) -> None:
    for _ in range(2):
        stand.publish()
    stand.publish(associateWithContactId=55512001)
    thread_id = stand.sim("GET", "threads")[0]["id"]
    stand.call("GET", f"{CV}/threads/{thread_id}")
    stand.call("GET", f"{CC}/{stand.channel}/channel-accounts", params={"archived": "true"})
    stand.call("GET", f"{CC}/{stand.channel}/channel-accounts", params={"limit": "1"})
    kinds = [kind_of(one) for one in stand.sim("GET", "requests")]
    assert len(set(kinds)) == len(kinds) - 1


def test_every_exception_is_one_for_something(publish: Json) -> None:
    """None of them swallows an ordinary mistake of the extension."""
    ours = publish | {"request_headers": {"User-Agent": "Flask-HubSpot-HITL"}, "query": {}}
    for part in ("request", "response"):
        for what in (
            "body $: 'text' is a required property",
            "status 202 undocumented",
            "no credentials the spec accepts",
        ):
            problem = Problem(ours, part, what)
            assert [reason for reason, allowed in EXCEPTIONS.items() if allowed(problem)] == []


def test_one_wrong_call_fails_the_whole_run(documents: Documents) -> None:
    environment = {name: value for name, value in os.environ.items() if name != FOLDER}
    planted = Path(__file__).with_name("planted_call.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(planted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
    assert "/conversations/v3/conversations/inboxes -> 200: response:" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
