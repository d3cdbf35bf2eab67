"""HubSpot's Node library: its signatures, and its client driven through OAuth, webhooks and contacts."""

from __future__ import annotations

from pathlib import Path

from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.hubspot.signature import sign

from .peers.node import run
from .simulator_helpers import Stand
from .test_peers_signatures import CASES, SECRET


def test_signatures(node_library: Path) -> None:
    now = SystemClock().now_ms()
    requests = [
        {
            "signatureVersion": version,
            "clientSecret": SECRET,
            "method": "POST",
            "url": uri,
            "requestBody": body,
            "timestamp": now,
            "signature": sign(version, secret=SECRET, method="POST", uri=uri, body=body.encode(), timestamp=now),
        }
        for version, uri, body in CASES
    ]
    verdicts = run(node_library, "check_signatures.cjs", requests)
    assert [verdict["made"] for verdict in verdicts] == [request["signature"] for request in requests]
    assert all(verdict["valid"] for verdict in verdicts)


def test_client(node_library: Path, stand: Stand) -> None:
    back = "http://localhost:5/back"
    client_id = stand.env["HUBSPOT_HITL_CLIENT_ID"]
    consent = {"client_id": client_id, "redirect_uri": back, "scope": "oauth"}
    answer = stand.http.post(
        f"{stand.base}/oauth/authorize",
        params=consent,
        data={"answer": "allow", "portal": "424242"},
        allow_redirects=False,
        timeout=30,
    )
    seen = run(
        node_library,
        "drive_client.cjs",
        {
            "base": stand.base,
            "token": stand.token,
            "developerKey": stand.developer["hapikey"],
            "appId": 3131,
            "clientId": client_id,
            "clientSecret": stand.env["HUBSPOT_HITL_CLIENT_SECRET"],
            "code": answer.headers["Location"].partition("code=")[2],
            "back": back,
        },
    )
    # The page opens at the address that the client builds, but for the host.
    page = stand.base + "/oauth/authorize?" + seen["authorizationUrl"].partition("?")[2]
    assert "Connect app" in stand.http.get(page, timeout=30).text
    refresh = stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]
    for tokens in (seen["exchanged"], seen["refreshed"]):
        assert (tokens["tokenType"], tokens["refreshToken"], tokens["expiresIn"]) == ("bearer", refresh, 1800)
    assert (seen["access"]["hubId"], seen["access"]["appId"], seen["access"]["scopes"]) == (424242, 3131, ["oauth"])
    assert (seen["refresh"]["clientId"], seen["refresh"]["token"]) == (client_id, refresh)
    assert (seen["revoked"]["status"], seen["revoked"]["body"]["status"]) == (400, "BAD_REFRESH_TOKEN")
    assert seen["settings"]["throttling"] == {"maxConcurrentRequests": 8}
    assert seen["subscription"]["active"] is True
    assert [one["id"] for one in seen["found"]["results"]] == [seen["made"]["id"]]
    assert seen["twice"]["status"] == 409
