"""HubSpot's own Python library accepts what we sign and makes what we accept; Node's is in ``test_peers_node``."""

from __future__ import annotations

from typing import Any

import pytest
from hubspot.utils.signature import Signature

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.hubspot.signature import sign, verify

SECRET = "demo-client-secret-0001"
VERSIONS = ("v1", "v2", "v3")
BODIES = ("", '[{"eventId":1}]', '{"text":"Olá 👋 – é"}')
# HubSpot's libraries don't decode the URL, so only addresses without escapes can agree.
URIS = ("https://bot.example.test/hubspot/webhook", "https://bot.example.test/hubspot/channel?token=a-b&x=1")
CASES = [(version, uri, body) for version in VERSIONS for uri in URIS for body in BODIES]


@pytest.mark.parametrize(("version", "uri", "body"), CASES)
def test_python_library(version: str, uri: str, body: str) -> None:
    now = SystemClock().now_ms()
    ours = sign(version, secret=SECRET, method="POST", uri=uri, body=body.encode(), timestamp=now)
    peer: dict[str, Any] = {
        "client_secret": SECRET,
        "request_body": body,
        "http_uri": uri,
        "http_method": "POST",
        "signature_version": version,
        "timestamp": str(now),
    }
    assert Signature.is_valid(signature=ours, **peer)
    theirs = Signature.get_signature(**peer)
    request: dict[str, Any] = {"method": "POST", "uri": uri, "body": body.encode(), "now_ms": now}
    assert verify(version, signature=theirs, secrets=SECRET, timestamp=str(now), **request)
