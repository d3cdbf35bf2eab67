"""The stand-in takes uploads of projects: what becomes of the files, what is dropped, what is refused.

Source: docs/hubspot.rst (Project apps; What the project reader drops).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from flask_hubspot_hitl.hubspot.signature import sign

from .project_helpers import APP, BACK, HOOKS, NEEDED, Folder, install_here, refused, shown, upload
from .simulator_helpers import CC, VERSIONS, Host, Stand, until


@pytest.fixture
def folder() -> Folder:
    """A good project."""
    return Folder()


# --- uploads


def test_an_upload_makes_the_app_that_the_files_describe(stand: Stand, folder: Folder) -> None:
    made = upload(stand, folder)
    assert (made["name"], made["kind"], made["created"], made["skipped"]) == ("Live agents", "project", True, [])
    assert sorted(made["components"], key=lambda one: str(one["type"])) == [
        {"uid": "handoff_app", "type": "app", "path": APP},
        {"uid": "handoff_webhooks", "type": "webhooks", "path": HOOKS},
    ]
    app = shown(stand, made["app_id"])
    words = [made[name] for name in ("client_id", "client_secret", "developer_api_key")]
    assert [app[name] for name in ("client_id", "client_secret", "developer_key")] == words
    assert (app["distribution"], app["may_install"], app["installs"]) == ("private", 10, [])
    assert (app["required_scopes"], app["optional_scopes"]) == (NEEDED, ["crm.objects.contacts.write", "tickets"])
    assert (app["target_url"], app["max_concurrent"]) == ("https://bot.example.test/hubspot/webhook", 12)
    assert app["subscriptions"] == [
        {"type": "conversation.newMessage", "property": None, "active": True},
        {"type": "conversation.propertyChange", "property": "status", "active": True},
    ]


def test_the_same_project_again_changes_the_same_app(stand: Stand, folder: Folder) -> None:
    first = upload(stand, folder)
    assert upload(stand, folder) == first | {"created": False}
    folder.config["name"] = "Renamed"
    folder.auth["requiredScopes"].remove("conversations.write")
    folder.auth["redirectUrls"] = [BACK]
    folder.events[0]["active"] = False
    del folder.events[1]
    again = upload(stand, folder)
    assert (again["app_id"], again["name"]) == (first["app_id"], "Renamed")
    app = shown(stand, first["app_id"])
    assert "conversations.write" not in app["required_scopes"]
    assert app["redirect_urls"] == [BACK]
    assert app["subscriptions"] == [{"type": "conversation.newMessage", "property": None, "active": False}]
    folder.hooks = None
    upload(stand, folder)
    app = shown(stand, first["app_id"])
    assert (app["target_url"], app["subscriptions"]) == (None, [])


def test_other_projects_and_other_accounts_are_other_apps(stand: Stand, folder: Folder) -> None:
    made = [upload(stand, folder, portal_id=account) for account in ("1", "2")]
    made.append(upload(stand, Folder("other"), portal_id="2"))
    assert len({one["app_id"] for one in made}) == 3
    keys = [one["developer_api_key"] for one in made]
    assert keys[0] != keys[1] == keys[2], "an account has one developer key"

    def channels(key: str, app_id: str) -> int:
        asked = {"hapikey": key, "appId": app_id}
        return stand.http.get(f"{stand.base}{CC}", params=asked, timeout=30).status_code

    assert [channels(keys[2], one["app_id"]) for one in made] == [401, 200, 200]
    assert channels("sim-developer-key-0001", made[0]["app_id"]) == 401


@pytest.mark.parametrize("version", VERSIONS)
def test_a_channel_of_a_project_app_is_registered_with_the_developer_key(
    stand: Stand, folder: Folder, version: str
) -> None:
    made = upload(stand, folder)
    base = CC if version == "v3" else f"/conversations/custom-channels/{version}"
    key = {"hapikey": made["developer_api_key"], "appId": made["app_id"]}
    body = {"name": "Bot", "capabilities": {}, "webhookUrl": "https://bot.example.test/hubspot/webhook"}
    answer = stand.http.post(f"{stand.base}{base}", params=key, json=body, timeout=30)
    assert answer.status_code == 201, answer.text
    listed = stand.http.get(f"{stand.base}{base}", params=key, timeout=30).json()["results"]
    assert [one["name"] for one in listed] == ["Bot"]


def test_what_the_files_subscribe_to_is_delivered_and_signed(stand: Stand, host: Host, folder: Folder) -> None:
    theirs = Host()
    folder.hooks["config"]["settings"]["targetUrl"] = theirs.url
    made = upload(stand, folder)
    stand.publish("Before", "conv-0")
    install_here(stand, made["app_id"])
    thread = stand.publish("Hello")["conversationsThreadId"]
    stand.act(thread, "close")
    until(lambda: len(theirs.events()) >= 2 and stand.sim("GET", "pending") == {"deliveries": 0})
    theirs.close()
    assert theirs.kinds() == ["newMessage:MESSAGE", "status=CLOSED"], "and nothing that was not subscribed to"
    assert {event["appId"] for event in theirs.events()} == {int(made["app_id"])}
    assert {event["appId"] for event in host.events()} == {3131}, "the other app hears what it has heard"
    for body, headers in zip(theirs.bodies, theirs.headers, strict=True):
        stamp = headers["x-hubspot-request-timestamp"]
        right = sign("v3", secret=made["client_secret"], method="POST", uri=theirs.url, body=body, timestamp=stamp)
        assert headers["x-hubspot-signature-v3"] == right


# --- what the reader drops, and what validation refuses


DROPPED = {
    "a folder too deep": ("src/app/webhooks/bot/webhooks-hsmeta.json", "{}", "not directly in the folder"),
    "a byte order mark": (HOOKS, "\ufeff{}", "byte order mark"),
    "a comment": (HOOKS, "// what we hear\n{}", "comments"),
    "not JSON at all": (HOOKS, "", "Invalid JSON"),
    "a list": (HOOKS, "[{}]", "not a JSON object"),
    "its type in capitals": (HOOKS, '{"uid": "w", "type": "Webhooks", "config": {}}', "'webhooks'"),
    "no uid": (HOOKS, '{"type": "webhooks", "config": {}}', "'uid'"),
}


@pytest.mark.parametrize("flaw", DROPPED)
def test_what_can_not_be_read_or_linked_is_dropped(stand: Stand, folder: Folder, flaw: str) -> None:
    path, text, why = DROPPED[flaw]
    folder.hooks, folder.more = None, {path: text}
    made = upload(stand, folder)
    assert [one["type"] for one in made["components"]] == ["app"]
    [skipped] = made["skipped"]
    assert skipped["path"] == path
    assert why in skipped["why"]
    app = shown(stand, made["app_id"])
    assert (app["target_url"], app["subscriptions"]) == (None, [])
    stand.chaos(project_flaws="refused")
    if flaw == "a folder too deep":
        assert upload(stand, folder)["skipped"] == [skipped], "this one is dropped in any case (open question 22)"
    else:
        assert why in refused(stand, folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"uid": "a", "type": "App", "config": {}}', "'app'"),
        ("\ufeff{}", "byte order mark"),
        ('{"type": "app", "config": {}}', "'uid'"),
    ],
)
def test_without_an_app_there_is_nothing_to_upload(stand: Stand, folder: Folder, text: str, why: str) -> None:
    folder.more = {APP: text}
    words = refused(stand, folder)
    assert "no app component" in words
    assert why in words
    assert "must be a child of the 'app' component" in words, "the webhooks are lost with it"
    assert [one["kind"] for one in stand.sim("GET", "projects")["apps"]] == ["legacy-public"]


def test_of_two_apps_the_last_one_counts(stand: Stand, folder: Folder) -> None:
    second = json.loads(json.dumps(folder.app)) | {"uid": "second"}
    second["config"]["name"] = "The second"
    folder.more = {"src/app/second-hsmeta.json": json.dumps(second)}
    made = upload(stand, folder)
    assert (made["name"], [one["path"] for one in made["skipped"]]) == ("The second", [APP])
    stand.chaos(project_flaws="refused")
    assert "Only one app component" in refused(stand, folder)


def test_what_is_not_ours_is_listed_and_has_no_effect(stand: Stand, folder: Folder) -> None:
    card = {"uid": "their_card", "type": "card", "config": {"name": "Card"}}
    folder.more = {
        "src/app/cards/card-hsmeta.json": json.dumps(card),
        "src/app/cards/Card.jsx": "export default 1",
        "src/app/cards/node_modules/x/x-hsmeta.json": "?",
        "README.md": "Ours",
    }
    made = upload(stand, folder)
    assert {one["type"] for one in made["components"]} == {"app", "card", "webhooks"}
    assert made["skipped"] == []


MISTAKES: dict[str, Callable[[Folder], object]] = {
    "name: must have at most 200": lambda one: one.config.update(name="x" * 201),
    "name: must not begin": lambda one: one.config.update(name=" Live agents"),
    "Missing required field: 'name'": lambda one: one.config.update(name=""),
    "description: must have at most 8192": lambda one: one.config.update(description="x" * 8193),
    "'uid' should use only": lambda one: one.app.update(uid="an app"),
    "'uid' must be 64": lambda one: one.app.update(uid="x" * 65),
    "Duplicate uid": lambda one: one.hooks.update(uid=one.app["uid"]),
    "Unexpected top-level properties": lambda one: one.app.update(note="mine"),
    "Missing required field: 'type'": lambda one: one.hooks.pop("type"),
    "Unsupported type": lambda one: one.hooks.update(type="webhook"),
    "Missing required field: 'config'": lambda one: one.hooks.pop("config"),
    "The directory is incorrect": lambda one: one.hooks.update(type="card"),
    "distribution: must be": lambda one: one.config.update(distribution="public"),
    "marketplace distribution wants oauth": lambda one: (
        one.config.update(distribution="marketplace"),
        one.auth.update(type="static"),
    ),
    "auth.type: must be": lambda one: one.auth.update(type="key"),
    "Missing required field: 'auth'": lambda one: one.config.pop("auth"),
    "'http://127.0.0.1:5000/' must be https": lambda one: one.auth.update(redirectUrls=["http://127.0.0.1:5000/"]),
    "'http://bot.example.test/' must be https": lambda one: one.auth.update(redirectUrls=["http://bot.example.test/"]),
    "oauth wants at least one": lambda one: one.auth.update(redirectUrls=[]),
    "unknown scopes files": lambda one: one.auth["requiredScopes"].append("files"),
    "unknown scopes conversation.read": lambda one: one.auth["optionalScopes"].append("conversation.read"),
    "Missing required field: 'auth.requiredScopes'": lambda one: one.auth.pop("requiredScopes"),
    "permittedUrls: unknown": lambda one: one.config["permittedUrls"].update(fetches=[]),
    "unknown subscriptionType": lambda one: one.events[0].update(subscriptionType="conversation.message"),
    "wants `active`": lambda one: one.events[0].pop("active"),
    "wants a propertyName": lambda one: one.events[1].pop("propertyName"),
    "has no propertyName": lambda one: one.events[1].update(propertyName="state"),
    "the same subscription twice": lambda one: one.events.append(dict(one.events[0])),
    "crmObjects: unknown": lambda one: one.hooks["config"]["subscriptions"]["crmObjects"].append(one.events[0]),
    "targetUrl: must be": lambda one: one.hooks["config"]["settings"].update(targetUrl="http://bot.example.test/"),
    "maxConcurrentRequests": lambda one: one.hooks["config"]["settings"].update(maxConcurrentRequests="10"),
    "Missing required field: 'settings'": lambda one: one.hooks["config"].pop("settings"),
    "Missing required field: 'subscriptions'": lambda one: one.hooks["config"].pop("subscriptions"),
    "subscriptions.hubEvents: must hold": lambda one: one.events.append("conversation.newMessage"),
    "Only one webhooks component": lambda one: one.more.update(
        {HOOKS.replace("webhooks-", "two-"): json.dumps(one.hooks | {"uid": "two"})}
    ),
    "Could not read hsproject.json": lambda one: setattr(one, "head", None),
    "Unsupported platform version": lambda one: one.head.update(platformVersion="2023.2"),
    "missing required field(s): srcDir": lambda one: one.head.pop("srcDir"),
    "must be within the project": lambda one: one.head.update(srcDir="../src"),
    "No *-hsmeta.json files found": lambda one: one.head.update(srcDir="source"),
    "invalid JSON": lambda one: one.more.update({"hsproject.json": "\ufeff{}"}),
}
"""What is wrong, by a part of the words for it."""


@pytest.mark.parametrize("words", MISTAKES)
def test_validation_refuses_and_says_why(stand: Stand, folder: Folder, words: str) -> None:
    MISTAKES[words](folder)
    assert words in refused(stand, folder)
    assert len(stand.sim("GET", "projects")["apps"]) == 1, "nothing was made"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"files": {"hsproject.json": 1}},
        {"files": {"../hsproject.json": "{}"}},
        {"files": {"/hsproject.json": "{}"}},
        {"files": {"src\\app\\app-hsmeta.json": "{}"}},
        {"files": {}, "profile": "../x"},
        {"files": {}, "portal_id": "x"},
        {"files": {}, "what": 1},
    ],
)
def test_a_bad_upload_is_a_400(stand: Stand, body: Any) -> None:
    answer = stand.http.post(f"{stand.base}/_control/project", json=body, timeout=30)
    assert answer.status_code == 400, answer.text


def test_other_web_sites_upload_nothing(stand: Stand, folder: Folder) -> None:
    url, body = f"{stand.base}/_control/project", json.dumps({"files": folder.files()})
    for headers, status in (
        ({"Origin": "https://evil.example", "Content-Type": "application/json"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Host": "evil.example", "Content-Type": "application/json"}, 403),
    ):
        assert stand.http.post(url, data=body, headers=headers, timeout=30).status_code == status
    assert len(stand.sim("GET", "projects")["apps"]) == 1


# --- profiles


def with_variables(folder: Folder) -> None:
    """A project for several deployments, and the profile of one."""
    folder.config["name"] = "Live agents (${STAGE})"
    folder.auth["redirectUrls"] = ["${PUBLIC_URL}/hubspot/oauth/callback"]
    folder.hooks["config"]["settings"]["targetUrl"] = "${PUBLIC_URL}/hubspot/webhook?port=${PORT}"


def profile(**variables: Any) -> dict[str, str]:
    """A profile's file."""
    text = json.dumps({"accountId": 77, "variables": variables})
    return {"src/hsprofile.staging.json": text}


def test_a_profile_fills_variables_and_one_alone_keeps_its_type(stand: Stand, folder: Folder) -> None:
    with_variables(folder)
    folder.hooks["config"]["settings"]["maxConcurrentRequests"] = "${MOST}"
    folder.events[0]["active"] = "${HEAR}"
    url = "https://staging.example.test"
    folder.more = profile(STAGE="staging", PUBLIC_URL=url, PORT=8000, MOST=7, HEAR=False)
    app = shown(stand, upload(stand, folder, profile="staging")["app_id"])
    assert (app["name"], app["account"]) == ("Live agents (staging)", "77")
    assert app["redirect_urls"] == [f"{url}/hubspot/oauth/callback"]
    assert app["target_url"] == f"{url}/hubspot/webhook?port=8000"
    assert (app["max_concurrent"], app["subscriptions"][0]["active"]) == (7, False)


def test_without_a_profile_variables_stand_as_they_are(stand: Stand, folder: Folder) -> None:
    with_variables(folder)
    app = shown(stand, upload(stand, folder)["app_id"])
    assert app["name"] == "Live agents (${STAGE})"
    assert app["redirect_urls"] == ["${PUBLIC_URL}/hubspot/oauth/callback"]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "Failed to load profile hsprofile.staging.json"),
        ({"src/hsprofile.staging.json": "\ufeff{}"}, "Failed to load profile"),
        (profile(STAGE="s", PORT=1), "Missing value for PUBLIC_URL"),
        (profile(STAGE="s", PORT=1, PUBLIC_URL=None), "Invalid value for PUBLIC_URL"),
        (profile(STAGE="s", PORT=1, PUBLIC_URL=["x"]), "Invalid value for PUBLIC_URL"),
        ({"src/hsprofile.staging.json": '{"variables": []}'}, "Missing value for"),
    ],
)
def test_a_profile_that_lacks_something_is_refused(
    stand: Stand, folder: Folder, files: dict[str, str], words: str
) -> None:
    with_variables(folder)
    folder.more = files
    assert words in refused(stand, folder, profile="staging")
