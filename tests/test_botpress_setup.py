"""What a bridge needs before it starts, and that the example's host files talk to the real services when told to."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from example_app import bridges
from flask_hubspot_hitl import ConfigError, HubSpotHITL
from flask_hubspot_hitl.botpress.chat import ChatBridge, ChatUser
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.botpress.studio import StudioBridge
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, close_app
from .helpers import Botpress, state_of, wait_until

BRIDGES: dict[str, Callable[[], Any]] = {
    "chat": lambda: ChatBridge(HubSpotHITL(), on_message=print),
    "studio": lambda: StudioBridge(HubSpotHITL()),
    "hitl-api": lambda: HitlApiBridge(HubSpotHITL()),
}
SECRETS = [
    ("chat", "encryption_key"),
    ("chat", "webhook_secret"),
    ("studio", "token"),
    ("studio", "call_secret"),
    ("hitl-api", "secret"),
]


@pytest.mark.parametrize(("bridge", "option"), SECRETS)
@pytest.mark.parametrize("given", ["", "fifteen-letters", 123])
def test_a_secret_that_is_missing_or_short_is_said(
    make_app: MakeApp, botpress: Botpress, bridge: str, option: str, given: Any
) -> None:
    config: dict[str, Any] = {**botpress.env(), f"botpress_{option}": given}
    app = make_app(dispatcher="external", **config)
    with pytest.raises(ConfigError) as raised:
        BRIDGES[bridge]().init_app(app)
    [problem] = raised.value.problems
    assert problem.startswith(f"HUBSPOT_HITL_BOTPRESS_{option.upper()} ")
    assert str(given) == "" or str(given) not in str(raised.value)


@pytest.mark.parametrize("bridge", BRIDGES)
def test_secrets_of_sixteen_characters_will_do_and_services_on_this_machine(
    make_app: MakeApp, botpress: Botpress, bridge: str
) -> None:
    secrets = {f"botpress_{option}": "sixteen-letters!" for _, option in SECRETS}
    config: dict[str, Any] = {**botpress.env(), **secrets}
    BRIDGES[bridge]().init_app(make_app(dispatcher="external", **config))


# The real services ---------------------------------------------------------------------------------------

REAL = {
    "HUBSPOT_HITL_CLIENT_SECRET": "7b1e1c52-0000-4000-8000-5f1d3c9a2b10",
    "HUBSPOT_HITL_ACCESS_TOKEN": "pat-na1-0b6c2f3e-0000-4000-8000-2f1d3c9a2b10",
    "HUBSPOT_HITL_PORTAL_ID": "1000",
    "HUBSPOT_HITL_CHANNEL_ID": "2000",
    "HUBSPOT_HITL_CHANNEL_ACCOUNT_ID": "3000",
    "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.com",
    "HUBSPOT_HITL_DISPATCHER": "external",
    "HUBSPOT_HITL_BOTPRESS_CHAT_URL": "https://chat.botpress.cloud/0a1b2c3d-0000",
    "HUBSPOT_HITL_BOTPRESS_ENCRYPTION_KEY": "an-encryption-key-of-the-bot",
    "HUBSPOT_HITL_BOTPRESS_WEBHOOK_SECRET": "a-webhook-secret-of-the-bot",
    "HUBSPOT_HITL_BOTPRESS_BOT_ID": "6e1c2a34-0000-4000-8000-000000000001",
    "HUBSPOT_HITL_BOTPRESS_TOKEN": "bp_bak_0123456789abcdef",
    "HUBSPOT_HITL_BOTPRESS_CALL_SECRET": "a-call-secret-of-the-bot",
    "HUBSPOT_HITL_BOTPRESS_SECRET": "a-path-segment-of-the-bot",
    "HUBSPOT_HITL_BOTPRESS_WEBHOOK_URL": "https://webhook.botpress.cloud/4e5f6a7b-0000",
}


class _Proxy(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        asked: list[str] = self.server.asked  # type: ignore[attr-defined]
        asked.append(self.rfile.readline().decode().rpartition(" ")[0])
        self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    """The way out of here: its address, and the lines it was asked with. It lets nothing through."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Proxy) as server:
        server.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


class Host:
    """An app with one of the example's host files, and real credentials."""

    def __init__(self, bridge: str, proxy: str, folder: str) -> None:
        self.app = Flask("host", instance_path=folder)
        self.app.config.update(REAL, HUBSPOT_HITL_PROXY=proxy)
        self.clock = ManualClock()
        HubSpotHITL(self.app, clock=self.clock)
        bridges.connect(self.app, bridge)

    def post(self, path: str, **body: Any) -> Any:
        headers = {"Authorization": f"Bearer {REAL['HUBSPOT_HITL_BOTPRESS_CALL_SECRET']}"}
        answer = self.app.test_client().post(f"/hubspot/botpress/{path}", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def play(self, bridge: str) -> None:
        """What makes the bridge call its service."""
        if bridge == "chat":
            with self.app.app_context():
                self.app.extensions["chat_say"](ChatUser("u1"), "hello", [], "m1")
        elif bridge == "studio":
            self.post("start", conversationId="conv_1", user={"email": "+14155550123"})
        else:  # nobody can be handed over whom nobody knows: Botpress is told to go on
            base = f"hitl-api/{REAL['HUBSPOT_HITL_BOTPRESS_SECRET']}"
            self.post(f"{base}/createRemoteConversation", payload={})
            self.clock.advance(6)
        state_of(self.app).dispatcher.run_due()


@pytest.mark.parametrize(
    ("bridge", "wanted"),
    [
        ("chat", {"CONNECT chat.botpress.cloud:443"}),
        ("studio", {"CONNECT api.botpress.cloud:443", "CONNECT api.hubapi.com:443"}),
        ("hitl-api", {"CONNECT webhook.botpress.cloud:443"}),
    ],
)
def test_with_real_credentials_the_host_files_talk_to_the_real_services(
    proxy: tuple[str, list[str]], tmp_path: Any, bridge: str, wanted: set[str]
) -> None:
    address, asked = proxy
    host = Host(bridge, address, str(tmp_path / "instance"))
    host.play(bridge)
    wait_until(lambda: set(asked) == wanted, what=f"{wanted}, not {asked}")
    close_app(host.app)
