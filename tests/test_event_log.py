"""What the log tells of each event: one line when it is through, put off or given up, with ids and without content."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, operator_message
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.metrics.logs import JSONFormatter

from .conftest import MakeApp
from .helpers import PORTAL, HubSpot, Recorder
from .story import Story


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, Recorder(app))


def test_an_event_knows_the_correlation_id_of_hubspots_last_answer(story: Story) -> None:
    """In a run of its own thread with a deadline, as ``start`` has it, and in a plain one; the last one in any run."""
    runner = story.state.dispatcher.runner
    story.hubspot.chaos(faults=[{"match": ".", "times": None, "status": 503}])
    story.start("c1")
    lease = runner.claim()
    story.clock.advance(600)
    lease = lease or runner.claim()
    assert lease is not None
    assert lease.head is not None
    event = lease.head
    first = story.hubspot.requests()[-1]["response_body"]["correlationId"]
    assert event.correlation_id == first, "that of the run before is kept with the event"
    outcome = runner.perform(lease)
    assert event.correlation_id == story.hubspot.requests()[-1]["response_body"]["correlationId"]
    story.hubspot.chaos(faults=[])
    refused = event.correlation_id
    runner.perform(lease)
    assert event.correlation_id not in (None, refused), "an answer that says yes has one, too"
    runner.settle(lease, outcome, go_on=False)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was told of events."""
    return [one for one in caplog.records if one.name == "flask_hubspot_hitl.events"]


def test_each_event_has_one_line_when_it_is_through_with_its_ids_at_the_end(
    story: Story, caplog: pytest.LogCaptureFixture, record: Callable[[Flask], Recorder]
) -> None:
    record(story.app)
    caplog.set_level(logging.INFO, "flask_hubspot_hitl.events")
    handoff = story.start("wa:+4479460")
    thread = handoff.thread_id
    story.says(thread)
    found = lines(caplog)
    assert len({vars(one)["event_id"] for one in found}) == len(found), "no event has two"
    opened, inbound = (next(one for one in found if vars(one)["topic"] == name) for name in ("open", "message"))
    for line in (opened, inbound):
        facts = vars(line)
        assert line.levelname == "INFO"
        assert facts["handoff_id"] == handoff.id
        assert (facts["portal_id"], facts["attempt"]) == (PORTAL, 1)
        assert facts["duration_ms"] >= 0
        assert re.search(
            r" is through  event_id=\d+ topic=\w+ .*handoff_id=[0-9a-f]+ attempt=1 duration_ms=", line.getMessage()
        )
    assert vars(opened)["correlation_id"]
    assert vars(inbound)["thread_id"] == thread
    assert "+4479460" not in caplog.text, "the host's name of a conversation may be somebody's number"
    assert "error" not in vars(opened)


def test_an_event_has_one_line_each_time_it_is_put_off_and_one_when_it_is_given_up(
    story: Story, caplog: pytest.LogCaptureFixture
) -> None:
    story.start("c1")
    story.hubspot.chaos(faults=[{"match": ".", "times": None, "status": 503}])
    with story.app.app_context():
        HubSpotHITL().send("c1", "what the user says")
    for attempt in (1, 2):
        story.state.dispatcher.run_due()
        [line] = lines(caplog)
        facts = vars(line)
        assert (line.levelname, facts["attempt"], facts["code"]) == (
            "WARNING", attempt, "HubSpotUnavailable 503 INTERNAL_ERROR",
        )  # fmt: skip
        assert facts["correlation_id"] == story.hubspot.requests()[-1]["response_body"]["correlationId"]
        assert facts["due_at"].startswith("20")
        assert "is put off: publishing a message: HubSpot answered 503" in line.getMessage()
        caplog.clear()
        story.clock.advance(60)
    story.clock.advance(86_400)
    story.state.dispatcher.run_due()
    [line] = [one for one in lines(caplog) if vars(one)["topic"] == "publish"]
    assert line.levelname == "ERROR"
    assert "is given up: HubSpot could not be reached for 24 hours. Its lane goes on" in line.getMessage()
    assert "what the user says" not in caplog.text


def test_a_receiver_that_fails_again_and_again_counts(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    def fail(sender: Flask, **extra: Any) -> None:
        raise KeyError("x")

    operator_message.connect(fail, story.app)
    thread = story.start("c1").thread_id
    story.says(thread, "hello")
    for attempt in (1, 2, 3):
        story.state.dispatcher.run_due()
        [line] = [one for one in lines(caplog) if ".fail raised KeyError  " in one.getMessage()]
        assert vars(line)["attempt"] == attempt
        caplog.clear()
        story.clock.advance(600)


def test_an_event_that_no_line_is_wanted_of_costs_no_look_up(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "flask_hubspot_hitl.events")
    story.start("c1")
    assert not lines(caplog)


# --- JSON ------------------------------------------------------------------------------------------------

HOST = """
import logging, os, sys
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL, operator_message

if "early" in sys.argv:
    logging.basicConfig(level="INFO")
app = Flask("host")
app.config.update({key: value for key, value in os.environ.items() if key.startswith("HUBSPOT_HITL_")})
hitl = HubSpotHITL(app)
again = Flask("again")
again.config.update(app.config)
HubSpotHITL(again)
if "early" not in sys.argv:
    logging.basicConfig(level="INFO")
logging.getLogger("host").warning("the host's own")
with app.app_context():
    hitl.start("c1", contact="+34911222333")
"""


@pytest.mark.parametrize("when", ["early", "late"])
def test_json_is_told_once_whatever_the_host_has_set_up(when: str, hubspot: HubSpot, tmp_path: Path) -> None:
    own = {"PUBLIC_URL": "http://127.0.0.1:9", "DATABASE_URL": f"sqlite:///{tmp_path}/h.sqlite3", "LOG_JSON": "1"}
    env = {**os.environ, **hubspot.env(), **{f"HUBSPOT_HITL_{name}": value for name, value in own.items()}}
    env["HUBSPOT_HITL_DISPATCHER"] = "inline"
    command = [sys.executable, "-c", HOST, when]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=True)
    told = done.stderr.splitlines()
    assert told.count("WARNING:host:the host's own") == 1
    ours = [json.loads(one) for one in told if one.startswith("{")]
    assert not [one for one in told if "flask_hubspot_hitl" in one and not one.startswith("{")]
    [opened] = [one for one in ours if one.get("topic") == "open"]
    assert opened["message"] == f"Event {opened['event_id']} (open) is through"
    assert (opened["level"], opened["logger"], opened["portal_id"]) == ("INFO", "flask_hubspot_hitl.events", PORTAL)
    assert opened["time"].endswith("+00:00")


def test_a_formatter_for_handlers_of_the_hosts_own() -> None:
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JSONFormatter())
    logger = logging.Logger("host")
    logger.addHandler(handler)
    try:
        raise ValueError("x")
    except ValueError:
        logger.exception("went wrong: %s", "ü\n")
    told = json.loads(out.getvalue())
    assert out.getvalue().count("\n") == 1
    assert told["message"] == "went wrong: ü\n"
    assert "ValueError" in told["exception"]
