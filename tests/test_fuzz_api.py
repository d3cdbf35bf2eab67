"""A property-based fuzzer over the documented API: custom channels, conversations, OAuth, webhooks, all versions.

Whatever is asked, in the documents' shape or out of it: no 5xx, no undocumented status or content type, no answer that
breaks its schema; and nothing is answered to a caller without credentials. ``HUBSPOT_FUZZ=200`` (examples for each
operation and mode) searches longer, and at random; otherwise every run asks the same. The slow ones are other versions.
"""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from .simulator_helpers import LIFECYCLE, Host, Stand, bearer
from .traffic import TOOL, Json, must_have_documents

FAMILIES = ("custom-channels", "conversations", "oauth", "webhooks", "webhooks-journal")
DOCUMENTS = sorted(path for family in FAMILIES for path in (TOOL.parents[1] / "openapi").glob(f"{family}.*.json"))
NOT_SERVED = re.compile(r"/webhooks-journal.*(/snapshots/|/status/|/filters)")
"""Snapshots and filters of the journal are about CRM objects."""
EXAMPLES = int(os.environ.get("HUBSPOT_FUZZ", "2"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
# The 2026-09 document describes nothing but errors for the first, and so do all for revoking and for single files of
# the journal (docs/hubspot.rst: Tokens; Journal).
ONLY_ERRORS = ("/oauth/2026-09/token", "/token/revoke", "/earliest", "/latest", "/next")


def test_there_are_documents() -> None:
    if not DOCUMENTS and not must_have_documents():
        pytest.skip(f"HubSpot's documents are not beside the repository: {TOOL} is missing")
    assert len(DOCUMENTS) == 13


def without_loops(document: Json) -> Json:
    """HubSpot's generator makes every variant contain its union, which contains the variants; keep the variants."""
    schemas = document.get("components", {}).get("schemas", {})
    for name, schema in schemas.items():
        parts = schema.get("allOf", [])
        if len(parts) == 2 and "$ref" in parts[0]:
            union = schemas[parts[0]["$ref"].rpartition("/")[2]]
            if any(one.get("$ref", "").endswith(f"/{name}") for one in union.get("oneOf", [])):
                schemas[name] = parts[1]
    return document


def without_any_objects(node: Any) -> Any:
    """HubSpot's generator writes "any value" as an object without properties."""
    if isinstance(node, list):
        return [without_any_objects(item) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("type") == "object" and node.get("properties") == {} and "additionalProperties" not in node:
        return {}
    return {name: without_any_objects(item) for name, item in node.items()}


def operations(document: Json) -> list[Any]:
    """Every operation of a document that the stand-in serves."""
    document["paths"] = {path: of for path, of in document["paths"].items() if not NOT_SERVED.match(path)}
    schema: Any = schemathesis.openapi.from_dict(without_any_objects(without_loops(document)))
    return [found.ok() for found in schema.get_all_operations()]


class Known:
    """What there is in a freshly reset stand-in, by the names that the documents use."""

    def __init__(self, stand: Stand) -> None:
        stand.reset()
        message = stand.publish()
        thread_id = message["conversationsThreadId"]
        reply = stand.act(thread_id, "reply", text="Hi")
        webhooks = stand.ok("GET", "/webhooks/v3/3131/subscriptions", params=stand.developer)["results"]
        self.ids: dict[str, list[str]] = {
            "channelId": [stand.channel],
            "channelAccountId": [stand.account],
            "threadId": [thread_id],
            "messageId": [message["id"], reply["id"]],
            "actorId": ["A-987", "V-55512001", "S-hubspot"],
            "senderActorId": ["A-987"],
            "inboxId": ["700200300", "700200999"],
            "appId": ["3131"],
            "subscriptionId": [webhooks[0]["id"], webhooks[-1]["id"]],
            "accountToken": [stand.sim("POST", "staging-tokens", {})["accountToken"]],
            "token": [stand.token, stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]],
            "client_id": [stand.env["HUBSPOT_HITL_CLIENT_ID"]],
            "client_secret": [stand.env["HUBSPOT_HITL_CLIENT_SECRET"]],
            "refresh_token": [stand.env["HUBSPOT_HITL_REFRESH_TOKEN"]],
            "grant_type": ["refresh_token", "authorization_code"],
            "integrationThreadId": ["conv-1"],
            "timestamp": ["2026-10-01T09:15:30.123Z"],
        }
        self.app_token = stand.app_token()
        subscribed = stand.ok("POST", "/webhooks-journal/subscriptions/2026-03", **LIFECYCLE, **self.app_bearer)
        self.ids["subscriptionId"].append(str(subscribed["id"]))
        event = {"type": "app_lifecycle_event", "action": "APP_INSTALL", "portalId": 1, "occurredAt": 1}
        self.ids["offset"] = [stand.sim("POST", "journal/events", {"events": [event]})["offset"]]
        self.ids |= {"count": ["1"], "portalId": ["424242"], "installPortalId": ["1"]}

    @property
    def app_bearer(self) -> Json:
        """The header with the app's own token."""
        return {"headers": bearer(self.app_token)}

    def put(self, data: st.DataObject, values: Any) -> None:
        """Replace most of the values that have a known name, so that what is asked for is there."""
        if isinstance(values, dict):
            for name in sorted(set(values) & set(self.ids)):
                if data.draw(st.integers(0, 4)):
                    values[name] = data.draw(st.sampled_from(self.ids[name]))


def credentials(stand: Stand, operation: Any, known: Known) -> tuple[Json, Json]:
    """Headers and query that the operation is called with: a developer key where its document or path wants one."""
    if "webhooks-journal" in operation.path:
        return bearer(known.app_token), {}
    channel_level = operation.path.endswith(
        ("/custom-channels/v3", "/2026-03", "/custom-channels/2026-09", "{channelId}")
    )
    if "webhooks" in operation.path or (channel_level and "custom-channels" in operation.path):
        return {}, dict(stand.developer)
    return ({}, {}) if "oauth" in operation.path else (bearer(stand.token), {})


@pytest.fixture
def deaf(stand: Stand, host: Host) -> Stand:
    """A stand-in whose deliveries go to a host that takes everything."""
    return stand


LONG = ("conversations.2026-09", "custom-channels.2026-03", "custom-channels.2026-09", "oauth.v1")
"""Most of the time, and operations that another version of the document has too."""
BOTH = [pytest.param(path, marks=pytest.mark.slow if path.stem in LONG else (), id=path.stem) for path in DOCUMENTS]


@pytest.mark.parametrize("path", BOTH)
def test_fuzz(path: Any, deaf: Stand) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    for operation in operations(document):
        known = Known(deaf)
        headers, query = credentials(deaf, operation, known)
        for mode in schemathesis.GenerationMode:
            ask(deaf, operation, mode, known, headers, query)


def ask(stand: Stand, operation: Any, mode: Any, known: Known, headers: Json, query: Json) -> None:
    """Call one operation in many ways."""

    @settings(
        max_examples=EXAMPLES,
        derandomize="HUBSPOT_FUZZ" not in os.environ,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def call(case: Any, data: st.DataObject) -> None:
        known.put(data, case.path_parameters)
        known.put(data, case.body)
        case.query = {**(case.query or {}), **query}
        sent = {"User-Agent": "schemathesis", **headers}
        answer = case.call(base_url=stand.base, session=stand.http, headers=sent, timeout=30, allow_redirects=False)
        if answer.status_code == 200 and operation.path.endswith(ONLY_ERRORS):
            return
        case.validate_response(answer, checks=CHECKS)

    try:
        call()
    except (schemathesis.errors.InvalidSchema, Unsatisfiable):  # a request that may be anything can't be wrong
        if mode is not schemathesis.GenerationMode.NEGATIVE:
            raise


# --- credentials


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_operation_wants_credentials(path: Any, stand: Stand) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    known = Known(stand)
    few = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    for operation in operations(document):
        if "oauth" in operation.path:
            continue  # has its own: client id and secret, or the token that is asked about
        target = stand.base + operation.path
        for name, values in known.ids.items():
            target = target.replace(f"{{{name}}}", values[0])
        method = operation.method.upper()
        headers, query = credentials(stand, operation, known)

        def status(more: Json, wrong: Json | None = None, method: str = method, target: str = target) -> int:
            answer = requests.request(method, target, headers=more, params=wrong, json={}, timeout=30)
            assert answer.json()["category"]
            return answer.status_code

        assert status({}) == 401, operation.label
        assert status(bearer("wrong")) == 401, operation.label
        if query:
            assert status({}, {**query, "hapikey": "wrong"}) == 401, operation.label
        else:
            assert status(bearer(few)) == 403, operation.label
            assert headers


@pytest.mark.parametrize("version", ["v1", "v3", "2026-03", "2026-09"])
def test_oauth_wants_the_apps_secret(stand: Stand, version: str) -> None:
    tails = ["token"] if version == "v1" else ["token", "token/introspect", "token/revoke"]
    for tail in tails:
        for wrong in ({"client_secret": "wrong"}, {"client_id": "wrong"}, {"client_secret": ""}):
            assert stand.token_call(f"/oauth/{version}/{tail}", **wrong).status_code == 400
