"""Servers that hang, each alone and all together, while ten other conversations talk: nobody else waits for them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask

from flask_hubspot_hitl import Attachment, HubSpotHITL, HubSpotUnavailable, message_delivered, operator_message
from flask_hubspot_hitl.botpress.service import BotpressPostponed, BotpressUnavailable, Service
from flask_hubspot_hitl.clock import ManualClock, SystemClock
from flask_hubspot_hitl.domain import Handoff, Message
from flask_hubspot_hitl.errors import CallPostponed
from flask_hubspot_hitl.hubspot.options import ConnectionOptions
from flask_hubspot_hitl.hubspot.transport import Transport, deadline
from flask_hubspot_hitl.portals.remote_files import Fetcher, NotFetched

from .browser import Browser, said
from .conftest import MakeApp, Serve
from .helpers import HubSpot, seconds_of, state_of, wait_until
from .test_portals import NO_TOKEN, Portal, send, start

TALKING = 10
"""Conversations that have nothing to do with what hangs."""
HANGING = 20
"""Conversations of each kind that do."""
SLOWEST_SECONDS = 5.0
"""A second is what is wanted; a busy machine gets more. Where one server holds every thread it takes a minute."""

Answer = Callable[[socket.socket, threading.Event], None]


def drip(one: socket.socket, over: threading.Event) -> None:
    """Send a file's head, and then a byte now and then."""
    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\nContent-Type: image/png\r\n\r\n")
    while not over.wait(0.2):
        one.sendall(b"x")


def drip_head(one: socket.socket, over: threading.Event) -> None:
    """Send one line of an answer's head after another."""
    one.sendall(b"HTTP/1.1 200 OK\r\n")
    while not over.wait(0.1):
        one.sendall(b"X: 1\r\n")


def read_slowly(one: socket.socket, over: threading.Event) -> None:
    """Take a little of what is sent now and then."""
    while not over.wait(0.1):
        one.recv(1_000)


def say_nothing(_: socket.socket, over: threading.Event) -> None:
    over.wait()


@contextlib.contextmanager
def listening(answer: Answer) -> Iterator[str]:
    """A server that takes every connection and request; its URL."""
    over = threading.Event()

    def serve(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            one.recv(65_536)
            answer(one, over)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=[door.accept()[0]], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0), backlog=128) as door:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
        over.set()
        door.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [drip, drip_head, read_slowly, say_nothing])
@pytest.mark.parametrize("size", [0, 30_000_000])
def test_an_attempt_ends_at_its_deadline_whatever_the_other_side_does(answer: Answer, size: int) -> None:
    """In its own thread: nothing is left behind that goes on."""
    with listening(answer) as url:
        transport = Transport(url, ConnectionOptions(clock=ManualClock()))

        def ask() -> None:
            with deadline(0.5), pytest.raises(HubSpotUnavailable):
                transport.send("POST", "/", doing="asking", files={"file": b"x" * size} if size else None)

        assert seconds_of(ask, less_than=3) < 3
        transport.close()


def test_an_attempt_without_a_deadline_has_one() -> None:
    with listening(drip_head) as url:
        transport = Transport(url, ConnectionOptions(clock=ManualClock(), attempt_seconds=0.5))
        with pytest.raises(HubSpotUnavailable):
            transport.send("GET", "/", doing="asking")
        transport.close()


def test_a_host_of_files_that_hangs_is_found_out_and_costs_one_deadline() -> None:
    with listening(drip) as url:
        fetcher = Fetcher(["127.0.0.1"], limit=99_999, seconds=2.5, share=lambda: 3)
        file, said = Attachment(url=f"{url}/a.png"), list[str]()

        def fetch() -> None:
            try:
                fetcher.fetch(file)
            except (NotFetched, CallPostponed) as error:
                said.append(str(error))

        callers = [threading.Thread(target=fetch) for _ in range(3)]
        for one in callers[:2]:
            one.start()
        time.sleep(1.1)
        callers[2].start()  # the only one more
        time.sleep(0.1)
        assert seconds_of(fetch, less_than=1, tries=1) < 1
        assert said == [f"fetching a file: not asked, {url.partition('://')[2]} answers slowly"]
        for one in callers:
            one.join()
        assert said[1:] == ["it takes too long"] * 3
        assert seconds_of(fetch, less_than=1, tries=1) < 1
        assert said[4:] == ["its host does not answer"], "which counts as a try: the link is sent soon"
        fetcher.close()


def test_a_botpress_that_hangs_is_left_alone_and_that_is_no_failure() -> None:
    with listening(say_nothing) as url:
        service = Service(url, clock=SystemClock(), timeout=(1, 1.2), share=lambda: 3)
        with pytest.raises(BotpressUnavailable) as raised:
            service.call("POST", "/", doing="telling")
        assert (raised.value.ambiguous, raised.value.is_failure) == (True, True)
        with pytest.raises(BotpressPostponed, match="not asked, Botpress does not answer") as again:
            service.call("POST", "/", doing="telling")
        assert (again.value.ambiguous, again.value.is_failure) == (False, False)
        assert 0 < (again.value.retry_after or 0) <= 2
        service.close()


class Talk:
    """An app with two portals; conversations of the first one are those that meet what hangs."""

    def __init__(self, app: Flask, hubspot: HubSpot, botpress_url: str) -> None:
        self.app = app
        self.hubspot = hubspot
        self.heard: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self._botpress = Service.of(state_of(app), botpress_url)
        operator_message.connect(self._receive, app)
        message_delivered.connect(self._delivered, app)

    def _receive(self, app: Flask, *, handoff: Handoff, message: Message, **extra: object) -> None:
        self.heard[message.text] = time.monotonic()
        if handoff.conversation_id.startswith("botpress"):
            self._botpress.call("POST", "/", doing="telling Botpress", body={})

    def _delivered(self, app: Flask, *, message: Message, **extra: object) -> None:
        self.heard[message.text] = time.monotonic()

    def open(self, kind: str, count: int, portal: Portal) -> dict[str, str]:
        """So many conversations; their threads."""
        names = [f"{kind}-{number}" for number in range(count)]
        return {name: str(start(self.app, name, portal_id=portal.id).thread_id) for name in names}

    def rounds(self, threads: dict[str, str], seconds: float) -> float:
        """All users and agents write, again and again; how long the slowest message took, in seconds."""
        ends, number = time.monotonic() + seconds, 0
        while time.monotonic() < ends:
            number += 1
            for name, thread in threads.items():
                user, agent = f"{name} user {number}", f"{name} agent {number}"
                self.said[user] = time.monotonic()
                assert send(self.app, user, name)
                self.said[agent] = time.monotonic()
                self.hubspot.act(thread, "reply", text=agent)
                time.sleep(0.05)
        wait_until(lambda: self.said.keys() <= self.heard.keys(), what="every message")
        return max(self.heard[text] - at for text, at in self.said.items())


@pytest.mark.parametrize(
    ("hanging", "seconds"),
    [
        pytest.param({"files"}, 6, id="files", marks=pytest.mark.slow),
        pytest.param({"botpress"}, 6, id="botpress", marks=pytest.mark.slow),
        pytest.param({"hubspot"}, 4, id="hubspot"),
        pytest.param({"files", "botpress", "hubspot"}, 6, id="all", marks=pytest.mark.slow),
        pytest.param({"files", "botpress", "hubspot"}, 30, id="all for long", marks=pytest.mark.slow),
    ],
)
def test_nobody_waits_for_a_server_that_hangs_but_those_who_need_it(
    make_app: MakeApp, serve: Serve, hubspot: HubSpot, hanging: set[str], seconds: float
) -> None:
    portals = [Portal(hubspot, number) for number in ("525252", "626262")]
    with listening(drip) as files, listening(say_nothing) as botpress, contextlib.closing(Browser()) as browser:
        app = make_app(
            may_install=lambda portal_id: True,
            SECRET_KEY="s",
            rate_limit="2000",  # who goes first where that is short is another question
            attachment_hosts="127.0.0.1",
            **NO_TOKEN,
        )
        url = serve(app)
        for portal in portals:
            portal.store(app)
            assert said(browser.connect(f"{url}/hubspot/oauth/install", portal.id)) == "HubSpot is connected"
        talk = Talk(app, hubspot, botpress)
        met = {kind: talk.open(kind, HANGING, portals[0]) for kind in sorted(hanging)}
        others = talk.open("talking", TALKING, portals[1])
        if "hubspot" in hanging:
            hubspot.chaos(faults=[{"match": "POST .*/files/", "times": None, "mode": "delay", "seconds": 60}])
        for number, name in enumerate(met.get("files", ())):
            with app.app_context():
                assert HubSpotHITL().send(name, "a file", attachments=[Attachment(url=f"{files}/{number}.png")])
        for name in met.get("hubspot", ()):
            with app.app_context():
                assert HubSpotHITL().send(name, "a file", attachments=[Attachment(name="a.png", content=b"png")])
        for name, thread in met.get("botpress", {}).items():
            hubspot.act(thread, "reply", text=f"to {name}")
        took = talk.rounds(others, seconds)
        print(f"{sorted(hanging)}: the slowest of {len(talk.said)} messages took {took:.3f} s")
        assert took < SLOWEST_SECONDS
        state_of(app).close(timeout=0)
