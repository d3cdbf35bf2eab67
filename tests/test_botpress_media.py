"""Every Botpress message type to the agent and every kind of file back, through each bridge, bytes included."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from flask import Flask, Response
from flask import request as flask_request
from werkzeug.serving import make_server

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.botpress import notices
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge

from .conftest import MakeApp, Serve
from .helpers import Botpress, HubSpot, Json, wait_until
from .test_botpress_messages import MATRIX

KINDS = {"image": ("png", "image/png"), "audio": ("ogg", "audio/ogg"), "video": ("mp4", "video/mp4")}
KINDS["file"] = ("pdf", "application/pdf")
ASKED = {"email": "+34911222333", "name": "Rosa", "title": "Refund"}


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """A host of files, on this machine: a file's bytes are its name."""
    app = Flask("files")

    @app.get("/<path:name>")
    def file(name: str) -> Response:
        ending = name.rpartition(".")[2]
        kind = {"png": "image/png", "ogg": "audio/ogg", "mp4": "video/mp4"}.get(ending, "application/pdf")
        return Response(flask_request.path.encode(), content_type=kind)

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@dataclass
class Ends:
    """The user's end of an open session: say something, and what came back as (type, payload)."""

    say: Callable[[Json], Any]
    heard: Callable[[], list[tuple[str, Json]]]


def through_chat(app: Flask, base: str, botpress: Botpress) -> Ends:
    shown: list[Json] = []
    bridge = ChatBridge(HubSpotHITL(), on_message=lambda user, payload, **extra: shown.append({**payload, **extra}))
    bridge.init_app(app)
    botpress.control("PUT", "target", {"url": f"{base}/hubspot/botpress/chat"})

    def say(payload: Json | str) -> bool:
        with app.app_context():
            return bridge.user_message(ChatUser("u1"), payload)

    say("a human please")
    wait_until(lambda: len(shown) == 2, what="the handoff")
    return Ends(say, lambda: [(one["type"], one) for one in shown if one["author"] == "operator"])


def through_studio(app: Flask, base: str, botpress: Botpress) -> Ends:
    StudioBridge(HubSpotHITL()).init_app(app)
    botpress.control("PUT", "target", {"url": f"{base}/hubspot/botpress"})
    botpress.post("studio/turn", text="a human please")

    def heard() -> list[tuple[str, Json]]:
        bodies = [one["request_body"] for one in botpress.from_host("/v1/chat/messages") if one["method"] == "POST"]
        own = set(notices.DEFAULTS.values())  # the reply makes its writer the thread's agent, which the user is told
        return [(one["type"], one["payload"]) for one in bodies if one["payload"].get("text") not in own]

    return Ends(lambda payload: botpress.post("studio/turn", payload=payload), heard)


def through_hitl_api(app: Flask, base: str, botpress: Botpress) -> Ends:
    HitlApiBridge(HubSpotHITL()).init_app(app)
    secret = botpress.env()["HUBSPOT_HITL_BOTPRESS_SECRET"]
    botpress.control("PUT", "target", {"url": f"{base}/hubspot/botpress/hitl-api/{secret}"})
    session = botpress.post("hitl-api/escalate", **ASKED)["session"]

    def heard() -> list[tuple[str, Json]]:
        bodies = [one["request_body"] for one in botpress.from_host("/message-from-agent")]
        return [(one["messageType"], one["payload"]) for one in bodies]

    return Ends(lambda payload: botpress.post("hitl-api/say", session=session, payload=payload), heard)


THROUGH = {"chat": through_chat, "studio": through_studio, "hitl-api": through_hitl_api}


@pytest.mark.parametrize("bridge", THROUGH)
def test_every_type_and_every_file_both_ways(
    bridge: str, files: str, make_app: MakeApp, serve: Serve, botpress: Botpress, hubspot: HubSpot
) -> None:
    config: dict[str, Any] = {"dispatcher": "thread", "attachment_hosts": "127.0.0.1", **botpress.env()}
    app = make_app(**config)
    ends = THROUGH[bridge](app, serve(app), botpress)
    wait_until(hubspot.threads, what="a thread")
    thread = hubspot.threads()[-1]["id"]

    def read() -> list[Json]:
        """What the user wrote, as the agent sees it, without the opening."""
        return [one for one in hubspot.thread(thread)["messages"] if one.get("direction") == "INCOMING"][1:]

    for payload, _, media in MATRIX:
        told = json.dumps(payload)
        for one in media:
            told = told.replace(json.dumps(one.url), json.dumps(f"{files}/{str(one.url).rpartition('/')[2]}"))
        ends.say(json.loads(told))
    wait_until(lambda: len(read()) == len(MATRIX), what="every message")
    for (payload, text, media), message in zip(MATRIX, read(), strict=True):
        assert message["text"].strip() == text, payload["type"]
        assert [one["type"] for one in message["attachments"]] == ["FILE"] * len(media), payload["type"]
        for wanted, found in zip(media, message["attachments"], strict=True):
            assert requests.get(found["url"], timeout=30).content.decode() == "/" + str(wanted.url).rpartition("/")[2]

    ends.say({"type": "file", "fileUrl": "https://elsewhere.example/secret.pdf", "title": "secret"})
    wait_until(lambda: len(read()) == len(MATRIX) + 1, what="the link")
    assert read()[-1]["text"] == "[ File - secret: https://elsewhere.example/secret.pdf ]"

    attachments = [
        {"name": f"a.{ending}", "contentType": content_type, "content": base64.b64encode(kind.encode()).decode()}
        for kind, (ending, content_type) in KINDS.items()
    ]
    hubspot.act(thread, "reply", text="Look", attachments=attachments)
    wait_until(lambda: len(ends.heard()) == 1 + len(KINDS), what="the agent's files")
    text_type, text_payload = ends.heard()[0]
    assert text_type == "text"
    assert text_payload["text"].endswith("Look")
    for kind, (found_type, found_payload) in zip(KINDS, ends.heard()[1:], strict=True):
        assert found_type == kind
        assert requests.get(found_payload[f"{kind}Url"], timeout=30).content == kind.encode()
        assert ("title" in found_payload) is (bridge != "hitl-api" or kind == "file")
