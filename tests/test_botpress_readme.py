"""What ``docs/bridges.rst`` says, run as pasted: the host's code, and the Studio's two snippets in Node."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, wait_until
from .test_readme import blocks, files

PEER = Path(__file__).parent / "peers" / "studio.mjs"
EVENT = {"conversationId": "conv_01", "userId": "user_01", "botId": "bot_01", "integration": "webchat", "type": "text"}


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("the Studio's snippets need Node")
        pytest.skip("Node is not installed")
    return found


class Studio:
    """A bot that has both snippets."""

    def __init__(self, node: str, url: str, secret: str) -> None:
        self.node = node
        self.env = {"HITL_URL": url, "HITL_SECRET": secret}
        self.logged: list[str] = []

    def run(self, name: str, message_id: str, text: str, **env: str) -> Json:
        [snippet] = [one for one in blocks("javascript") if one.startswith(f"// {name}\n")]
        event = {
            **EVENT,
            "id": f"evt_{message_id}",
            "messageId": message_id,
            "preview": text,
            "payload": {"text": text},
        }
        workflow = {"name": "Rosa", "email": "+34911222333"}
        given = {"snippet": snippet, "event": event, "env": {**self.env, **env}, "workflow": workflow}
        done = subprocess.run(
            [self.node, str(PEER)], input=json.dumps(given), capture_output=True, text=True, timeout=100
        )
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        self.logged = found["logged"]
        workflow_after: Json = found["workflow"]
        return workflow_after


def test_the_studios_snippets(node: str, make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot) -> None:
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app = make_app(**config)
    StudioBridge(HubSpotHITL()).init_app(app)
    base = serve(app)
    studio = Studio(node, f"{base}/hubspot/botpress", botpress.env()["HUBSPOT_HITL_BOTPRESS_CALL_SECRET"])
    assert studio.run("gate", "m1", "human please")["hitlHandled"] is False
    assert studio.run("escalation", "m1", "human please")["hitlMessage"] == notices.DEFAULTS[notices.HANDOFF]
    wait_until(hubspot.threads, what="a thread")
    assert studio.run("gate", "m2", "my order?")["hitlHandled"] is True
    wait_until(lambda: "my order?" in str(hubspot.threads()[-1]["messages"]), what="the user's text")
    hubspot.act(hubspot.threads()[-1]["id"], "close")
    wait_until(lambda: botpress.from_host("/v1/chat/messages"), what="the end")
    turns: list[Json] = []

    def is_told() -> bool:
        """With the first turn after the end, whenever that is."""
        turns.append(studio.run("gate", f"m3-{len(turns)}", "thanks"))
        return "hitlEnded" in turns[-1]

    wait_until(is_told, what="what the bot should know of the end")
    after = turns[-1]
    assert after["hitlHandled"] is False
    assert [one["text"] for one in after["hitlEnded"]["transcript"]] == ["my order?"]
    # the gate and the escalation fail open
    assert studio.run("gate", "m4", "hi", HITL_SECRET="wrong")["hitlHandled"] is False
    assert studio.logged == ["HITL gate: Request failed with status code 401"]
    assert "No human" in studio.run("escalation", "m5", "hi", HITL_URL="http://127.0.0.1:9")["hitlMessage"]


def test_the_hosts_code_of_the_chat_bridge(
    make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot
) -> None:
    config: dict[str, Any] = {"dispatcher": "thread", **botpress.env()}
    app: Flask = make_app(**config)
    printed: list[str] = []
    [code] = files("botpress_chat.py")
    module = {"app": app, "hitl": HubSpotHITL(), "print": lambda *parts: printed.append(" ".join(map(str, parts)))}
    exec(compile(code, "README.rst, botpress_chat.py", "exec"), module)
    botpress.control("PUT", "target", {"url": f"{serve(app)}/hubspot/botpress/chat"})
    assert app.test_client().post("/talk/u1", data={"text": "human please"}).status_code == 204
    wait_until(lambda: len(printed) == 2, what="the bot's answer and the handoff")
    assert printed == ["u1 bot Connecting you…", f"u1 system {notices.DEFAULTS[notices.HANDOFF]}"]


def test_every_option_in_the_readme_is_one(make_app: MakeApp, botpress: Botpress) -> None:
    named = {line.partition("=")[0] for block in blocks("ini") for line in block.splitlines()}
    assert named < set(botpress.env())
    assert len(named) == 8
