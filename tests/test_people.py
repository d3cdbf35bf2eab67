"""Whom a handoff is for, in HubSpot: found in any form, made once, followed when merged (rules C1, C5, C8)."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import Contact, ContactInvalid, ContactNotFound, HandoffState, HubSpotRejected, WrongPortal
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.dispatch import housekeeping
from flask_hubspot_hitl.portals import contacts

from .conftest import MakeApp, Record
from .forked import Forked
from .helpers import HubSpot, Json, state_of
from .phone_pairs import PAIRS
from .story import Story

CREATE = "POST .*/contacts$"
EMAIL = "ada@example.test"
PHONE = "+14155550199"


class People:
    """The contacts in the stand-in, by HubSpot's API."""

    def __init__(self, hubspot: HubSpot) -> None:
        self.hubspot = hubspot
        self._http = requests.Session()
        self._http.trust_env = False
        self._http.headers["Authorization"] = f"Bearer {hubspot.get('access-token')['access_token']}"
        self._url = f"{hubspot.env()['HUBSPOT_HITL_API_BASE_URL']}/crm/v3/objects/contacts"
        self.before = set(self.all())

    def all(self) -> dict[str, Json]:
        answer = self._http.get(self._url, params={"limit": "100", "properties": "email,phone"}, timeout=20)
        answer.raise_for_status()
        return {one["id"]: one["properties"] for one in answer.json()["results"]}

    def made(self) -> dict[str, Json]:
        """Those who were not there at first."""
        return {name: one for name, one in self.all().items() if name not in self.before}

    def remove(self, contact_id: str) -> None:
        self._http.delete(f"{self._url}/{contact_id}", timeout=20).raise_for_status()

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def people(hubspot: HubSpot) -> Iterator[People]:
    found = People(hubspot)
    yield found
    found.close()


@pytest.fixture
def tell(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Callable[..., Story]:
    """A story of an app with a contact policy and other settings."""

    def one(policy: str = "require", **settings: Any) -> Story:
        app = make_app(clock=clock, dispatcher="inline", contact_policy=policy, **settings)
        return Story(app, hubspot, clock, record(app))

    return one


def contact_of(story: Story, conversation_id: str) -> str:
    handoff = story.handoff(conversation_id)
    assert handoff is not None
    assert handoff.thread_id is not None, handoff.state
    return str(story.hubspot.thread(handoff.thread_id)["associatedContactId"])


# Numbers -------------------------------------------------------------------------------------------------


def answer_for(story: Story, given: str, number: int) -> str | None:
    """The contact that the product takes for a number; None when it says that there is none."""
    story.clock.advance(1)  # our own limit of calls to HubSpot
    try:
        story.start(f"c{number}", contact=given)
    except ContactNotFound:
        return None
    return contact_of(story, f"c{number}")


@pytest.mark.parametrize(
    "policy",
    ["create", pytest.param("require", marks=pytest.mark.slow), pytest.param("anonymous", marks=pytest.mark.slow)],
)
def test_every_pair_in_hubspot(tell: Callable[..., Story], people: People, policy: str) -> None:
    story = tell(policy)
    number = 0
    for pair in PAIRS:
        for stored, given in ((pair.old, pair.new), (pair.new, pair.old)):
            known = str(people.hubspot.contact(phone=stored, firstname="Ada")["id"])
            found = answer_for(story, given, number := number + 1)
            there = set(people.made())
            said = f"{policy}: {given} while HubSpot has {stored}"
            if pair.is_same:
                assert found == known, said
                assert there == {known}, said
            elif policy == "create":
                assert found != known, said
                assert there == {known, found}, said
            else:
                assert found != known, said
                assert (found is None) == (policy == "require"), said
                assert there == {known}, said
            for one in there:
                people.remove(one)


@pytest.mark.parametrize("given", ["+5215512345678", Contact(whatsapp="5215512345678"), "whatsapp:+5215512345678"])
@pytest.mark.parametrize("name", ["phone", "mobilephone", "hs_whatsapp_phone_number"])
def test_no_host_code_is_needed_for_mexico(tell: Callable[..., Story], people: People, given: Any, name: str) -> None:
    known = people.hubspot.contact(**{name: "525512345678" if name.startswith("hs") else "+52 55 1234 5678"})["id"]
    story = tell()
    assert story.start(contact=given).state == HandoffState.WAITING
    assert contact_of(story, "c1") == known


def test_a_bare_id_that_is_not_named_is_refused_with_a_hint(tell: Callable[..., Story]) -> None:
    with pytest.raises(ContactInvalid, match=r"Contact\(whatsapp=…\)"):
        tell().start(contact="5215512345678")


def test_what_no_country_has_is_made_and_opened(tell: Callable[..., Story], people: People) -> None:
    story = tell("create")
    assert story.start(contact=Contact(whatsapp="999123456789"), name="Ada").state == HandoffState.WAITING
    assert {contact_of(story, "c1"): "+999123456789"} == {name: one["phone"] for name, one in people.made().items()}


def test_the_agent_sees_the_extension(tell: Callable[..., Story], hubspot: HubSpot) -> None:
    hubspot.contact(phone="+1 415 555 0123")
    handoff = tell().start(contact="+1 (415) 555-0123 ext. 12", name="Ada")
    assert handoff.contact == Contact(phone="+14155550123", extension="12")
    assert "From: Ada, +14155550123 ext. 12" in hubspot.thread(handoff.thread_id)["messages"][0]["text"]


# Made a moment ago ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["require", "create", "anonymous"])
def test_an_email_contact_made_a_moment_ago_is_found(tell: Callable[..., Story], people: People, policy: str) -> None:
    people.hubspot.chaos(search_lag=3600)
    known = people.hubspot.contact(email=EMAIL)["id"]
    story = tell(policy)
    story.start(contact=EMAIL.upper())
    assert contact_of(story, "c1") == known
    assert set(people.made()) == {known}


def test_a_further_address_finds_the_contact(tell: Callable[..., Story], people: People) -> None:
    known = people.hubspot.contact(email="lovelace@example.test", hs_additional_emails=f"king@example.test;{EMAIL}")
    story = tell("create")
    story.start(contact=EMAIL)
    assert contact_of(story, "c1") == known["id"]
    assert set(people.made()) == {known["id"]}


def test_a_further_address_that_search_does_not_know_yet_is_told_by_hubspot(
    tell: Callable[..., Story], people: People
) -> None:
    people.hubspot.chaos(search_lag=3600)
    known = people.hubspot.contact(email="lovelace@example.test", hs_additional_emails=EMAIL)
    story = tell("create")
    story.start(contact=EMAIL)
    assert contact_of(story, "c1") == known["id"], "its 409 names who has the address"


# Once ----------------------------------------------------------------------------------------------------

both_databases = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
PERSONS: dict[str, str | Contact] = {
    "phone": PHONE,
    "email": EMAIL,
    "whatsapp": Contact(whatsapp="5215512345678"),
    "both": Contact(phone=PHONE, email=EMAIL),
}


def start_all(story: Story, contact: str | Contact, count: int) -> None:
    """Start as many conversations at the same moment."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def one(number: int) -> None:
        barrier.wait()
        try:
            story.start(f"c{number}", contact=contact)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []


def opened(story: Story, count: int) -> int:
    found = [story.handoff(f"c{number}") for number in range(count)]
    return sum(one is not None and one.state == HandoffState.WAITING for one in found)


@both_databases
@pytest.mark.parametrize("fault", [None, "drop_after", "status_after", "drop"])
@pytest.mark.parametrize("who", PERSONS)
def test_eight_at_once_make_one_contact(
    tell: Callable[..., Story], people: People, database_url: str, who: str, fault: str | None
) -> None:
    """For a minute search does not know who was made; and the first answer is lost, or the first request."""
    if fault is not None:
        people.hubspot.chaos(faults=[{"match": CREATE, "mode": fault, "times": 1}])
    people.hubspot.chaos(search_lag=3600)
    story = tell("create")
    start_all(story, PERSONS[who], 8)
    for _ in range(6):
        story.run(10)
        assert len(people.made()) <= 1
    people.hubspot.chaos(search_lag=0)
    for _ in range(12):
        story.run(10)
    assert opened(story, 8) == 8
    assert {contact_of(story, f"c{number}") for number in range(8)} == set(people.made())
    assert len(people.made()) == 1


PROCESS = """
import os
from flask import Flask
from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.runtime import get_runtime
app = Flask("bot")
app.config.update({name: value for name, value in os.environ.items() if name.startswith("HUBSPOT_HITL_")})
hitl = HubSpotHITL(app)
ready()
with app.app_context():
    for number in range(2):
        tell(hitl.start(f"c-{os.getpid()}-{number}", contact=arguments[0]).state)
get_runtime(app).close(timeout=20)
"""


@both_databases
@pytest.mark.parametrize(
    ("who", "fault"),
    [
        ("phone", "drop_after"),
        ("email", None),
        pytest.param("phone", None, marks=pytest.mark.slow),
        pytest.param("email", "drop_after", marks=pytest.mark.slow),
    ],
)
def test_four_processes_make_one_contact(
    make_app: MakeApp,
    people: People,
    record: Record,
    clock: ManualClock,
    database_url: str,
    who: str,
    fault: str | None,
) -> None:
    people.hubspot.chaos(search_lag=3600, deliver=False)
    if fault is not None:
        people.hubspot.chaos(faults=[{"match": CREATE, "mode": fault, "times": 1}])
    app = make_app(clock=clock, dispatcher="inline", contact_policy="create")
    settings = {key: str(value) for key, value in app.config.items() if key.startswith("HUBSPOT_HITL_")}
    with Forked(PROCESS, str(PERSONS[who]), count=4, env={**os.environ, **settings}) as processes:
        assert len(processes.go()) == 8
    assert len(people.made()) == 1
    story = Story(app, people.hubspot, clock, record(app))
    people.hubspot.chaos(search_lag=0)
    for _ in range(24):
        story.run(10)
    assert [one["associatedContactId"] for one in people.hubspot.threads()] == [*people.made()] * 8


def test_what_was_not_made_is_made_later(tell: Callable[..., Story], people: People) -> None:
    """The connection broke: nobody knows whether HubSpot has it, until search would show it."""
    people.hubspot.chaos(faults=[{"match": CREATE, "mode": "drop", "times": 1}])
    story = tell("create")
    assert story.start(contact=PHONE).state == HandoffState.STARTING
    story.run(contacts.INDEX_MS / 1000 - 10)
    assert people.made() == {}, "it may be there, and search may not know it yet"
    story.run(10)
    story.run(10)
    assert opened(story, 1) == 0, "this conversation is c1"
    assert set(people.made()) == {contact_of(story, "c1")}


def test_a_refusal_is_not_remembered(tell: Callable[..., Story], people: People) -> None:
    people.hubspot.chaos(faults=[{"match": CREATE, "status": 400, "times": 1}])
    story = tell("create")
    with pytest.raises(HubSpotRejected, match="creating a contact"):
        story.start("a", contact=PHONE)
    assert story.start("b", contact=PHONE).state == HandoffState.WAITING
    assert len(people.made()) == 1


def test_who_was_made_is_known_for_a_day_and_then_forgotten(tell: Callable[..., Story], people: People) -> None:
    people.hubspot.chaos(search_lag=3600)
    story = tell("create")
    story.start("a", contact="+5215512345678")
    story.start("b", contact=Contact(whatsapp="525512345678"))
    assert contact_of(story, "a") == contact_of(story, "b"), "known in every form"
    people.hubspot.chaos(search_lag=0)
    people.remove(contact_of(story, "a"))
    story.start("c", contact="+525512345678")
    assert set(people.made()) == {contact_of(story, "c")}, "an admin deleted it: there is another one"
    assert housekeeping.tidy(story.state.ledger, story.state.settings)[0]["keys"] == 0
    story.clock.advance(86_401)
    assert housekeeping.tidy(story.state.ledger, story.state.settings)[0]["keys"] == 1


# Merged --------------------------------------------------------------------------------------------------


def test_a_contact_that_was_merged_is_followed(tell: Callable[..., Story], people: People) -> None:
    people.hubspot.chaos(search_lag=3600)
    left = people.hubspot.contact(phone="+34 600 111 222", email="lovelace@example.test")["id"]
    story = tell("create")
    story.start("a", contact=PHONE)
    people.hubspot.post(f"contacts/{contact_of(story, 'a')}/merge", into=left)
    story.start("b", contact=PHONE)
    assert contact_of(story, "b") == left, "by its old id"
    assert story.send("still here", "a")
    story.run()
    assert contact_of(story, "a") == left
    assert set(people.made()) == {left}


def test_the_address_of_a_merged_contact_finds_the_one_that_is_left(tell: Callable[..., Story], people: People) -> None:
    left, gone = (people.hubspot.contact(email=one)["id"] for one in ("lovelace@example.test", EMAIL))
    people.hubspot.post(f"contacts/{gone}/merge", into=left)
    story = tell()
    story.start(contact=EMAIL)
    assert contact_of(story, "c1") == left


# Another portal's token ----------------------------------------------------------------------------------


def wrong(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> Flask:
    token = hubspot.get("access-token")["access_token"]
    return make_app(
        clock=clock, dispatcher="inline", portal_id="424243", refresh_token=None, access_token=token, SECRET_KEY="a key"
    )


SAYS = "HUBSPOT_HITL_PORTAL_ID is 424243, but the configured token is portal 424242's"


def test_another_portals_token_is_given_to_no_call(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock) -> None:
    app = wrong(make_app, hubspot, clock)
    client = state_of(app).services.client("424243")
    calls: list[Callable[[], object]] = [
        client.inboxes,
        lambda: client.get_thread("1"),
        lambda: client.find_contact(Contact(email=EMAIL)),
        lambda: client.create_contact(Contact(email=EMAIL), "Ada"),
    ]
    for call in calls:
        with pytest.raises(WrongPortal, match=SAYS):
            call()
    asked = {one["path"].partition("?")[0].rpartition("/")[2] for one in hubspot.requests()}
    assert len(asked) == 1, f"only whose it is: {asked}"


@pytest.mark.parametrize("command", [["inboxes"], ["setup", "--inbox", "700200300"]])
def test_commands_refuse_another_portals_token(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, command: list[str]
) -> None:
    app = wrong(make_app, hubspot, clock)
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", *command])
    assert result.exit_code != 0
    assert SAYS in result.output
    writes = [one for one in hubspot.requests() if one["method"] != "GET" and "424242" in str(one)]
    assert not [one for one in writes if "channel-accounts" in one["path"]], "nothing was changed in it"
