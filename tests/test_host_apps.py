"""Host apps that are unlike ours: hosts are matched, and somebody reads every request's body."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask, request

from flask_hubspot_hitl import HubSpotHITL, webhook_rejected
from flask_hubspot_hitl.botpress.hitl_api import HitlApiBridge
from flask_hubspot_hitl.hubspot import signature

from .conftest import MakeApp, Serve
from .helpers import signed_post, state_of, status_event

BRIDGE_SECRET = "s" * 32


# Hosts are matched ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["bot.example.com", "10.1.2.3:8000", "localhost"])
def test_all_our_routes_are_there_when_hosts_are_matched(make_app: MakeApp, tmp_path: Path, host: str) -> None:
    given = make_app(dispatcher="inline", SECRET_KEY="a key")
    app = Flask("matching", host_matching=True, static_host="static.example.com", instance_path=str(tmp_path / "i"))
    app.config.from_mapping(given.config)
    app.config["HUBSPOT_HITL_DATABASE_URL"] = f"sqlite:///{tmp_path / 'matching.sqlite3'}"
    hitl = HubSpotHITL(app)
    HitlApiBridge(hitl, secret=BRIDGE_SECRET, webhook_url="http://127.0.0.1:9/x").init_app(app)
    client, at = app.test_client(), f"http://{host}"
    event = status_event("CLOSED", at=state_of(app).ledger.now_ms())
    assert signed_post(client, [event], base_url=at).status_code == 204
    assert client.get("/hubspot/healthz", base_url=at).json == {"status": "ok"}
    for path in ("/oauth/install", "/oauth/callback", "/connect"):
        page = client.get(f"/hubspot{path}", base_url=at)
        assert page.status_code in (200, 400, 403), path
        assert 'href="static/page.css"' in page.text or "/static/page.css" in page.text
    with client.get("/hubspot/static/page.css", base_url=at) as style:
        assert style.status_code == 200
    ping = client.post(f"/hubspot/botpress/hitl-api/{BRIDGE_SECRET}/ping", json={}, base_url=at)
    assert (ping.status_code, ping.json) == (200, {})
    state_of(app).close(timeout=20)


# Somebody has read the body -------------------------------------------------------------------------------


def _stream(app: Flask) -> None:
    app.before_request(lambda: request.stream.read() and None)


def _uncached(app: Flask) -> None:
    app.before_request(lambda: request.get_data(cache=False) and None)


def _half(app: Flask) -> None:
    app.before_request(lambda: request.stream.read(1) and None)


def _middleware(app: Flask) -> None:
    inner: Any = app.wsgi_app

    def reads(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO()  # at its end, where Werkzeug's own server would wait for more
        result: Iterable[bytes] = inner(environ, start_response)
        return result

    app.wsgi_app = reads  # type: ignore[method-assign]  # as Flask's documentation has it


def _post(app: Flask, url: str, body: Any) -> requests.Response:
    """As HubSpot would sign; a generator goes without a length."""
    runtime, raw = state_of(app), b"[]"
    secret, uri = runtime.settings.client_secret[0], runtime.settings.webhook_urls()[0]
    headers = signature.headers("v3", secret=secret, uri=uri, body=raw, timestamp=runtime.ledger.now_ms())
    with requests.Session() as http:
        http.trust_env = False
        return http.post(f"{url}/hubspot/webhook", data=body, headers=headers, timeout=20)


@pytest.mark.parametrize("swallow", [_stream, _uncached, _half, _middleware])
def test_a_swallowed_body_is_a_reason_of_its_own(
    make_app: MakeApp, serve: Serve, caplog: pytest.LogCaptureFixture, swallow: Callable[[Flask], None]
) -> None:
    app = make_app(dispatcher="inline")
    swallow(app)
    url = serve(app, target=False)
    reasons: list[str] = []

    def note(sender: Flask, *, reason: str, **extra: object) -> None:
        reasons.append(reason)

    webhook_rejected.connect(note, app)
    answer = _post(app, url, b"[]")
    assert (answer.status_code, answer.json()) == (400, {"error": "the body did not arrive whole"})
    assert reasons == ["body_gone"]
    [said] = [one.getMessage() for one in caplog.records if one.name == "flask_hubspot_hitl.web.webhook"]
    assert said.startswith(
        "A webhook was rejected (body_gone); its body did not arrive whole: a before_request function"
    )


def test_a_body_that_a_hook_has_kept_is_good(make_app: MakeApp, serve: Serve) -> None:
    app = make_app(dispatcher="inline")
    app.before_request(lambda: request.get_json(silent=True) and None)
    assert _post(app, serve(app, target=False), b"[]").status_code == 204


def test_a_bridge_tells_of_a_swallowed_body_too(
    make_app: MakeApp, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(dispatcher="inline")
    HitlApiBridge(HubSpotHITL(), secret=BRIDGE_SECRET, webhook_url="http://127.0.0.1:9/x").init_app(app)
    _stream(app)
    url = serve(app, target=False)
    answer = requests.post(f"{url}/hubspot/botpress/hitl-api/{BRIDGE_SECRET}/ping", json={"a": 1}, timeout=20)
    assert (answer.status_code, answer.json()) == (400, {"error": "the body did not arrive whole"})
    assert "did not arrive whole" in caplog.text
