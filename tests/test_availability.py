"""Whether a live agent is there: by HubSpot's users over real HTTP, by teams, by who has answered, by own hours.

Source: docs/rules.rst J1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl import (
    Availability,
    AvailabilityReason,
    ConfigError,
    HubSpotHITL,
    NobodyAvailable,
    NotConfigured,
    assignment_timed_out,
)
from flask_hubspot_hitl.clock import ManualClock, to_datetime
from flask_hubspot_hitl.config import Settings
from flask_hubspot_hitl.domain import Operator
from flask_hubspot_hitl.handoffs import transitions
from flask_hubspot_hitl.hubspot.paths import API_VERSIONS
from flask_hubspot_hitl.hubspot.scopes import TEAMS_SCOPE, USERS_SCOPE, AppKind, needed
from flask_hubspot_hitl.ledger.lanes import Work
from flask_hubspot_hitl.portals import installations

from .conftest import MakeApp
from .helpers import HubSpot, Json, open_handoff, state_of

NOOR, TEO = "A-987", "A-988"
INBOX = "700200300"
MONDAY_NOON = int(datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp() * 1000)
EMAIL = "rosa@example.test"
Ask = Callable[..., Availability]


def hours(start: int, end: int, days: str = "MONDAY_TO_FRIDAY") -> list[Json]:
    return [{"days": days, "startMinute": start * 60, "endMinute": end * 60}]


def at(year: int, month: int, day: int, hour: int) -> datetime:
    return datetime(year, month, day, hour, tzinfo=UTC)


class Desk:
    """An app that asks the stand-in who is there, at a time of the test's."""

    def __init__(self, make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
        self.make_app, self.hubspot, self.clock = make_app, hubspot, clock
        self.hitl = HubSpotHITL()
        self.app: Flask | None = None
        hubspot.chaos(hours_set_away=False)  # the stand-in's clock is not the test's

    def open(self, *, scopes: str = "*", **config: Any) -> Flask:
        token = self.hubspot.get(f"access-token?scopes={scopes}")["access_token"]
        settings = {
            "dispatcher": "inline",
            "access_token": token,
            "refresh_token": None,
            "availability": "hubspot",
            "inbox_members": f"{NOOR},{TEO}",
        }
        self.app = self.make_app(clock=self.clock, **(settings | config))
        return self.app

    def ask(self, **where: str) -> Availability:
        assert self.app is not None
        with self.app.app_context():
            return self.hitl.availability(**where)

    def start(self, conversation_id: str = "c-1", **more: Any) -> Any:
        assert self.app is not None
        with self.app.app_context():
            return self.hitl.start(conversation_id, contact=EMAIL, require_available=True, **more)

    def calls(self) -> list[str]:
        """What was asked about users and teams."""
        found = [f"{one['method']} {one['path']}" for one in self.hubspot.requests()]
        return [one for one in found if "/users" in one or "/teams" in one]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MONDAY_NOON)


@pytest.fixture
def desk(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Desk:
    return Desk(make_app, hubspot, clock)


# --- J1: who is there ------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", API_VERSIONS)
def test_j1_who_is_available_is_there(desk: Desk, version: str) -> None:
    desk.open(api_version=version)
    assert desk.ask() == Availability(True, (NOOR, TEO), None, AvailabilityReason.AVAILABLE)
    desk.hubspot.availability(TEO, status="away")
    desk.clock.advance(15)
    assert desk.ask().agents == (NOOR,)
    desk.hubspot.availability(NOOR, status="away")
    desk.clock.advance(15)
    assert desk.ask() == Availability(False, (), None, AvailabilityReason.AWAY)
    listed, read, again = desk.calls()
    assert listed.startswith("GET ")
    assert read == again
    assert read.endswith("/users/batch/read")


@pytest.mark.parametrize("form", ["away", "empty", "null"])
def test_j1_an_empty_status_is_away(desk: Desk, form: str) -> None:
    desk.hubspot.chaos(away_form=form)
    desk.open(inbox_members=NOOR)
    desk.hubspot.availability(NOOR, status=None)
    assert desk.ask().open is False


@pytest.mark.parametrize("form", ["name", "slash"])
@pytest.mark.parametrize("sets_away", [True, False])
def test_j1_working_hours_are_by_the_clock_of_the_agent(desk: Desk, form: str, sets_away: bool) -> None:
    desk.hubspot.chaos(time_zone_form=form, hours_set_away=sets_away)
    desk.open(inbox_members=NOOR)
    desk.hubspot.availability(NOOR, timeZone="Asia/Tokyo", workingHours=hours(9, 17))  # at noon UTC it is 21:00 there
    assert desk.ask() == Availability(False, (), at(2026, 12, 1, 0), AvailabilityReason.CLOSED)
    desk.hubspot.availability(NOOR, timeZone="America/New_York", workingHours=hours(7, 17, "EVERY_DAY"))
    desk.clock.advance(15)
    if not sets_away:  # what it says depends on the hour of the day then
        assert desk.ask().agents == (NOOR,)


def test_j1_opens_at_is_the_first_beginning_of_anybodys_working_time(desk: Desk) -> None:
    desk.open()
    desk.hubspot.availability(NOOR, status="away", timeZone="UTC", workingHours=hours(9, 17))
    desk.hubspot.availability(TEO, status="available", timeZone="UTC", workingHours=hours(14, 20))
    assert desk.ask() == Availability(False, (), at(2026, 11, 30, 14), AvailabilityReason.AWAY)
    desk.clock.advance(2 * 3600)
    assert desk.ask().agents == (TEO,)
    desk.clock.advance(12 * 3600)
    assert desk.ask() == Availability(False, (), at(2026, 12, 1, 9), AvailabilityReason.CLOSED)


@pytest.mark.parametrize("form", ["moments", "days"])
def test_j1_who_is_out_of_office_is_not_there(desk: Desk, form: str) -> None:
    desk.open(inbox_members=NOOR)
    until = MONDAY_NOON + 3 * 86_400_000
    absence = (
        [{"startTimestamp": MONDAY_NOON - 1, "endTimestamp": until}] if form == "moments" else hours(0, 24, "MONDAY")
    )
    desk.hubspot.availability(NOOR, timeZone="UTC", workingHours=hours(8, 17), outOfOffice=absence)
    opens_at = to_datetime(until) if form == "moments" else at(2026, 12, 1, 8)
    assert desk.ask() == Availability(False, (), opens_at, AvailabilityReason.CLOSED)


@pytest.mark.parametrize("text", ["", "[", "{}", "null", '[{"days": "SOMEDAY"}]', "0" * 5_000])
def test_j1_hours_that_are_broken_count_as_none(desk: Desk, text: str) -> None:
    desk.open(inbox_members=NOOR)
    desk.hubspot.availability(NOOR, timeZone="UTC", workingHours=text, outOfOffice=text)
    assert desk.ask().agents == (NOOR,)
    desk.hubspot.availability(NOOR, timeZone="Mars/Olympus", workingHours=hours(1, 2))
    desk.clock.advance(15)
    assert desk.ask().agents == (NOOR,)


def test_j1_hours_may_cross_midnight(desk: Desk) -> None:
    desk.open(inbox_members=NOOR)
    desk.hubspot.availability(NOOR, timeZone="UTC", workingHours=hours(22, 6))
    assert desk.ask().opens_at == at(2026, 11, 30, 22)
    desk.clock.advance(17 * 3600)
    assert desk.ask().agents == (NOOR,)


# --- J2: for whom -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["user", "object"])
def test_j2_a_team_answers_in_an_inbox(desk: Desk, ids: str) -> None:
    desk.hubspot.chaos(team_member_ids=ids, page_size=1)
    team = desk.hubspot.team("Service", TEO)
    desk.open(inbox_members=f"{INBOX}/team:{team}")
    assert desk.ask().agents == (TEO,)
    assert desk.ask(inbox_id="700200999").reason is AvailabilityReason.NO_MEMBERS
    desk.hubspot.availability(TEO, status="away")
    desk.clock.advance(15)
    assert desk.ask().open is False


def take(app: Flask, conversation_id: str, actor_id: str, thread_id: str) -> None:
    """A handoff in the preset inbox that an agent took."""
    record = open_handoff(app, conversation_id, thread_id)
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        current = tx.records.get(record.handoff.id, lock=True)
        assert current is not None
        transitions.assigned(tx, current, Operator(actor_id), occurred_ms=ledger.now_ms())


def test_j2_without_a_setting_it_is_who_has_answered_there(desk: Desk) -> None:
    app = desk.open(inbox_members=None)
    assert desk.ask() == Availability(None, (), None, AvailabilityReason.NO_MEMBERS)
    take(app, "c-7", TEO, "7007")
    take(app, "c-8", "L-5", "7008")  # a machine is no member
    desk.clock.advance(15)
    assert desk.ask().agents == (TEO,)
    desk.hubspot.availability(TEO, status="away")
    desk.clock.advance(15)
    assert desk.ask().open is False
    take(app, "c-9", NOOR, "7009")  # somebody who was not among the users that were read
    desk.clock.advance(15)
    assert desk.ask().agents == (NOOR,)


def test_j2_who_has_given_a_handoff_up_answers_there(desk: Desk) -> None:
    app = desk.open(inbox_members=None)
    take(app, "c-7", TEO, "7007")
    ledger = state_of(app).ledger
    with ledger.write() as tx:
        current = tx.records.open_of("c-7")
        assert current is not None
        transitions.assigned(tx, current, None, occurred_ms=ledger.now_ms() + 1)
    assert desk.ask().agents == (TEO,)


def test_j2_agents_whom_hubspot_does_not_know_make_it_unknown(desk: Desk) -> None:
    desk.open(inbox_members="A-5")
    assert desk.ask().reason is AvailabilityReason.NO_MEMBERS
    assert desk.start().thread_id


def test_j2_a_user_who_comes_later_is_found_within_ten_minutes(desk: Desk) -> None:
    desk.open(inbox_members=f"{NOOR},A-5")
    assert desk.ask().agents == (NOOR,)
    desk.hubspot.control("PUT", "agents/A-5", {"name": "Ana Ruiz"})
    desk.hubspot.availability("A-5", status="available")
    desk.clock.advance(600)
    assert desk.ask().agents == (NOOR, "A-5")


@pytest.mark.parametrize("version", API_VERSIONS)
def test_j2_a_user_who_is_gone_leaves_the_others_where_they_are(desk: Desk, version: str) -> None:
    desk.open(api_version=version)
    assert desk.ask().agents == (NOOR, TEO)
    desk.hubspot.control("PUT", f"agents/{TEO}", {"archived": True})
    for _ in range(2):
        desk.clock.advance(15)
        assert desk.ask().agents == (NOOR,)


# --- J3: what is not known --------------------------------------------------------------------------------


def test_j3_without_the_scope_it_is_not_known_and_handoffs_go_on(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.open(scopes=",".join(needed(AppKind.LEGACY_PUBLIC, creates_contacts=False)))
    assert desk.ask() == Availability(None, (), None, AvailabilityReason.NOT_GRANTED)
    assert desk.start().thread_id
    told = [one for one in caplog.records if "does not tell who is available" in one.getMessage()]
    assert len(told) == 1


def test_j3_without_the_teams_scope_it_is_not_known(desk: Desk) -> None:
    team = desk.hubspot.team("Service", TEO)
    granted = (*needed(AppKind.LEGACY_PUBLIC, creates_contacts=False), USERS_SCOPE)
    desk.open(scopes=",".join(granted), inbox_members=f"team:{team}")
    assert desk.ask().reason is AvailabilityReason.NOT_GRANTED


@pytest.mark.parametrize(
    "fault", [{"status": 503}, {"mode": "drop"}, {"status": 429}, {"status": 404}, {"body": "html", "status": 502}]
)
def test_j3_while_hubspot_fails_it_is_not_known(desk: Desk, fault: Json) -> None:
    desk.open()
    desk.hubspot.chaos(faults=[{"match": "/users", **fault}])
    assert desk.ask() == Availability(None, (), None, AvailabilityReason.UNREACHABLE)
    desk.hubspot.chaos(faults=[])
    if fault.get("status") != 429:  # for a while nothing is asked then
        desk.clock.advance(5)
        assert desk.ask().open is True


def test_j3_hubspot_is_waited_for_seconds_only(desk: Desk) -> None:
    desk.open()
    desk.hubspot.chaos(faults=[{"match": "/users", "mode": "delay", "seconds": 20}])
    began = time.monotonic()
    assert desk.ask().reason is AvailabilityReason.UNREACHABLE
    assert time.monotonic() - began < 10  # 2.5 s, on a busy machine
    desk.hubspot.chaos(faults=[])


def test_j3_what_hubspot_says_is_known_for_seconds(desk: Desk) -> None:
    desk.open()
    for _ in range(50):
        assert desk.ask().open is True
    assert len(desk.calls()) == 1
    desk.clock.advance(14.9)
    desk.ask()
    assert len(desk.calls()) == 1
    desk.clock.advance(0.1)
    desk.ask()
    assert len(desk.calls()) == 2


def test_j3_many_who_ask_at_once_are_one_question(desk: Desk) -> None:
    desk.open()
    desk.hubspot.chaos(faults=[{"match": "/users", "mode": "delay", "seconds": 0.5}])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: desk.ask(), range(8)))
    assert {one.open for one in answers} == {True}
    assert len(desk.calls()) == 1


# --- J4: only if somebody is there ------------------------------------------------------------------------


def test_j4_a_handoff_for_who_is_there_is_refused_when_nobody_is(desk: Desk) -> None:
    app = desk.open()
    assert desk.ask().open is True
    for one in (NOOR, TEO):
        desk.hubspot.availability(one, status="away", timeZone="UTC", workingHours=hours(8, 11))
    with pytest.raises(NobodyAvailable, match="working time begins at 2026-12-01 08:00 UTC") as caught:
        desk.start()  # what is known for seconds does not count
    assert caught.value.opens_at == at(2026, 12, 1, 8)
    with app.app_context():
        assert desk.hitl.get("c-1") is None
    assert desk.hubspot.threads() == []
    desk.hubspot.availability(TEO, status="available", workingHours=None)
    assert desk.start().thread_id


def test_j4_an_open_handoff_is_returned_whoever_is_there(desk: Desk) -> None:
    desk.open()
    first = desk.start()
    for one in (NOOR, TEO):
        desk.hubspot.availability(one, status="away")
    assert desk.start().id == first.id


def test_j4_the_question_counts_as_live_work_whoever_asks(desk: Desk) -> None:
    app = desk.open(assignment_timeout=60)
    seen: list[tuple[Availability, int, int]] = []

    def used(work: Work) -> int:
        with state_of(app).ledger.read() as tx:
            slots = [had for bucket in tx.buckets.all() for had in bucket.slots.values()]
        return sum(had.get(work, 0) for had in slots)

    def ask(sender: Flask, **extra: object) -> None:
        desk.clock.advance(2)  # nothing is left of what was taken out of the budget before
        timers, live = used(Work.TIMER), used(Work.LIVE)
        seen.append((desk.hitl.availability(), used(Work.TIMER) - timers, used(Work.LIVE) - live))

    assignment_timed_out.connect(ask, app)
    with app.app_context():
        desk.hitl.start("c-1", contact=EMAIL)
    desk.clock.advance(61)
    state_of(app).dispatcher.run_due()
    [(found, timers, live)] = seen
    assert found.open is True
    assert timers <= 0  # what was taken and not used goes back
    assert live == 1


# --- J5: business hours -----------------------------------------------------------------------------------

BUSINESS = {"business_hours": "mon-fri 09:00-17:30, sat 10:00-12:00", "business_time_zone": "Europe/Madrid"}


def test_j5_business_hours_alone(desk: Desk) -> None:
    desk.open(availability="hours", inbox_members=None, business_holidays="12-25,2026-12-01", **BUSINESS)
    assert desk.ask() == Availability(True, (), None, AvailabilityReason.AVAILABLE)
    desk.clock.advance(5 * 3600)
    # the first of December is a holiday
    assert desk.ask() == Availability(False, (), at(2026, 12, 2, 8), AvailabilityReason.CLOSED)
    with pytest.raises(NobodyAvailable):
        desk.start()
    assert desk.calls() == []


def test_j5_business_hours_are_for_agents_who_keep_none_in_hubspot(desk: Desk) -> None:
    desk.open(**{**BUSINESS, "business_hours": "mon-fri 15:00-17:00"})
    desk.hubspot.availability(NOOR, timeZone="UTC", workingHours=hours(11, 13))
    assert desk.ask().agents == (NOOR,)  # Teo keeps none: it is not the business's time for him
    desk.hubspot.availability(NOOR, status="away")
    desk.clock.advance(15)
    assert desk.ask() == Availability(False, (), at(2026, 11, 30, 14), AvailabilityReason.AWAY)


# --- J6: settings -----------------------------------------------------------------------------------------


def test_j6_switched_off_it_says_how_to_switch_it_on(desk: Desk) -> None:
    desk.open(availability=None)
    for ask in (desk.ask, desk.start):
        with pytest.raises(NotConfigured, match="HUBSPOT_HITL_AVAILABILITY"):
            ask()
    assert desk.calls() == []


BASE = {"HUBSPOT_HITL_CLIENT_SECRET": "s", "HUBSPOT_HITL_PUBLIC_URL": "https://bot.example.com"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AVAILABILITY", "yes"),
        ("AVAILABILITY", "hours"),
        ("BUSINESS_HOURS", "mon-fri 9-17"),
        ("BUSINESS_HOURS", "mon-fri 09:00-17:30"),
        ("BUSINESS_TIME_ZONE", "Madrid"),
        ("BUSINESS_HOLIDAYS", "25.12."),
        ("INBOX_MEMBERS", "Noor"),
        ("INBOX_MEMBERS", "team:service"),
    ],
)
def test_j6_settings_that_are_wrong(name: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.from_config({**BASE, f"HUBSPOT_HITL_{name}": value})
    assert len(caught.value.problems) == 1
    assert "Example: " in caught.value.problems[0]


def test_j6_scopes_are_asked_for_only_when_they_are_used() -> None:
    def wanted(**settings: str) -> set[str]:
        config = BASE | {f"HUBSPOT_HITL_{name.upper()}": value for name, value in settings.items()}
        return set(installations.wanted_scopes(Settings.from_config(config), AppKind.PROJECT))

    plain = wanted()
    assert {USERS_SCOPE, TEAMS_SCOPE}.isdisjoint(plain)
    assert wanted(inbox_members="team:5") == plain
    assert wanted(availability="hubspot") == plain | {USERS_SCOPE}
    assert wanted(availability="hubspot", inbox_members="700/team:5") == plain | {USERS_SCOPE, TEAMS_SCOPE}
    hours_only = {"business_hours": "mon 09:00-10:00", "business_time_zone": "UTC"}
    assert wanted(availability="hours", **hours_only) == plain
