"""``setup``, ``teardown`` and ``inboxes`` against the stand-in: HubSpot is made as wanted, once, and nobody is robbed.

D21, D30, D53 and D54 of the field's mistakes; rules D.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from click.testing import Result
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot.paths import NEWEST
from flask_hubspot_hitl.hubspot.setup import wanted
from flask_hubspot_hitl.ledger import AccountRecord, ChannelRecord
from flask_hubspot_hitl.portals import routing
from flask_hubspot_hitl.portals.setup import SetUp

from .conftest import MakeApp, Serve
from .helpers import API_VERSION, APP, CHANNEL, PATHS, PORTAL, HubSpot, Json, Recorder, state_of, wait_until
from .story import PHONE

INBOX, HELP_DESK = "700200300", "700200999"
BARE = "4141"
"""An app that is installed in the preset portal, and has nothing else."""
CHANNELS = PATHS.channels()


@dataclass
class Desk:
    """One app at the stand-in, seen with its own credentials by HubSpot's API."""

    hubspot: HubSpot
    env: dict[str, str]

    @property
    def config(self) -> dict[str, Any]:
        """For ``make_app``."""
        given = {name.removeprefix("HUBSPOT_HITL_").lower(): value for name, value in self.env.items()}
        return {"channel_id": None, "channel_account_id": None, "dispatcher": "inline", **given}

    def call(self, method: str, path: str, *, as_portal: bool = False, **more: Any) -> Any:
        """By the developer key, or with the portal's token."""
        headers = {"Connection": "close", "User-Agent": "test"}
        if not as_portal:
            app_id = self.env["HUBSPOT_HITL_APP_ID"]
            more["params"] = {"hapikey": self.env["HUBSPOT_HITL_DEVELOPER_API_KEY"], "appId": app_id}
        else:
            answer = requests.post(
                f"{self.hubspot.url}/oauth/v1/token",
                data={
                    "grant_type": "refresh_token",
                    "client_id": self.env["HUBSPOT_HITL_CLIENT_ID"],
                    "client_secret": self.env["HUBSPOT_HITL_CLIENT_SECRET"],
                    "refresh_token": self.env["HUBSPOT_HITL_REFRESH_TOKEN"],
                },
                headers=headers,
                timeout=30,
            )
            headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        answer = requests.request(method, f"{self.hubspot.url}{path}", headers=headers, timeout=30, **more)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def channels(self) -> list[Json]:
        found: list[Json] = []
        for _ in range(self.hubspot.control("GET", "chaos")["channel_hidden_polls"] + 1):  # a new one may hide so long
            found = self.call("GET", CHANNELS)["results"]
        return found

    def channel(self) -> Json:
        """The only one."""
        [found] = self.channels()
        return found

    def make_channel(self, name: str = "Somebody's", **fields: Any) -> str:
        made = self.call("POST", CHANNELS, json={"name": name, "capabilities": {}, **fields})
        return str(made["id"])

    def accounts(self, channel_id: str) -> list[Json]:
        found: list[Json] = self.call("GET", f"{CHANNELS}/{channel_id}/channel-accounts", as_portal=True)["results"]
        return found

    def make_account(self, channel_id: str, inbox_id: str, identifier: str, **fields: Any) -> str:
        body = {"inboxId": inbox_id, "name": "Somebody's", "authorized": True, **fields}
        body["deliveryIdentifier"] = {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": identifier}
        made = self.call("POST", f"{CHANNELS}/{channel_id}/channel-accounts", json=body, as_portal=True)
        return str(made["id"])

    def target(self) -> str | None:
        answer = self.call("GET", PATHS.webhook_settings(self.env["HUBSPOT_HITL_APP_ID"]))
        return str(answer["targetUrl"])

    def subscriptions(self) -> set[tuple[str, str | None, bool]]:
        found = self.call("GET", PATHS.webhook_subscriptions(self.env["HUBSPOT_HITL_APP_ID"]))["results"]
        return {(one["eventType"], one.get("propertyName"), one["active"]) for one in found}

    def writes(self) -> list[str]:
        """What our client has changed so far."""
        return [
            f"{one['method']} {one['path']}"
            for one in self.hubspot.requests()
            if one["request_headers"].get("User-Agent") == "Flask-HubSpot-HITL"
            and one["method"] != "GET"
            and not one["path"].endswith(("/token", "/introspect", "/search"))
        ]


@pytest.fixture
def bare(hubspot: HubSpot) -> Desk:
    """An app without channels, target and subscriptions, installed in a portal with an inbox and a help desk."""
    fields = {"appId": BARE, "portalId": PORTAL, "subscribed": False}
    env = hubspot.control("POST", "apps", fields)
    return Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": INBOX})


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["hubspot-hitl", *arguments])


def setup(app: Flask, *arguments: str) -> Result:
    """``setup``, which is to succeed."""
    result = run(app, "setup", *arguments)
    assert result.exit_code == 0, result.output
    return result


def stored(app: Flask, portal_id: str = PORTAL) -> tuple[ChannelRecord | None, list[AccountRecord]]:
    state = state_of(app)
    with state.ledger.read() as tx:
        return tx.channels.get(state.settings.app_id), tx.channels.accounts(portal_id)


def webhook_url(app: Flask) -> str:
    return state_of(app).settings.webhook_urls()[0]


ALL = {(one.event_type, one.property_name, True) for one in wanted.SUBSCRIPTIONS}


# From nothing --------------------------------------------------------------------------------------------


def test_from_nothing_to_a_working_handoff(
    make_app: MakeApp, serve: Serve, bare: Desk, record: Callable[[Flask], Recorder]
) -> None:
    app = make_app(**{**bare.config, "dispatcher": "thread"}, SECRET_KEY="the app's own secret key, which is long")
    serve(app, target=False)
    recorder = record(app)
    setup(app)
    wait_until(lambda: run(app, "setup", "--check").exit_code == 0, what="doctor's consent")
    assert ("All is well." in run(app, "setup").output) is (API_VERSION == NEWEST), "others end"
    with app.app_context():
        handoff = HubSpotHITL().start("c1", contact=PHONE, name="Rosa", title="Refund")
    assert (handoff.state, handoff.inbox_id) == ("waiting", INBOX)
    bare.hubspot.act(handoff.thread_id, "reply", text="Hello Rosa")
    [message] = recorder.wait_for("operator_message")
    assert message["message"].text == "Hello Rosa"
    recorder.wait_for("operator_assigned")
    bare.hubspot.act(handoff.thread_id, "close")
    recorder.wait_for("conversation_completed")


def test_a_second_run_only_reads(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**{**bare.config, "inbox_id": f"{INBOX},{HELP_DESK}"})
    first = setup(app)
    channel, accounts = stored(app)
    assert channel is not None
    assert channel.channel_id == bare.channel()["id"]
    assert {(one.inbox_id, one.authorized) for one in accounts} == {(INBOX, True), (HELP_DESK, True)}
    assert f"Channel {channel.channel_id}" in first.output
    have = bare.channel()
    assert have["webhookUrl"] == bare.target() == webhook_url(app)
    assert wanted.mark_of_channel(have) == state_of(app).ledger.deployment_id
    assert have["channelAccountConnectionRedirectUrl"].endswith("/hubspot/connect")
    assert bare.subscriptions() == ALL

    written = bare.writes()
    second = setup(app)
    assert bare.writes() == written
    assert second.stdout.startswith("Nothing to change.")
    assert stored(app) == (channel, accounts)


def test_the_plan_is_what_is_done(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    planned = setup(app, "--plan").stdout.splitlines()
    assert bare.writes() == []
    assert stored(app) == (None, [])
    done = [line for line in setup(app).stdout.splitlines() if line.startswith("Done: ")]
    assert [line.removeprefix("Done: ") for line in done] == [line.removeprefix("Would ") for line in planned]
    assert len(done) == 3 + len(wanted.SUBSCRIPTIONS)
    assert setup(app, "--plan", "--check").stdout == "Nothing to change.\n"


def test_plan_with_check_fails_when_something_would_be_done(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    result = run(app, "setup", "--plan", "--check")
    assert result.exit_code == 1
    assert "differs from what is wanted in 9 points" in result.output


def test_json_tells_a_machine_everything(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    facts = json.loads(setup(app, "--json").stdout)
    assert facts["done"] is True
    assert [one["change"] for one in facts["changes"][:3]] == ["MakeChannel", "ConnectInbox", "SetTarget"]
    assert facts["channel_id"] == bare.channel()["id"]
    assert list(facts["accounts"]) == [INBOX]
    assert json.loads(setup(app, "--json").stdout)["changes"] == []


def test_doctors_findings_follow_and_count_with_check_only(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)  # which nobody serves
    facts = json.loads(setup(app, "--json").stdout)
    assert facts["done"] is True
    assert facts["doctor"]["ok"] is False
    codes = {one["code"] for one in facts["doctor"]["findings"]}
    assert codes
    told = setup(app).stdout
    assert all(code in told for code in codes)
    result = run(app, "setup", "--check")
    assert result.exit_code == 1
    assert "HubSpot is set up, but see what doctor found." in result.output
    assert json.loads(setup(app, "--plan", "--json").stdout)["doctor"] is None


@pytest.mark.parametrize("version", ["v3", "2026-03", "2026-09"])
def test_every_api_version(make_app: MakeApp, bare: Desk, version: str) -> None:
    app = make_app(**bare.config | {"api_version": version})
    setup(app)
    written = bare.writes()
    assert {path.split()[1].split("/")[1] for path in written} == {
        "conversations",
        "app-webhooks" if version == "2026-09" else "webhooks",
    }
    setup(app)
    assert bare.writes() == written
    assert (len(bare.accounts(bare.channel()["id"])), bare.subscriptions()) == (1, ALL)


def test_paused_subscriptions_are_activated(make_app: MakeApp, bare: Desk) -> None:
    path = PATHS.webhook_subscriptions(BARE)
    bare.call("POST", path, json={"eventType": "conversation.newMessage", "active": False})
    bare.call("POST", path, json={"eventType": "contact.creation", "active": False})
    setup(make_app(**bare.config))
    assert bare.subscriptions() == ALL | {("contact.creation", None, False)}


# A channel is found, and never made twice ----------------------------------------------------------------


def test_d30_what_is_there_is_found_behind_pages_of_one(make_app: MakeApp, bare: Desk) -> None:
    bare.hubspot.chaos(page_size=1)
    for number in range(3):
        other = bare.make_channel(f"Foreign {number}", webhookUrl=f"https://other.example.test/{number}")
        bare.make_account(other, HELP_DESK, f"other-{number}")
    app = make_app(**{**bare.config, "inbox_id": f"{INBOX},{HELP_DESK}"})
    setup(app)
    bare.hubspot.chaos(page_size=None)
    assert len(bare.channels()) == 4
    bare.hubspot.chaos(page_size=1)
    written = bare.writes()
    setup(app)
    assert bare.writes() == written


@pytest.mark.parametrize("polls", [1, 20])
def test_d54_a_channel_that_hides_is_waited_for(make_app: MakeApp, bare: Desk, clock: ManualClock, polls: int) -> None:
    bare.hubspot.chaos(channel_hidden_polls=polls)
    result = setup(make_app(**bare.config, clock=clock))
    assert "Waiting until HubSpot shows the channel" in result.stderr
    channel = bare.channel()
    assert [one["inboxId"] for one in bare.accounts(channel["id"])] == [INBOX]


def test_d54_a_channel_that_never_shows_is_a_clear_error_and_can_be_resumed(
    make_app: MakeApp, bare: Desk, clock: ManualClock
) -> None:
    bare.hubspot.chaos(channel_hidden_polls=150)
    app = make_app(**bare.config, clock=clock)
    began = clock.now_ms()
    result = run(app, "setup", "--wait", "60")
    assert result.exit_code == 1
    assert 60_000 <= clock.now_ms() - began < 70_000
    channel, _ = stored(app)
    assert channel is not None
    assert f"The channel {channel.channel_id} was made, but after 60 seconds HubSpot does not show it" in result.output
    assert "run setup again" in result.output
    assert bare.writes() == [f"POST {CHANNELS}"]

    again = run(app, "setup", "--wait", "60")
    assert again.exit_code == 1
    assert bare.writes() == [f"POST {CHANNELS}"]

    setup(app, "--wait", "600")
    assert bare.channel()["id"] == channel.channel_id
    assert [one["inboxId"] for one in bare.accounts(channel.channel_id)] == [INBOX]


def test_a_channel_that_was_deleted_is_made_anew_when_asked(make_app: MakeApp, bare: Desk, clock: ManualClock) -> None:
    app = make_app(**bare.config, clock=clock)
    setup(app)
    old = bare.channel()["id"]
    bare.call("DELETE", f"{CHANNELS}/{old}")
    assert "--new-channel" in run(app, "setup").output
    assert bare.channels() == []
    setup(app, "--new-channel")
    assert bare.channel()["id"] != old
    written = bare.writes()
    setup(app, "--new-channel")
    assert bare.writes() == written


@pytest.mark.parametrize("mode", ["drop_after", "status_after"])
def test_a_channel_whose_making_got_no_answer_is_not_made_twice(
    make_app: MakeApp, bare: Desk, clock: ManualClock, mode: str
) -> None:
    rule = {"match": f"POST {CHANNELS}", "mode": mode, "times": 1, "status": 502}
    bare.hubspot.chaos(channel_hidden_polls=30, faults=[rule])
    app = make_app(**bare.config, clock=clock)
    first = run(app, "setup", "--wait", "10")
    assert "answer was lost" in first.output
    assert first.exit_code == 1
    setup(app)
    assert bare.writes().count(f"POST {CHANNELS}") == 1
    assert len(bare.channels()) == 1


def test_a_channel_that_was_refused_may_be_tried_again_at_once(make_app: MakeApp, bare: Desk) -> None:
    bare.hubspot.chaos(max_channels=0)
    app = make_app(**bare.config)
    result = run(app, "setup")
    assert result.exit_code == 1
    assert "An app may have 0 channels" in result.output
    bare.hubspot.chaos(max_channels=None)
    setup(app)
    assert len(bare.channels()) == 1


def test_two_runs_at_once_make_one_channel(
    make_app: MakeApp, bare: Desk, database_url: str, clock: ManualClock
) -> None:
    bare.hubspot.chaos(channel_hidden_polls=3, latency=0.05)
    public_url = "https://bot.example.test"
    apps = [make_app(**bare.config, public_url=public_url, name=name, clock=clock) for name in ("one", "two")]
    both, errors = threading.Barrier(2), list[str]()

    def work(app: Flask) -> None:
        both.wait()
        try:
            errors.extend(SetUp(services=state_of(app).services, portal_id=PORTAL).run().refusals)
        except Exception as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=work, args=(app,)) for app in apps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    bare.hubspot.chaos(latency=0)
    assert errors == []
    assert bare.writes().count(f"POST {CHANNELS}") == 1
    assert len(bare.channels()) == 1
    assert len(bare.accounts(bare.channel()["id"])) == 1
    setup(apps[0])
    assert bare.subscriptions() == ALL


# What is somebody else's ---------------------------------------------------------------------------------


def test_d21_a_foreign_channel_and_another_portals_account_are_left_alone(
    make_app: MakeApp, bare: Desk, hubspot: HubSpot
) -> None:
    foreign = bare.make_channel("Foreign", webhookUrl="https://other.example.test/hook")
    bare.make_account(foreign, INBOX, "foreign-1")
    app = make_app(**bare.config)
    setup(app)
    ours = next(one["id"] for one in bare.channels() if one["id"] != foreign)
    env = hubspot.control("POST", "apps", {"appId": BARE, "portalId": "555111"})
    neighbour = Desk(hubspot, env)
    mark = wanted.account_identifier(state_of(app).ledger.deployment_id, "555111", env["HUBSPOT_HITL_INBOX_ID"])
    neighbour.make_account(ours, env["HUBSPOT_HITL_INBOX_ID"], mark["value"])

    def others() -> Any:
        channel = next(one for one in bare.channels() if one["id"] == foreign)
        return channel, bare.accounts(foreign), neighbour.accounts(ours)

    before = others()
    for command in (
        ["setup", "--take-over"],
        ["inboxes"],
        ["teardown"],
        ["teardown", "--yes"],
        ["setup", "--take-over"],
        ["teardown", "--yes"],
    ):
        assert run(app, *command).exit_code == 0, command
    assert others() == before
    assert [path for path in bare.writes() if foreign in path] == []


def test_staging_with_productions_ids_changes_nothing(make_app: MakeApp, bare: Desk, tmp_path: Any) -> None:
    production = make_app(**bare.config, public_url="https://bot.example.test")
    setup(production)
    channel = bare.channel()
    account = bare.accounts(channel["id"])[0]
    before = (channel, bare.accounts(channel["id"]), bare.target(), bare.subscriptions())
    staging = make_app(
        **{
            **bare.config,
            "public_url": "https://staging.example.test",
            "channel_id": channel["id"],
            "channel_account_id": account["id"],
            "database_url": f"sqlite:///{tmp_path / 'staging.sqlite3'}",
        }
    )
    written = bare.writes()
    result = run(staging, "setup")
    assert result.exit_code == 1
    assert "Nothing was changed." in result.output
    assert f"The channel {channel['id']} delivers to https://bot.example.test/hubspot/webhook" in result.output
    assert "The app's webhooks go to https://bot.example.test/hubspot/webhook" in result.output
    assert result.output.count("--take-over") == 2
    assert run(staging, "teardown", "--yes").exit_code == 1
    assert (bare.channel(), bare.accounts(channel["id"]), bare.target(), bare.subscriptions()) == before
    assert bare.writes() == written
    assert stored(staging) == (None, [])

    taken = setup(staging, "--take-over")
    assert "webhookUrl: https://bot.example.test/hubspot/webhook → https://staging.example.test" in taken.output
    assert "(before: https://bot.example.test/hubspot/webhook)" in taken.output
    assert bare.channel()["webhookUrl"] == bare.target() == webhook_url(staging)
    written = bare.writes()
    setup(staging)
    assert bare.writes() == written


def test_a_copied_database_does_not_repoint_what_it_was_copied_from(make_app: MakeApp, bare: Desk) -> None:
    setup(make_app(**bare.config, public_url="https://bot.example.test"))
    copy = make_app(**bare.config, public_url="https://copy.example.test")
    written = bare.writes()
    for command in ("setup", "teardown"):
        result = run(copy, command, *(["--yes"] if command == "teardown" else []))
        assert result.exit_code == 1
        assert "https://bot.example.test/hubspot/webhook" in result.output
    assert bare.writes() == written


def test_a_lost_store_finds_the_channel_and_asks_before_it_takes_over(
    make_app: MakeApp, bare: Desk, tmp_path: Any
) -> None:
    config = {**bare.config, "public_url": "https://bot.example.test"}
    setup(make_app(**config))
    channel = bare.channel()
    [account] = bare.accounts(channel["id"])
    fresh = make_app(**{**config, "database_url": f"sqlite:///{tmp_path / 'fresh.sqlite3'}"})
    written = bare.writes()
    result = run(fresh, "setup")
    assert result.exit_code == 1
    assert f"The account {account['id']} in the inbox {INBOX} “Inbox” does not bear the mark" in result.output
    assert f"The channel {channel['id']} bears the mark of another database" in result.output
    assert bare.writes() == written

    result = setup(fresh, "--take-over")
    assert f"take over the account {account['id']}" in result.output
    assert len(bare.channels()) == 1
    assert bare.accounts(channel["id"]) == [account]
    found, accounts = stored(fresh)
    assert found is not None
    assert (found.channel_id, [one.account_id for one in accounts]) == (channel["id"], [account["id"]])
    written = bare.writes()
    assert "Nothing to change." in setup(fresh).output
    assert bare.writes() == written


def test_a_hand_made_channel_that_delivers_to_us_is_marked_and_used(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    by_hand = bare.make_channel("By hand", webhookUrl=webhook_url(app), channelDescription="Made by hand.")
    setup(app)
    channel = bare.channel()
    assert channel["id"] == by_hand
    mark = f"[flask-hubspot-hitl {state_of(app).ledger.deployment_id}]"
    assert channel["channelDescription"] == f"Made by hand. {mark}"


def test_two_channels_that_deliver_to_us_are_a_question(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config, public_url="https://bot.example.test")
    ids = [bare.make_channel(f"Twin {number}", webhookUrl=webhook_url(app)) for number in range(2)]
    result = run(app, "setup")
    assert result.exit_code == 1
    assert f"The channels {ids[0]} and {ids[1]} all deliver to" in result.output
    assert bare.writes() == []
    chosen = make_app(**{**bare.config, "channel_id": ids[1]}, public_url="https://bot.example.test")
    setup(chosen)
    assert [wanted.mark_of_channel(one) is not None for one in bare.channels()] == [False, True]


def test_a_configured_channel_that_is_not_there(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "channel_id": CHANNEL}), "setup")  # another app's
    assert result.exit_code == 1
    assert f"HubSpot shows no channel {CHANNEL} of this app. Unset HUBSPOT_HITL_CHANNEL_ID" in result.output
    assert bare.writes() == []


def test_a_token_of_another_portal_is_refused(make_app: MakeApp, bare: Desk, hubspot: HubSpot) -> None:
    other = hubspot.control("POST", "apps", {"appId": BARE, "portalId": "555111"})
    app = make_app(**{**bare.config, "refresh_token": other["HUBSPOT_HITL_REFRESH_TOKEN"]})
    for command in (["setup", "--take-over"], ["teardown", "--yes"]):
        result = run(app, *command)
        assert result.exit_code == 1
        assert f"PORTAL_ID is {PORTAL}, but the configured token is portal 555111's" in result.output
    assert bare.writes() == []


# Accounts ------------------------------------------------------------------------------------------------


def test_d53_an_account_is_authorised_again(make_app: MakeApp, bare: Desk, hubspot: HubSpot) -> None:
    app = make_app(**bare.config)
    setup(app)
    [account] = stored(app)[1]
    hubspot.post(f"channel-accounts/{account.account_id}/disable")
    assert f"Done: authorise the account {account.account_id}" in setup(app).output
    [have] = bare.accounts(account.channel_id)
    assert have["authorized"] is True
    assert stored(app)[1] == [account]


def test_d53_an_account_that_is_switched_off_is_told(make_app: MakeApp, bare: Desk, hubspot: HubSpot) -> None:
    app = make_app(**bare.config)
    setup(app)
    [account] = stored(app)[1]
    hubspot.post(f"channel-accounts/{account.account_id}/deactivate")
    result = setup(app)
    assert f"By hand: The account {account.account_id} in the inbox {INBOX} “Inbox” is switched off" in result.output
    assert [one.authorized for one in stored(app)[1]] == [False]


@pytest.mark.parametrize("held", ["free", "hold"])
def test_d53_an_account_that_was_removed_is_made_anew(
    make_app: MakeApp, bare: Desk, hubspot: HubSpot, held: str
) -> None:
    app = make_app(**bare.config)
    setup(app)
    [old] = stored(app)[1]
    hubspot.chaos(removed_accounts=held)
    hubspot.post(f"channel-accounts/{old.account_id}/purge")
    setup(app)
    [new] = stored(app)[1]
    assert new.account_id != old.account_id
    [have] = bare.accounts(new.channel_id)
    assert wanted.mark_of_account(have) == state_of(app).ledger.deployment_id
    assert (have["deliveryIdentifier"] == old.identifier) is (held == "free")


def test_a_409_without_our_mark_is_not_ours(make_app: MakeApp, bare: Desk, hubspot: HubSpot) -> None:
    """Somebody else's account has taken our identifier, in another inbox."""
    app = make_app(**bare.config)
    setup(app)
    [mine] = stored(app)[1]
    identifier = wanted.account_identifier(state_of(app).ledger.deployment_id, PORTAL, HELP_DESK)
    other = hubspot.control("POST", "apps", {"appId": BARE, "portalId": "555111"})
    neighbour = Desk(hubspot, other)
    theirs = neighbour.make_account(mine.channel_id, other["HUBSPOT_HITL_INBOX_ID"], identifier["value"])
    setup(app, "--inbox", INBOX, "--inbox", HELP_DESK)
    accounts = {one.inbox_id: one for one in stored(app)[1]}
    assert accounts[HELP_DESK].account_id != theirs
    assert accounts[HELP_DESK].identifier != identifier


def test_an_account_whose_making_got_no_answer_is_found(make_app: MakeApp, bare: Desk) -> None:
    rule = {"match": "POST .*/channel-accounts", "mode": "drop_after", "times": 1}
    bare.hubspot.chaos(faults=[rule])
    app = make_app(**bare.config)
    setup(app)
    assert len(bare.accounts(bare.channel()["id"])) == 1
    assert len(stored(app)[1]) == 1


def test_an_account_without_our_mark_is_a_question(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    channel = bare.make_channel("By hand", webhookUrl=webhook_url(app))
    account = bare.make_account(channel, INBOX, "by-hand")
    result = run(app, "setup")
    assert result.exit_code == 1
    assert (
        f"The account {account} in the inbox {INBOX} “Inbox” does not bear the mark of this database" in result.output
    )
    configured = make_app(
        **{**bare.config, "channel_account_id": account}, public_url=app.config["HUBSPOT_HITL_PUBLIC_URL"]
    )
    setup(configured)
    assert [one["id"] for one in bare.accounts(channel)] == [account]


def test_a_starter_portal_is_told_why(make_app: MakeApp, bare: Desk) -> None:
    bare.hubspot.chaos(tier="starter")
    result = run(make_app(**bare.config), "setup")
    assert result.exit_code == 1
    assert "Sales Hub or Service Hub Professional" in result.output


# Inboxes -------------------------------------------------------------------------------------------------


def test_without_an_inbox_the_choice_is_listed(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "inbox_id": None}), "setup")
    assert result.exit_code == 1
    assert f"the inbox {INBOX} “Inbox”, the help desk {HELP_DESK} “Help Desk”" in result.output
    assert bare.writes() == []


def test_an_unknown_inbox_is_refused(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "inbox_id": f"{INBOX},1"}), "setup")
    assert result.exit_code == 1
    assert f"Portal {PORTAL} has no inbox 1; there are: the inbox {INBOX}" in result.output
    assert bare.writes() == []


def test_the_only_inbox_needs_no_telling(make_app: MakeApp, hubspot: HubSpot) -> None:
    env = hubspot.control("POST", "apps", {"portalId": "555111", "subscribed": False})
    desk = Desk(hubspot, env)
    app = make_app(**{**desk.config, "inbox_id": None})
    setup(app)
    hubspot.contact(portalId="555111", phone=PHONE)
    with app.app_context():
        assert HubSpotHITL().start("c1", contact=PHONE).inbox_id == env["HUBSPOT_HITL_INBOX_ID"]


def test_inboxes_are_listed_with_what_is_connected(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    assert "not connected" in run(app, "inboxes").output
    setup(app)
    [account] = stored(app)[1]
    head, *lines = run(app, "inboxes").output.splitlines()
    assert head.split() == ["Inbox", "Type", "Name", "Our", "channel"]
    assert [line.split()[:2] for line in lines] == [[INBOX, "INBOX"], [HELP_DESK, "HELP_DESK"]]
    assert f"account {account.account_id}" in lines[0]
    assert "not connected" in lines[1]
    facts = json.loads(run(app, "inboxes", "--json").output)
    assert facts[0]["accounts"] == [
        {"account_id": account.account_id, "authorized": True, "active": True, "bears_our_mark": True}
    ]


def test_another_inbox_leaves_the_default_where_it_is(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**{**bare.config, "inbox_id": None})

    def default() -> str | None:
        with state_of(app).ledger.read() as tx:
            return routing.default_inbox(tx, state_of(app).settings, PORTAL)

    assert "goes on" not in setup(app, "--inbox", INBOX).output
    assert default() == INBOX
    told = f"start() without inbox_id goes on to the inbox {INBOX} “Inbox”; to the other one goes start(…, inbox_id="
    for more in (["--plan"], [], []):
        assert told in setup(app, "--inbox", HELP_DESK, *more).output
        assert default() == INBOX
    assert "goes on" not in setup(app).output
    with state_of(app).ledger.write() as tx:
        tx.installations.set_inbox(PORTAL, "700200301")  # which HubSpot does not have
    assert "goes on" not in setup(app, "--inbox", HELP_DESK).output
    assert default() == HELP_DESK


def test_an_inbox_that_could_not_be_connected_is_no_default(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**{**bare.config, "inbox_id": None})
    bare.hubspot.chaos(faults=[{"match": "POST .*/channel-accounts", "status": 400, "times": 1}])
    assert run(app, "setup", "--inbox", INBOX).exit_code == 1
    setup(app, "--inbox", HELP_DESK)
    with state_of(app).ledger.read() as tx:
        assert routing.default_inbox(tx, state_of(app).settings, PORTAL) == HELP_DESK


def test_an_inbox_that_was_connected_in_hubspot_stays_the_default(make_app: MakeApp, bare: Desk) -> None:
    """It was the only one, so ``start`` went there."""
    app = make_app(**{**bare.config, "inbox_id": None})
    setup(app, "--inbox", INBOX)
    with state_of(app).ledger.write() as tx:
        tx.installations.set_inbox(PORTAL, None)
    assert f"goes on to the inbox {INBOX}" in setup(app, "--inbox", HELP_DESK).output
    with state_of(app).ledger.read() as tx:
        assert routing.default_inbox(tx, state_of(app).settings, PORTAL) == INBOX


@pytest.mark.parametrize(("harm", "code"), [("disable", "HH514"), ("purge", "HH513")])
def test_doctor_names_the_inbox_that_setup_does_not_look_at(
    make_app: MakeApp, bare: Desk, hubspot: HubSpot, harm: str, code: str
) -> None:
    app = make_app(**{**bare.config, "inbox_id": None})

    def fixes() -> list[str]:
        found = json.loads(run(app, "doctor", "--json").stdout)["findings"]
        return [one["fix"] for one in found if one["code"] in ("HH512", "HH513", "HH514")]

    setup(app, "--inbox", INBOX)
    setup(app, "--inbox", HELP_DESK)
    accounts = {one.inbox_id: one.account_id for one in stored(app)[1]}
    hubspot.post(f"channel-accounts/{accounts[HELP_DESK]}/{harm}")
    [fix] = fixes()
    command = re.search(r"run: flask hubspot-hitl (.*)", fix, re.IGNORECASE)
    assert command is not None
    assert command[1] == f"setup --inbox {HELP_DESK}", code
    setup(app, *command[1].split()[1:])
    assert fixes() == []
    hubspot.post(f"channel-accounts/{accounts[INBOX]}/{harm}")
    [fix] = fixes()
    assert fix.endswith("un: flask hubspot-hitl setup")
    setup(app)
    assert fixes() == []


def test_doctor_does_not_look_for_accounts_of_an_older_channel(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    setup(app)
    old = AccountRecord(portal_id=PORTAL, account_id="1", channel_id="2", inbox_id=HELP_DESK)
    with state_of(app).ledger.write() as tx:
        tx.channels.save_account(old, now=1)
    assert "HH512" not in run(app, "doctor").stdout


# Repair --------------------------------------------------------------------------------------------------


def test_what_was_changed_at_hubspot_is_repaired(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config, channel_name="Acme", channel_logo_url="https://bot.example.test/logo.png")
    setup(app)
    before = bare.channel()
    assert (before["name"], before["channelLogoUrl"]) == ("Acme", "https://bot.example.test/logo.png")
    changes = {
        "name": "Renamed",
        "channelLogoUrl": "https://other.example.test/x.png",
        "channelAccountConnectionRedirectUrl": "https://example.com",
        "webhookUrl": "",
        "capabilities": {**before["capabilities"], "allowOutgoingMessages": False},
    }
    bare.call("PATCH", f"{CHANNELS}/{before['id']}", json=changes)
    bare.call("DELETE", PATHS.webhook_settings(BARE))
    result = setup(app)
    assert "capabilities: allowOutgoingMessages" in result.output
    assert bare.channel() == before
    assert bare.target() == webhook_url(app)
    assert bare.subscriptions() == ALL


def test_m4_the_channel_follows_the_settings(make_app: MakeApp, bare: Desk) -> None:
    def can() -> tuple[list[str], bool]:
        capabilities = bare.channel()["capabilities"]
        return capabilities["outgoingAttachmentTypes"], capabilities["allowInlineImages"]

    here = {**bare.config, "public_url": "https://bot.example.test"}
    setup(make_app(**here))
    assert can() == (["FILE"], False)
    result = setup(make_app(**here, quick_replies=True, inline_images=True))
    assert "allowInlineImages" in result.output
    assert can() == (["FILE", "QUICK_REPLIES"], True)
    setup(make_app(**here))
    assert can() == (["FILE"], False)


def test_after_a_move_the_old_address_is_ours_while_it_is_configured(make_app: MakeApp, bare: Desk) -> None:
    setup(make_app(**bare.config, public_url="https://old.example.test"))
    channel = bare.channel()
    moved = make_app(**bare.config, public_url="https://new.example.test,https://old.example.test")
    result = setup(moved)
    assert "webhookUrl: https://old.example.test/hubspot/webhook → https://new.example.test" in result.output
    assert bare.channel()["id"] == channel["id"]
    assert bare.target() == webhook_url(moved)
    assert bare.channel()["channelAccountConnectionRedirectUrl"] == "https://new.example.test/hubspot/connect"


def test_the_throttling_of_the_app_stays(make_app: MakeApp, bare: Desk) -> None:
    url = PATHS.webhook_settings(BARE)
    bare.call("PUT", url, json={"targetUrl": "https://old.example.test", "throttling": {"maxConcurrentRequests": 42}})
    setup(make_app(**bare.config), "--take-over")
    assert bare.call("GET", url)["throttling"] == {"maxConcurrentRequests": 42}


# Webhooks by hand ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["no key", "refused"])
def test_webhooks_that_cant_be_set_by_api_are_told_click_by_click(
    make_app: MakeApp, bare: Desk, hubspot: HubSpot, case: str
) -> None:
    without = {"developer_api_key": None, "api_version": "v3"}  # whose channels take a portal's token too
    config = {**bare.config, **without} if case == "no key" else bare.config
    if case == "refused":
        hubspot.chaos(faults=[{"match": ".* /(app-)?webhooks/.*", "mode": "status", "status": 403}])
    app = make_app(**config)
    result = setup(app)
    assert "By hand: " in result.output
    assert f"Target URL: {webhook_url(app)}" in result.output
    for one in wanted.SUBSCRIPTIONS:
        assert str(one) in result.output
    assert len(stored(app)[1]) == 1
    [facts] = json.loads(setup(app, "--json").stdout)["by_hand"]
    assert "roject" not in "".join(facts["steps"])


def test_a_lacking_developer_key_is_told(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "developer_api_key": None, "api_version": "2026-09"}), "setup")
    assert result.exit_code == 1
    assert "listing channels: HubSpot takes no portal's token for this call" in result.output
    assert "set HUBSPOT_HITL_DEVELOPER_API_KEY" in result.output


def test_a_wrong_developer_key_is_told(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "developer_api_key": "sim-wrong"}), "setup")
    assert result.exit_code == 1
    assert "Check HUBSPOT_HITL_DEVELOPER_API_KEY and HUBSPOT_HITL_APP_ID" in result.output
    assert "sim-wrong" not in result.output


@pytest.mark.parametrize("command", ["setup", "inboxes"])
def test_a_dead_token_of_the_portal_is_not_blamed_on_the_developer_key(
    make_app: MakeApp, bare: Desk, command: str
) -> None:
    result = run(make_app(**{**bare.config, "refresh_token": None, "access_token": "sim-dead"}), command)
    assert result.exit_code == 1
    assert "HubSpot refuses the access token" in result.output
    assert "DEVELOPER_API_KEY" not in result.output


def test_a_token_that_may_not_say_whose_it_is_will_do(make_app: MakeApp, bare: Desk) -> None:
    bare.hubspot.chaos(faults=[{"match": "GET /account-info/.*", "mode": "status", "status": 403}])
    app = make_app(**bare.config)
    setup(app)
    assert len(stored(app)[1]) == 1


# Many portals, or none yet -------------------------------------------------------------------------------


def test_without_a_portal_the_apps_own_part_is_done(make_app: MakeApp, bare: Desk) -> None:
    none = dict.fromkeys(("refresh_token", "portal_id", "inbox_id"))
    app = make_app(**{**bare.config, **none})
    result = run(app, "setup")
    assert result.exit_code == 1
    assert "Not finished: no portal has installed the app; make a link for it with" in result.output
    assert bare.channel()["webhookUrl"] == bare.target() == webhook_url(app)
    assert bare.subscriptions() == ALL
    missing = run(make_app(**{**bare.config, **none, "developer_api_key": None}), "setup")
    assert "HUBSPOT_HITL_DEVELOPER_API_KEY is missing" in missing.output


def test_an_app_id_is_needed(make_app: MakeApp, bare: Desk) -> None:
    result = run(make_app(**{**bare.config, "app_id": None}), "setup")
    assert result.exit_code == 1
    assert "HUBSPOT_HITL_APP_ID is missing" in result.output


# Teardown ------------------------------------------------------------------------------------------------


def test_teardown_tells_first_and_takes_back_what_is_ours(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**{**bare.config, "inbox_id": f"{INBOX},{HELP_DESK}"})
    setup(app)
    channel = bare.channel()
    written = bare.writes()
    told = run(app, "teardown", "--channel")
    assert told.exit_code == 0
    assert "run it again with --yes" in told.output
    assert f"Would archive the channel {channel['id']}" in told.output
    assert bare.writes() == written

    done = run(app, "teardown", "--channel", "--yes")
    assert done.exit_code == 0
    assert [path.split()[0] for path in bare.writes()[len(written) :]] == ["PATCH", "PATCH", "DELETE"]
    assert bare.channels() == []
    assert stored(app) == (None, [])
    assert bare.subscriptions() == ALL, "they belong to the whole app"
    assert "nothing to take back" in run(app, "teardown", "--yes").output

    setup(app)
    assert bare.channel()["id"] != channel["id"]


def test_teardown_tells_of_conversations_that_are_with_agents(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    setup(app)
    assert "with agents" not in run(app, "teardown").output
    with app.app_context():
        HubSpotHITL().start("c1", contact=PHONE, name="Rosa")
    told = run(app, "teardown").output
    assert "1 conversation is with agents through this channel" in told
    assert "run it again with --yes" in told
    with app.app_context():
        HubSpotHITL().stop("c1")
    assert "with agents" not in run(app, "teardown").output


def test_teardown_leaves_the_channel_unless_asked(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    setup(app)
    channel, _ = stored(app)
    assert channel is not None
    result = run(app, "teardown", "--yes")
    assert f"The channel {channel.channel_id} stays: add --channel" in result.output
    assert [one["authorized"] for one in bare.accounts(channel.channel_id)] == [False]
    assert [one.authorized for one in stored(app)[1]] == [False]
    setup(app)
    assert [one["authorized"] for one in bare.accounts(channel.channel_id)] == [True]


def test_teardown_keeps_a_channel_that_another_portal_may_use(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    setup(app)
    [mine] = stored(app)[1]
    other = AccountRecord(portal_id="555111", account_id="9", channel_id=mine.channel_id, inbox_id="8")
    with state_of(app).ledger.write() as tx:
        tx.channels.save_account(other, now=1)
    result = run(app, "teardown", "--channel", "--yes")
    assert result.exit_code == 0
    assert f"The channel {mine.channel_id} stays: portal 555111 may use it, and can't be asked." in result.output
    assert bare.channel()["id"] == mine.channel_id


def test_teardown_leaves_what_bears_another_mark(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    channel = bare.make_channel("By hand", webhookUrl=webhook_url(app))
    account = bare.make_account(channel, INBOX, "by-hand")
    written = bare.writes()
    result = run(app, "teardown", "--channel", "--yes")
    assert result.exit_code == 0
    assert f"The account {account} in the inbox {INBOX} “Inbox” stays" in result.output
    assert f"The channel {channel} stays: it does not bear the mark" in result.output
    assert bare.writes() == written


def test_the_preset_app_is_mended_without_a_question(make_app: MakeApp, hubspot: HubSpot) -> None:
    """Made by hand, and named in the settings: it needs no --take-over."""
    desk = Desk(hubspot, hubspot.env())
    app = make_app(dispatcher="inline")
    hubspot.target(webhook_url(app))
    setup(app)
    assert desk.env["HUBSPOT_HITL_APP_ID"] == APP
    assert [one["id"] for one in desk.accounts(CHANNEL)] == [desk.env["HUBSPOT_HITL_CHANNEL_ACCOUNT_ID"]]
    written = desk.writes()
    setup(app)
    assert desk.writes() == written


# --- the journal -----------------------------------------------------------------------------------------


def test_the_journal_is_subscribed_to_where_it_is_switched_on(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config, journal="on")
    planned = run(app, "setup", "--plan").output
    for action in ("APP_INSTALL", "APP_UNINSTALL"):
        assert f"Would subscribe to {action} of the journal." in planned
    assert state_of(app).services.journal().subscribed() == set()
    run(app, "setup")
    assert state_of(app).services.journal().subscribed() == {"APP_INSTALL", "APP_UNINSTALL"}
    again = run(app, "setup")
    assert "Nothing to change." in again.output
    assert len([one for one in bare.writes() if "webhooks-journal" in one]) == 2


@pytest.mark.parametrize("why", ["refused", "no_scope"])
def test_a_journal_that_is_refused_keeps_setup_from_nothing_else(
    make_app: MakeApp, bare: Desk, hubspot: HubSpot, why: str
) -> None:
    hubspot.chaos(journal=why)
    result = run(make_app(**bare.config, journal="on"), "setup")
    assert "By hand: HubSpot does not let this app subscribe to its journal" in result.output
    assert bare.target()


def test_setup_before_the_app_runs_ends_in_what_was_done(make_app: MakeApp, bare: Desk) -> None:
    app = make_app(**bare.config)
    said = run(app, "setup")
    assert said.exit_code == 0
    assert "HH302" in said.output, "nobody listens yet"
    last = said.output.splitlines()[-1]
    assert re.fullmatch(
        r"HubSpot is set up\. Mind the \d+ findings? above, then run 'flask hubspot-hitl doctor'\.", last
    )
