"""Starting the stand-in as a real process, and a small host that takes its deliveries."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import requests

from .helpers import PATIENCE, wait_until

CC = "/conversations/v3/custom-channels"
CV = "/conversations/v3/conversations"
VERSIONS = ("v3", "2026-03", "2026-09")
LIFECYCLE: dict[str, Any] = {
    "json": {"subscriptionType": "APP_LIFECYCLE_EVENT", "eventTypeId": "4-1916193", "properties": []}
}
"""A subscription of the journal's: to apps that are removed."""
APP_SCOPES = " ".join(
    f"developer.webhooks_journal.{one}" for one in ("read", "subscriptions.read", "subscriptions.write")
)


class Stand:
    """A running stand-in, with a session that carries the preset portal's static token."""

    def __init__(self, process: subprocess.Popen[str], base: str) -> None:
        self.process, self.base = process, base
        self.http = requests.Session()
        self.http.trust_env = False
        self.env: dict[str, str] = self.http.get(f"{base}/_sim/env", timeout=30).json()
        self.token: str = self.sim("GET", "access-token")["access_token"]
        self.channel = self.env["HUBSPOT_HITL_CHANNEL_ID"]
        self.account = self.env["HUBSPOT_HITL_CHANNEL_ACCOUNT_ID"]
        self.developer = {
            "hapikey": self.env["HUBSPOT_HITL_DEVELOPER_API_KEY"],
            "appId": self.env["HUBSPOT_HITL_APP_ID"],
        }

    def call(self, method: str, path: str, **more: Any) -> requests.Response:
        """An API call with the static token."""
        headers = {"Authorization": f"Bearer {self.token}", **more.pop("headers", {})}
        return self.http.request(method, self.base + path, headers=headers, timeout=30, **more)

    def ok(self, method: str, path: str, **more: Any) -> Any:
        """An API call that must succeed; its JSON."""
        answer = self.call(method, path, **more)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def sim(self, method: str, path: str, body: Any = None) -> Any:
        """A control call that must succeed; its JSON."""
        answer = self.http.request(method, f"{self.base}/_sim/{path}", json=body, timeout=30)
        assert answer.status_code < 300, answer.text
        return answer.json()

    def egg(self, text: str = "Hello", key: str | None = "conv-1", **more: Any) -> dict[str, Any]:
        """A message as the documents want it, complete."""
        return {
            "text": text,
            "messageDirection": "INCOMING",
            "channelAccountId": self.account,
            "integrationThreadId": key,
            "timestamp": "2026-10-01T09:15:30.123Z",
            "senders": [person("rosa@example.test")],
            "recipients": [person("acme", "CHANNEL_SPECIFIC_OPAQUE_ID")],
            "attachments": [],
            **more,
        }

    def token_call(self, path: str = "/oauth/v1/token", **more: str) -> requests.Response:
        """A call of a token endpoint with the app's credentials; a refresh unless told otherwise."""
        form = {
            "grant_type": "refresh_token",
            "client_id": self.env["HUBSPOT_HITL_CLIENT_ID"],
            "client_secret": self.env["HUBSPOT_HITL_CLIENT_SECRET"],
            "refresh_token": self.env["HUBSPOT_HITL_REFRESH_TOKEN"],
            **more,
        }
        return self.http.post(self.base + path, data=form, timeout=30)

    def app_token(self, scopes: str = APP_SCOPES) -> str:
        """A token of the app itself."""
        answer = self.token_call("/oauth/2026-09/token", grant_type="client_credentials", scope=scopes)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def chaos(self, **switches: Any) -> Any:
        """Change switches; all of them as they are now."""
        return self.sim("POST", "chaos", switches)

    def reset(self) -> None:
        """Back to the preset."""
        self.sim("POST", "reset")

    def publish(self, text: str = "Hello", key: str | None = "conv-1", **more: Any) -> Any:
        """Publish a user's message; the message made."""
        return self.ok("POST", f"{CC}/{self.channel}/messages", json=self.egg(text, key, **more))

    def act(self, thread_id: str, verb: str, **body: Any) -> Any:
        """What an agent does."""
        return self.sim("POST", f"threads/{thread_id}/{verb}", body)


def bearer(token: str) -> dict[str, str]:
    """The header with an access token."""
    return {"Authorization": f"Bearer {token}"}


def person(value: str, kind: str = "HS_EMAIL_ADDRESS") -> dict[str, Any]:
    """A participant."""
    return {"deliveryIdentifier": {"type": kind, "value": value}}


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The stand-in as a process on a free port; its URL is read from its first line."""
    command = [sys.executable, "-W", "error", "-m", "flask_hubspot_hitl.simulator", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().split()[2].rstrip("/")
    finally:
        process.terminate()
        process.wait(timeout=60)
        process.stdout.close()


class Host:
    """A host's webhook: keeps what it is sent; ``answers`` are used up first, then 200."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.answers: list[int] = []
        self.delay = 0.0
        self.overlap = False
        busy = threading.Lock()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                host.overlap = host.overlap or not busy.acquire(blocking=False)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(host.delay)
                host.headers.append({name.lower(): value for name, value in self.headers.items()})
                host.bodies.append(body)  # last: by the bodies a test knows that it came
                status = host.answers.pop(0) if host.answers else 200
                if busy.locked():
                    busy.release()
                self.send_response(status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/hubspot/webhook?who=a%40b.test&sp=x%20y"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def events(self) -> list[Any]:
        """Every event so far, arrays taken apart."""
        flat: list[Any] = []
        for body in list(self.bodies):
            parsed = json.loads(body)
            flat += parsed if isinstance(parsed, list) else [parsed]
        return flat

    def kinds(self) -> list[str]:
        """What each event is, in short."""
        return [short(event) for event in self.events()]


def short(event: dict[str, Any]) -> str:
    """An event's type, with property and value where it has them."""
    if "subscriptionType" not in event:
        return str(event["type"])
    name = str(event["subscriptionType"]).removeprefix("conversation.")
    if name == "propertyChange":
        return f"{event['propertyName']}={event.get('propertyValue', '?')}"
    return f"{name}:{event['messageType']}" if name == "newMessage" else name


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until something holds. That it takes long on a busy machine is no failure."""
    wait_until(condition, timeout=seconds, what="something of the stand-in's")
