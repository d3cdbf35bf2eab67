"""A property-based fuzzer over HubSpot's documents, all families and versions that the stand-in serves.

Whatever is asked, in the documents' shape or out of it, alone or in walks: no 5xx, no undocumented status or content
type, no answer off its schema; what the documents do not allow is refused, and so is a caller without credentials.
``HUBSPOT_FUZZ=200`` searches longer (``fuzzing.py``); most documents are slow ones.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis

from .fuzzing import EXAMPLES, MORE, NEGATIVE, POSITIVE, Target, ask, walk
from .simulator_helpers import LIFECYCLE, Host, Stand, bearer
from .traffic import TOOL, Json, must_have_documents

FAMILIES = (
    *("custom-channels", "conversations", "oauth", "webhooks", "webhooks-journal"),
    *("contacts", "files", "users", "tickets", "notes", "teams"),
)
DOCUMENTS = sorted(path for family in FAMILIES for path in (TOOL.parents[1] / "openapi").glob(f"{family}.*.json"))
NOT_SERVED = re.compile(
    # snapshots and filters of the journal are about CRM objects; the rest is told as not served (501)
    r"/webhooks-journal.*(/snapshots/|/status/|/filters)|.*/import-from-url/|.*/associations/"
    r"|/crm/objects/2026-09/(users|tickets|notes)/(merge|batch/upsert)|/crm/v3/objects/users/batch/upsert"
)
STEPS = 25
"""Calls of a walk."""
# The 2026-09 document describes nothing but errors for the first, and so do all for revoking and for single files of
# the journal (docs/hubspot.rst: Tokens; Journal).
ONLY_ERRORS = ("/oauth/2026-09/token", "/token/revoke", "/earliest", "/latest", "/next", "/download")


def test_there_are_documents() -> None:
    if not DOCUMENTS and not must_have_documents():
        pytest.skip(f"HubSpot's documents are not beside the repository: {TOOL} is missing")
    assert len(DOCUMENTS) == 22


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


def operations(path: Path) -> list[Any]:
    """Every operation of a document that the stand-in serves."""
    document: Json = json.loads(path.read_text(encoding="utf-8"))
    kind = path.stem.partition(".")[0]  # of the records of which a document speaks that says {objectType}
    paths = {path.replace("{objectType}", kind): without_object_type(of) for path, of in document["paths"].items()}
    document["paths"] = {path: of for path, of in paths.items() if not NOT_SERVED.match(path)}
    schema: Any = schemathesis.openapi.from_dict(without_any_objects(without_loops(document)))
    return [found.ok() for found in schema.get_all_operations()]


def without_object_type(item: Json) -> Json:
    """A path's operations without the parameter whose place a word has taken."""
    return {
        method: {
            **of,
            "parameters": [one for one in of.get("parameters", []) if one.get("name") != "objectType"],
        }
        for method, of in item.items()
    }


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
        self.everything = bearer(stand.sim("GET", "access-token?scopes=*")["access_token"])
        agents = stand.ok("GET", "/crm/v3/objects/users", headers=self.everything)["results"]
        folder = stand.ok("POST", "/files/v3/folders", json={"name": "known"})
        parts = {"file": ("a.txt", b"a"), "options": (None, '{"access": "PRIVATE"}'), "folderPath": (None, "/known")}
        team = {"name": "known", "members": [{"userId": "987", "type": "DEFAULT"}]}
        teams = "/settings/teams/2026-09-beta"
        self.ids |= {
            "contactId": ["55512001", "55512002"],
            "objectId": ["55512001", "55512003", agents[0]["id"]],
            "userId": ["987", agents[0]["id"]],
            "teamId": [stand.ok("POST", teams, json=team, headers=self.everything)["id"]],
            "fileId": [stand.ok("POST", "/files/v3/files", files=parts)["id"]],
            "folderId": [folder["id"]],
            "taskId": [folder["id"]],
            "folderPath": ["known", "other/place"],
            "path": ["known", "known/a.txt"],
            "options": ['{"access": "PRIVATE"}'],
            "primaryObjectId": ["55512001"],
            "objectIdToMerge": ["55512002"],
            "idProperty": ["email", "hs_object_id"],
            "parentFolderId": [folder["id"]],
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


def credentials(stand: Stand, operation: Any, known: Known) -> tuple[Json, Json]:
    """Headers and query that the operation is called with: a developer key where its document or path wants one."""
    if "webhooks-journal" in operation.path:
        return bearer(known.app_token), {}
    channel_level = operation.path.endswith(
        ("/custom-channels/v3", "/2026-03", "/custom-channels/2026-09", "{channelId}")
    )
    if operation.path.startswith(("/crm/", "/files/", "/settings/")):
        return known.everything, {}
    if "webhooks" in operation.path or (channel_level and "custom-channels" in operation.path):
        return {}, dict(stand.developer)
    return ({}, {}) if "oauth" in operation.path else (bearer(stand.token), {})


@pytest.fixture
def deaf(stand: Stand, host: Host) -> Stand:
    """A stand-in whose deliveries go to a host that takes everything."""
    return stand


QUICK = ("conversations.v3", "oauth.2026-09", "webhooks.v3", "webhooks-journal.2026-03", "teams.2026-09-beta")
"""Of each kind one that is done in seconds; the others are slow ones, and are looked at with more examples."""
BOTH = [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem) for path in DOCUMENTS]
WALKED = [
    pytest.param(path, marks=() if "teams" in path.stem else pytest.mark.slow, id=path.stem) for path in DOCUMENTS
]


@pytest.mark.timeout(900)  # some take minutes on a busy machine, in their slow form
@pytest.mark.parametrize("path", BOTH)
def test_fuzz(path: Path, deaf: Stand) -> None:
    examples = EXAMPLES if path.stem in QUICK else MORE
    for operation in operations(path):
        known = Known(deaf)
        for mode in (POSITIVE, NEGATIVE):
            ask(target(deaf, known), operation, mode, examples=examples)


def target(stand: Stand, known: Known) -> Target:
    """The stand-in, with what there is in it."""
    return Target(
        base=stand.base,
        http=stand.http,
        ids=known.ids,
        credentials=lambda operation: credentials(stand, operation, known),
        only_errors=ONLY_ERRORS,
        lenient=lenient,
    )


FREE = "after|associations|attachments|filterGroups|limit|properties|propertiesWithHistory|recipients|sorts|timestamp"
TEXT_OF = r"\(was string, became (number|integer|boolean)"
LENIENT = {
    r"PATCH \S+ `required`": "what is changed in part need not be told whole",
    rf"(/crm/|/custom-channels)\S* `required` .*\b({FREE})\b": "the documents require what HubSpot does not "
    "(docs/hubspot.rst: Message body; Contact search)",
    rf"/crm/\S* `type` at \S*/additionalProperties {TEXT_OF}": "HubSpot makes text of numbers and booleans",
}
"""What is taken although the document does not allow it, and why."""


def lenient(case: Any, why: str) -> bool:
    """Whether there is nothing else wrong with the request."""
    broken = " ".join(why.partition("Invalid component:")[2].partition("\n\n")[0].split()).split("violates ")[1:]
    calls = [f"{case.operation.label} {one}" for one in broken]
    return bool(calls) and all(any(re.search(known, one) for known in LENIENT) for one in calls)


@pytest.mark.timeout(900)  # some take minutes on a busy machine, in their slow form
@pytest.mark.parametrize("path", WALKED)
def test_walks(path: Path, deaf: Stand) -> None:
    """One call after the other in the same world, with the ids of what was made and removed before."""
    walks = EXAMPLES if path.stem in QUICK else MORE
    found = walk(lambda: target(deaf, Known(deaf)), operations(path), walks=walks, steps=STEPS)
    assert any(status < 300 for statuses in found.values() for status in statuses)


# --- credentials


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_every_operation_wants_credentials(path: Path, stand: Stand) -> None:
    known = Known(stand)
    few = stand.sim("GET", "access-token?scopes=oauth")["access_token"]
    for operation in operations(path):
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
