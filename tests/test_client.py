"""The client over real HTTP, against a peer that misbehaves in every way (D06, D17 to D20, D26, D29 to D31, D33)."""

from __future__ import annotations

import dataclasses
import gzip
import json
import logging
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import pytest

from flask_hubspot_hitl import errors
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.domain import Contact, Operator
from flask_hubspot_hitl.hubspot.client import HubSpotClient, build_incoming, file_attachment, opaque
from flask_hubspot_hitl.hubspot.contacts import identifier_of
from flask_hubspot_hitl.hubspot.oauth import CodeRefused, TokenEndpoint
from flask_hubspot_hitl.hubspot.options import ClientOptions, ConnectionOptions, OAuthOptions
from flask_hubspot_hitl.hubspot.paths import OAUTH_VERSIONS, Paths
from flask_hubspot_hitl.hubspot.tokens import RefreshingToken, StaticToken, TokenProvider

from .helpers import seconds_of, wait_until
from .peers.http_peer import HttpPeer, Reply, Request, Script

NOW = 1_790_000_000_000
TOKEN = "pat-secret-token"
KEY = "developer-secret-key"

Serve = Callable[[Script], HttpPeer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    peers: list[HttpPeer] = []

    def start(script: Script) -> HttpPeer:
        peers.append(HttpPeer(script))
        return peers[-1].__enter__()

    yield start
    for peer in peers:
        peer.__exit__()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NOW)


@pytest.fixture
def make(clock: ManualClock) -> Iterator[Callable[..., HubSpotClient]]:
    clients: list[HubSpotClient] = []

    def client(peer: HttpPeer | str, **settings: Any) -> HubSpotClient:
        tokens: TokenProvider = settings.pop("tokens", StaticToken(TOKEN))
        names = ("timeout", "proxy", "max_response_bytes")
        given: dict[str, Any] = {name: settings.pop(name) for name in names if name in settings}
        connection = ConnectionOptions(clock=clock, **({"timeout": (10.0, 10.0)} | given))
        options = ClientOptions(
            base_url=peer if isinstance(peer, str) else peer.url,
            api_version="v3",
            connection=connection,
            **settings,
        )
        clients.append(HubSpotClient(options, tokens=tokens))
        return clients[-1]

    yield client
    for one in clients:
        one.close()


Make = Callable[..., HubSpotClient]


def always(reply: Reply) -> Script:
    return lambda request: reply


def failing(action: Callable[[], object]) -> Callable[[], None]:
    """``action``, which is to find HubSpot unavailable."""

    def fail() -> None:
        with pytest.raises(errors.HubSpotUnavailable):
            action()

    return fail


def error(status: int, **body: Any) -> Reply:
    facts = {"status": "error", "message": "No.", "category": "VALIDATION_ERROR", "correlationId": "5c1b-7a52"}
    return Reply(status, facts | body)


# Lists


def pages(count: int) -> Script:
    """Pages of one, with a link that leads elsewhere."""

    def script(request: Request) -> Reply:
        number = int(request.query.get("after") or 0)
        body: dict[str, Any] = {"results": [{"id": str(number)}]}
        if number + 1 < count:
            body["paging"] = {"next": {"after": str(number + 1), "link": "http://evil.test/"}}
        return Reply(200, body)

    return script


def test_lists_are_read_to_the_end(serve: Serve, make: Make) -> None:
    """D30: pages of one, by the cursor and never by the link."""
    client = make(serve(pages(7)), developer_api_key=KEY, app_id="3131")
    expected = [{"id": str(number)} for number in range(7)]
    assert client.thread_messages("5") == expected
    assert client.inboxes() == expected
    assert client.channel_accounts("1") == expected
    assert client.list_channels() == expected


def test_search_is_read_to_the_end(serve: Serve, make: Make) -> None:
    def script(request: Request) -> Reply:
        number = int(request.json["after"])
        paging = {"paging": {"next": {"after": str(number + 1)}}} if number < 2 else {}
        return Reply(200, {"results": [{"id": str(number)}], **paging})

    assert [item["id"] for item in make(serve(script)).search_contacts([])] == ["0", "1", "2"]


@pytest.mark.parametrize("growing", [False, True])
def test_endless_lists_end(serve: Serve, make: Make, growing: bool) -> None:
    def script(request: Request) -> Reply:
        number = int(request.query.get("after") or 0)
        return Reply(200, {"results": [], "paging": {"next": {"after": str(number + 1 if growing else 1)}}})

    peer = serve(script)
    with pytest.raises(errors.HubSpotUnavailable, match="does not end"):
        make(peer).thread_messages("5")
    assert len(peer.requests) == (500 if growing else 2)


@pytest.mark.parametrize("body", [{}, {"results": None}, {"results": [1, None]}, {"results": [], "paging": 3}])
def test_odd_lists_are_empty(serve: Serve, make: Make, body: Any) -> None:
    assert make(serve(always(Reply(200, body)))).inboxes() == []


# Outages


def test_no_connection_is_not_ambiguous(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(errors.HubSpotUnavailable, match="no connection") as raised:
            make(url).publish("1", {})
    assert not raised.value.ambiguous
    assert raised.value.status is None


def test_connecting_alone_is_tried_again(serve: Serve, make: Make) -> None:
    """A name that does not exist is no request sent."""
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make("http://no-such-host.invalid").publish("1", {})
    assert not raised.value.ambiguous


def test_dropped_after_commit_is_ambiguous_and_sent_once(serve: Serve, make: Make) -> None:
    """D26."""
    peer = serve(always(Reply(drop=True)))
    client = make(peer)
    with pytest.raises(errors.HubSpotUnavailable, match="publishing a message") as raised:
        client.publish("1", {"integrationIdempotencyId": "x"})
    assert raised.value.ambiguous
    assert len(peer.requests) == 1
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        client.get_thread("5")
    assert not raised.value.ambiguous


def test_no_answer_in_time_is_ambiguous(serve: Serve, make: Make) -> None:
    peer = serve(always(Reply(delay=5)))
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make(peer, timeout=(1.0, 0.2)).publish("1", {})
    assert raised.value.ambiguous
    assert len(peer.requests) == 1


def test_cut_answer_is_ambiguous(serve: Serve, make: Make) -> None:
    peer = serve(always(Reply(200, b'{"id":"1"', claim=500)))
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make(peer).publish("1", {})
    assert raised.value.ambiguous


@pytest.mark.parametrize(
    ("status", "ambiguous"),
    [(500, True), (502, True), (503, True), (504, True), (523, True), (408, True), (423, False), (477, False)],
)
def test_statuses_to_try_again(serve: Serve, make: Make, status: int, ambiguous: bool) -> None:
    peer = serve(always(Reply(status, b"<html>Bad gateway</html>")))
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make(peer).publish("1", {})
    assert raised.value.status == status
    assert raised.value.ambiguous is ambiguous
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make(peer).search_contacts([])
    assert not raised.value.ambiguous
    assert len(peer.requests) == 2  # statuses are never repeated here


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("1.5", 1.5),
        ("999999999", 86_400.0),
        (formatdate(NOW / 1000 + 90, usegmt=True), 90.0),
        (formatdate(NOW / 1000 - 90, usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_too_many_requests(serve: Serve, make: Make, header: str | None, seconds: float | None) -> None:
    headers = {} if header is None else {"Retry-After": header}
    peer = serve(always(Reply(429, {"errorType": "RATE_LIMIT"}, headers)))
    client = make(peer)
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        client.publish("1", {})
    assert seconds_of(failing(lambda: client.publish("1", {})), less_than=1) < 1  # the wait is the caller's affair
    assert raised.value.retry_after == seconds
    assert not raised.value.ambiguous
    assert raised.value.category == "RATE_LIMIT"


@pytest.mark.parametrize("body", [b"", b"<html>ok</html>", b"[1]", b"null", b'{"a":NaN}', b"[" * 100_000, b"\xff"])
def test_success_without_json_is_ambiguous(serve: Serve, make: Make, body: bytes) -> None:
    client = make(serve(always(Reply(200, body))))
    with pytest.raises(errors.HubSpotUnavailable, match="not JSON") as raised:
        client.publish("1", {})
    assert raised.value.ambiguous
    client.set_message_status("1", "2", "READ")  # here only the status matters


# Rejections


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.HubSpotRejected),
        (403, errors.HubSpotRejected),
        (404, errors.HubSpotNotFound),
        (409, errors.HubSpotConflict),
        (415, errors.HubSpotRejected),
    ],
)
def test_rejections(serve: Serve, make: Make, status: int, kind: type[errors.HubSpotError]) -> None:
    """D19: a failed call is an exception of its kind, nothing else."""
    with pytest.raises(kind) as raised:
        make(serve(always(error(status)))).publish("1", {})
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.category) == (status, "VALIDATION_ERROR")
    assert raised.value.correlation_id == "5c1b-7a52"
    assert str(raised.value).startswith(f"publishing a message: HubSpot answered {status} VALIDATION_ERROR")


@pytest.mark.parametrize("body", [b"", b"<html>", {"message": 5, "category": [], "correlationId": {}}, [1]])
def test_odd_error_bodies(serve: Serve, make: Make, body: Any) -> None:
    with pytest.raises(errors.HubSpotRejected, match=r"answered 400$") as raised:
        make(serve(always(Reply(400, body)))).get_thread("5")
    assert raised.value.category is None


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_refused(serve: Serve, make: Make, status: int) -> None:
    """D17: the bearer goes to HubSpot and nowhere else."""
    elsewhere = serve(always(Reply(200, {"id": "1"})))
    peer = serve(always(Reply(status, None, {"Location": elsewhere.url})))
    with pytest.raises(errors.HubSpotRejected, match="redirect"):
        make(peer).publish("1", {})
    assert elsewhere.requests == []


def test_error_texts_hold_no_secrets(serve: Serve, make: Make) -> None:
    said = "\x1b[31m\n for ada@example.com or +1 415 555 0123 " + "x" * 500

    def script(request: Request) -> Reply:
        echoed = request.query.get("hapikey") or request.headers["Authorization"]
        return error(400, message=echoed + said, category="A\nB")

    peer = serve(script)
    client = make(peer, developer_api_key=KEY, app_id="3131")
    for call in (client.list_channels, lambda: client.publish("1", {"text": "very private"})):
        with pytest.raises(errors.HubSpotRejected) as raised:
            call()
        shown = "".join(traceback.format_exception(raised.value))
        for secret in (KEY, TOKEN, "private", "hapikey", "ada@", "415 555", "\x1b", "xxx" * 80):
            assert secret not in shown.split("HubSpotRejected: ", 1)[1]
        assert raised.value.__cause__ is None
        assert raised.value.category == "AB"


def test_lost_connections_tell_no_url(serve: Serve, make: Make) -> None:
    client = make(serve(always(Reply(drop=True))), developer_api_key=KEY, app_id="3131")
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        client.list_channels()
    assert KEY not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


def test_nothing_secret_in_logs_or_reprs(
    serve: Serve, make: Make, caplog: pytest.LogCaptureFixture, clock: ManualClock
) -> None:
    """D20: not even at DEBUG."""

    def script(request: Request) -> Reply:
        if request.path.endswith("/token"):
            return Reply(200, {"access_token": TOKEN, "refresh_token": "rotated-secret", "expires_in": 1800})
        return Reply(200, {"results": [], "id": "1"})

    peer = serve(script)
    tokens = refreshing(peer, clock)
    client = make(peer, developer_api_key=KEY, app_id="3131", tokens=tokens)
    with caplog.at_level(logging.DEBUG):
        client.list_channels()
        client.inboxes()
        logging.getLogger("urllib3.connectionpool").debug("PATCH /channel-account-staging-tokens/tok-7f?x=1")
    assert "hapikey=…" in caplog.text
    shown = caplog.text + repr(client) + repr(tokens) + repr(StaticToken(TOKEN)) + repr(client.paths)
    for secret in (KEY, TOKEN, "rotated-secret", "first-secret", "client-secret", "tok-7f"):
        assert secret not in shown


def test_the_environment_has_no_say(serve: Serve, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    peer = serve(always(Reply(200, {"id": "5"})))
    assert make(peer).get_thread("5") == {"id": "5"}


def test_an_explicit_proxy_is_used(serve: Serve, make: Make) -> None:
    proxy = serve(always(Reply(200, {"id": "from the proxy"})))
    assert make("http://hubspot.invalid", proxy=proxy.url).get_thread("5") == {"id": "from the proxy"}


# Size and time


@pytest.mark.parametrize("packed", [False, True])
def test_huge_answers_are_cut_off(serve: Serve, make: Make, packed: bool) -> None:
    """D29: counted in decoded bytes, so a small bomb is big too."""
    big = b'{"a":"' + b"x" * 12_000_000 + b'"}'
    headers = {"Content-Encoding": "gzip"} if packed else {}
    peer = serve(always(Reply(200, gzip.compress(big) if packed else big, headers)))
    with pytest.raises(errors.HubSpotUnavailable, match="too big"):
        make(peer).get_thread("5")
    with pytest.raises(errors.HubSpotUnavailable, match="too big"):
        make(peer, max_response_bytes=100).get_thread("5")
    assert make(peer, max_response_bytes=13_000_000).get_thread("5")["a"][:3] == "xxx"


def test_a_huge_error_is_still_that_error(serve: Serve, make: Make) -> None:
    with pytest.raises(errors.HubSpotNotFound):
        make(serve(always(Reply(404, b"x" * 1000))), max_response_bytes=100).get_thread("5")


@pytest.mark.parametrize(
    "reply", [Reply(200, b"x" * 1000, drip=0.05), Reply(delay=9), Reply(200, {"id": "1"}, delay=0.3)]
)
def test_deadline(serve: Serve, make: Make, reply: Reply) -> None:
    """A slow drip never lets a socket time out; several calls share one deadline."""
    client = make(serve(always(reply)), timeout=(3.0, 5.0))

    def publish_all() -> None:
        with client.deadline(0.5):
            for _ in range(5):
                client.publish("1", {})

    with pytest.raises(errors.HubSpotUnavailable, match="publishing a message") as raised:
        publish_all()
    assert raised.value.ambiguous
    assert 0.3 < seconds_of(failing(publish_all), less_than=1.5) < 1.5


def test_deadline_bounds_hosts_that_swallow_packets(make: Make) -> None:
    """A listening socket with a full queue: connecting hangs."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        stuffing = [socket.socket() for _ in range(4)]
        for one in stuffing:
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        client = make(f"http://127.0.0.1:{full.getsockname()[1]}", timeout=(3.0, 3.0))

        def publish() -> None:
            with client.deadline(0.3):
                client.publish("1", {})

        assert seconds_of(failing(publish), less_than=1.0) < 1.0
        for one in stuffing:
            one.close()


def test_deadlines_nest_and_end(serve: Serve, make: Make) -> None:
    client = make(serve(always(Reply(200, {"id": "5"}))))
    with client.deadline(0), client.deadline(60), pytest.raises(errors.HubSpotUnavailable, match="no time") as raised:
        client.publish("1", {})
    assert not raised.value.ambiguous
    with client.deadline(60):
        assert client.get_thread("5") == {"id": "5"}
        with pytest.raises(ValueError, match="id"):
            client.get_thread("..")
    assert client.get_thread("5") == {"id": "5"}


# Tokens


class Desk:
    """A peer with a token endpoint: every refresh gives the next access token."""

    def __init__(self, *, accept: Callable[[str], bool] = lambda token: True, **tokens: Any) -> None:
        self.accept = accept
        self.tokens = tokens
        self.refreshes: list[str] = []
        self.reply: Reply | None = None
        self.delay = 0.0

    def __call__(self, request: Request) -> Reply:
        if request.path == "/oauth/v3/token":
            self.refreshes.append(request.body.decode())
            if self.reply:
                return self.reply
            body = {"access_token": f"access-{len(self.refreshes)}", "expires_in": 1800} | self.tokens
            return Reply(200, body, delay=self.delay)
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not self.accept(bearer):
            return error(401, category="EXPIRED_AUTHENTICATION")
        return Reply(200, {"id": "5", "bearer": bearer})


def refreshing(peer: HttpPeer, clock: ManualClock, **settings: Any) -> RefreshingToken:
    options = oauth_options(peer, clock, timeout=(10.0, 10.0))
    return RefreshingToken(options, refresh_token="first-secret", **settings)


def oauth_options(peer: HttpPeer, clock: ManualClock, version: str = "v3", **connection: Any) -> OAuthOptions:
    return OAuthOptions(
        base_url=peer.url,
        oauth_version=version,
        client_id="app",
        client_secret="client-secret",
        connection=ConnectionOptions(clock=clock, **connection),
    )


def test_options_do_not_change_and_do_not_show_secrets(serve: Serve, make: Make, clock: ManualClock) -> None:
    peer = serve(Desk())
    client = make(peer, developer_api_key=KEY, app_id="3131")
    app = oauth_options(peer, clock)
    assert KEY not in repr(client.options)
    assert "client-secret" not in repr(app)
    for options in (client.options, app, app.connection):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(options, dataclasses.fields(options)[0].name, None)


def test_token_is_renewed_five_minutes_early(serve: Serve, make: Make, clock: ManualClock) -> None:
    desk = Desk()
    peer = serve(desk)
    client = make(peer, tokens=refreshing(peer, clock))
    assert client.get_thread("5")["bearer"] == client.get_thread("5")["bearer"] == "access-1"
    clock.advance(1800 - 301)
    assert client.get_thread("5")["bearer"] == "access-1"
    clock.advance(1)
    assert client.get_thread("5")["bearer"] == "access-2"
    assert "grant_type=refresh_token" in desk.refreshes[0]
    assert "refresh_token=first-secret" in desk.refreshes[0]
    assert "client_id=app" in desk.refreshes[0]


def test_short_lived_tokens_are_not_renewed_at_every_call(serve: Serve, clock: ManualClock) -> None:
    desk = Desk(expires_in=60)
    tokens = refreshing(serve(desk), clock)
    assert tokens.token() == tokens.token() == "access-1"
    clock.advance(31)
    assert tokens.token() == "access-2"


def test_401_for_ever_is_one_refresh_one_retry(serve: Serve, make: Make, clock: ManualClock) -> None:
    """D18."""
    desk = Desk(accept=lambda token: False)
    peer = serve(desk)
    with pytest.raises(errors.TokenRevoked, match="publishing a message") as raised:
        make(peer, tokens=refreshing(peer, clock)).publish("1", {})
    assert raised.value.status == 401
    assert not raised.value.ambiguous
    assert len(desk.refreshes) == 2  # the first token, and the one refresh
    assert len([request for request in peer.requests if "messages" in request.path]) == 2


def test_401_once(serve: Serve, make: Make, clock: ManualClock) -> None:
    desk = Desk(accept=lambda token: token == "access-2")
    peer = serve(desk)
    assert make(peer, tokens=refreshing(peer, clock)).get_thread("5")["bearer"] == "access-2"


def test_static_token_refused(serve: Serve, make: Make) -> None:
    peer = serve(Desk(accept=lambda token: False))
    with pytest.raises(errors.TokenRevoked):
        make(peer).get_thread("5")
    assert len(peer.requests) == 1


def together(count: int, call: Callable[[], Any]) -> list[Any]:
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def run() -> None:
        barrier.wait()
        try:
            results.append(call())
        except errors.HubSpotError as error:
            results.append(type(error))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_twenty_threads_one_refresh(serve: Serve, make: Make, clock: ManualClock) -> None:
    """D33, on an expired token and on a refused one."""
    desk = Desk()
    desk.delay = 1.0
    peer = serve(desk)
    client = make(peer, tokens=refreshing(peer, clock))
    client.get_thread("5")
    clock.advance(1800)
    assert {result["bearer"] for result in together(20, lambda: client.get_thread("5"))} == {"access-2"}
    assert len(desk.refreshes) == 2
    desk.accept = lambda token: token not in ("access-1", "access-2")
    assert {result["bearer"] for result in together(20, lambda: client.get_thread("5"))} == {"access-3"}
    assert len(desk.refreshes) == 3


def test_nobody_waits_for_an_early_renewal(serve: Serve, clock: ManualClock) -> None:
    desk = Desk()
    tokens = refreshing(serve(desk), clock)
    tokens.token()
    clock.advance(1600)
    desk.delay = 1.5
    renewing = threading.Thread(target=tokens.token)
    renewing.start()
    wait_until(lambda: len(desk.refreshes) == 2, what="the renewal")
    assert set(together(20, tokens.token)) == {"access-1"}
    assert len(desk.refreshes) == 2
    renewing.join()
    assert tokens.token() == "access-2"


def test_twenty_threads_one_failing_refresh(serve: Serve, clock: ManualClock) -> None:
    desk = Desk()
    desk.reply = Reply(500, b"", delay=1.0)
    tokens = refreshing(serve(desk), clock)
    assert together(20, tokens.token) == [errors.HubSpotUnavailable] * 20
    assert len(desk.refreshes) == 1
    desk.reply = None
    assert tokens.token() == "access-2"


def test_dead_refresh_token_is_left_alone_for_a_minute(serve: Serve, clock: ManualClock) -> None:
    desk = Desk()
    desk.reply = Reply(400, {"status": "BAD_REFRESH_TOKEN", "message": "first-secret is bad"})
    tokens = refreshing(serve(desk), clock)
    for _ in range(5):
        with pytest.raises(errors.TokenRevoked, match="connected again") as raised:
            tokens.token()
        assert "first-secret" not in str(raised.value)
    assert len(desk.refreshes) == 1
    clock.advance(61)
    desk.reply = None
    assert tokens.token() == "access-2"


@pytest.mark.parametrize(
    "reply", [Reply(429, None, {"Retry-After": "9"}), Reply(503), Reply(drop=True), Reply(200, b"<html>")]
)
def test_token_endpoint_out_of_order(serve: Serve, make: Make, clock: ManualClock, reply: Reply) -> None:
    """Not revoked, and never ambiguous: the call itself was not made. A token still good is still used."""
    desk = Desk()
    peer = serve(desk)
    tokens = refreshing(peer, clock)
    client = make(peer, tokens=tokens)
    desk.reply = reply
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        client.publish("1", {})
    assert type(raised.value) is errors.HubSpotUnavailable
    assert not raised.value.ambiguous
    assert raised.value.retry_after == (9.0 if reply.status == 429 else None)
    desk.reply = None
    first = tokens.token()
    clock.advance(1700)
    desk.reply = reply
    assert tokens.token() == first
    clock.advance(200)
    with pytest.raises(errors.HubSpotUnavailable):
        tokens.token()


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(400, {"status": "BAD_REFRESH_TOKEN"}), errors.TokenRevoked),
        (Reply(400, {"error": "invalid_grant"}), errors.TokenRevoked),
        (Reply(400, {"error": "invalid_client", "status": "BAD_CLIENT_SECRET"}), errors.HubSpotUnavailable),
        (Reply(401, {"error": "invalid_client"}), errors.HubSpotUnavailable),
        *((Reply(status, None), errors.HubSpotUnavailable) for status in (301, 401, 403, 404)),
    ],
)
def test_refused_by_the_token_endpoint_is_never_a_rejected_message(
    serve: Serve, make: Make, clock: ManualClock, reply: Reply, kind: type[Exception]
) -> None:
    """Only what is said of the token itself makes it dead: a mistyped client secret must not end every portal."""
    desk = Desk()
    desk.reply = reply
    peer = serve(desk)
    with pytest.raises(errors.HubSpotUnavailable) as raised:
        make(peer, tokens=refreshing(peer, clock)).publish("1", {})
    assert type(raised.value) is kind
    assert not raised.value.ambiguous


def test_rotated_refresh_token_is_kept(serve: Serve, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk(refresh_token="second-secret")
    stored: list[str] = []

    def store(token: str) -> None:
        stored.append(token)
        if len(stored) == 1:
            raise OSError("disk full")

    tokens = refreshing(serve(desk), clock, on_rotated=store)
    assert tokens.token() == "access-1"
    assert tokens.token() == tokens.token() == "access-1"
    assert stored == ["second-secret", "second-secret"]  # once in vain, once well, never again
    clock.advance(1800)
    tokens.token()
    assert "refresh_token=second-secret" in desk.refreshes[1]
    assert "second-secret" not in caplog.text


def test_code_exchange(serve: Serve, clock: ManualClock) -> None:
    peer = serve(
        always(
            Reply(
                200, {"access_token": "a", "refresh_token": "r", "expires_in": 1800, "hub_id": 42, "scopes": ["oauth"]}
            )
        )
    )
    for version in OAUTH_VERSIONS:
        endpoint = TokenEndpoint(oauth_options(peer, clock, version))
        tokens = endpoint.exchange("code", "https://bot.example.test/cb", code_verifier="verifier")
        assert (tokens.access_token, tokens.refresh_token, tokens.hub_id) == ("a", "r", "42")
        assert (tokens.expires_at_ms, tokens.scopes) == (NOW + 1_800_000, ("oauth",))
        assert "code_verifier=verifier" in peer.requests[-1].body.decode()
        assert peer.requests[-1].path == f"/oauth/{version}/token"
        endpoint.close()


@pytest.mark.parametrize("portal", [42, "42", None, "me", True])
def test_an_answer_without_an_account_is_asked_about(serve: Serve, clock: ManualClock, portal: Any) -> None:
    """v1 answers tokens only (docs/hubspot.rst: Tokens); a name that is none is not believed."""

    def answer(request: Request) -> Reply:
        if request.path == "/account-info/v3/details":
            assert request.headers["Authorization"] == "Bearer a"
            return Reply(200, {"portalId": portal})
        return Reply(200, {"access_token": "a", "refresh_token": "r", "expires_in": 1800})

    endpoint = TokenEndpoint(oauth_options(serve(answer), clock, "v1"))
    if str(portal) == "42":
        assert endpoint.exchange("code", "https://bot.example.test/cb").hub_id == "42"
    else:
        with pytest.raises(errors.HubSpotUnavailable, match="names no account"):
            endpoint.exchange("code", "https://bot.example.test/cb")
    endpoint.close()


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"status": "BAD_AUTH_CODE", "message": "the code c0de is used"}, CodeRefused),
        ({"status": "BAD_CLIENT_ID", "error": "invalid_client"}, errors.HubSpotRejected),
        (None, errors.HubSpotUnavailable),
    ],
)
def test_a_code_that_is_refused(serve: Serve, clock: ManualClock, body: Any, kind: type[Exception]) -> None:
    endpoint = TokenEndpoint(oauth_options(serve(always(Reply(400 if body else 503, body))), clock))
    with pytest.raises(errors.HubSpotError) as raised:
        endpoint.exchange("c0de", "https://bot.example.test/cb", code_verifier="ver1fier")
    assert type(raised.value) is kind
    assert "c0de" not in str(raised.value)
    endpoint.close()


# Operations


def test_developer_key_only_on_channels(serve: Serve, make: Make) -> None:
    peer = serve(always(Reply(200, {"results": [], "id": "1"})))
    client = make(peer, developer_api_key=KEY, app_id="3131")
    client.list_channels()
    client.get_channel("1")
    for request in peer.requests:
        assert request.query == {"hapikey": KEY, "appId": "3131"}
        assert "Authorization" not in request.headers
    client.channel_accounts("1")
    client.inboxes()
    for request in peer.requests[2:]:
        assert request.query == {}
        assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    make(peer, app_id="3131").list_channels()
    assert peer.requests[-1].query == {"appId": "3131"}
    assert peer.requests[-1].headers["Authorization"] == f"Bearer {TOKEN}"


def test_operator_is_remembered_and_failure_too(serve: Serve, make: Make, clock: ManualClock) -> None:
    """D23: a look-up that fails costs the name, never the event."""
    good = [False]
    person = {"id": "A-9", "type": "AGENT", "name": "Noor\x00", "email": "n@acme.test", "avatar": 5}
    peer = serve(lambda request: Reply(200, person) if good[0] else Reply(500))
    client = make(peer)
    assert client.operator("A-9") == Operator("A-9")
    good[0] = True
    assert client.operator("A-9") == Operator("A-9")
    assert len(peer.requests) == 1
    clock.advance(300)
    known = Operator("A-9", "Noor\ufffd", "n@acme.test", None)
    assert client.operator("A-9") == client.actor("A-9") == known
    assert len(peer.requests) == 2
    clock.advance(3600)
    good[0] = False
    with pytest.raises(errors.HubSpotUnavailable):
        client.actor("A-9")
    assert client.operator("..") == Operator("..")


def test_a_note_is_escaped(serve: Serve, make: Make) -> None:
    peer = serve(always(Reply(201, {"id": "1"})))
    make(peer).add_note("5", "<b>&\nx\ud800")
    assert peer.requests[0].json == {
        "type": "COMMENT",
        "text": "<b>&\nx\ufffd",
        "richText": "<p>&lt;b&gt;&amp;<br>x\ufffd</p>",
        "attachments": [],
    }


def test_find_contact_leaves_other_countries_out(serve: Serve, make: Make) -> None:
    def people(request: Request) -> Reply:
        assert len(request.body) < 3000
        return Reply(
            200,
            {
                "results": [
                    {"id": "1", "properties": {"phone": "+44 415 555 2671", "createdate": "2020-01-01T00:00:00Z"}},
                    {"id": "2", "properties": {"phone": "(415) 555-2671", "createdate": "2024-01-01T00:00:00Z"}},
                ]
            },
        )

    client = make(serve(people))
    found = client.find_contact(Contact(phone="+14155552671"))
    assert found is not None
    assert found["id"] == "2"
    assert client.find_contact(Contact(phone="+34415555267")) is None


def test_create_contact_that_exists(serve: Serve, make: Make) -> None:
    def script(request: Request) -> Reply:
        if request.method == "GET":
            assert request.query["idProperty"] == "email"
            return Reply(200, {"id": "7"})
        if request.path.endswith("/search"):
            return Reply(200, {"results": [{"id": "8", "properties": {"phone": "+14155552671"}}]})
        assert set(request.json["properties"]) <= {"email", "phone", "firstname", "lastname"}
        return error(409, category="CONFLICT")

    client = make(serve(script))
    assert client.create_contact(Contact(email="ada@example.com"), "Ada")["id"] == "7"
    assert client.create_contact(Contact(phone="+14155552671"), "Ada Lovelace")["id"] == "8"
    with pytest.raises(errors.HubSpotConflict):
        client.create_contact(Contact(phone="+34911222333"), None)


def test_upload(serve: Serve, make: Make) -> None:
    peer = serve(always(Reply(201, {"id": 190001})))
    client = make(peer)
    assert client.upload_file("né.png", b"\x89PNG\x00", "image/png", "/handoff/1") == "190001"
    sent = peer.requests[0].body
    for part in (
        b"\x89PNG\x00",
        b"image/png",
        b'"access": "PRIVATE"',
        b'"ttl": "P1Y"',
        b"/handoff/1",
        "né.png".encode(),
    ):
        assert part in sent
    with pytest.raises(errors.HubSpotUnavailable, match="no file id"):
        make(serve(always(Reply(201, {"x": 1})))).upload_file("a", b"", None, "/x")


def test_incoming_is_the_safe_superset() -> None:
    """D31, docs/hubspot.rst (Message body): what any version requires, and nothing that 2026-09 dropped."""
    body = build_incoming(
        channel_account_id="880011",
        integration_thread_id="d.uuid",
        idempotency_id="digest",
        text="Hi\x00",
        timestamp_ms=1_790_846_410_900,
        sender=identifier_of(Contact(phone="+14155552671", email="a@example.com")) | {"contact_id": "5"},
        sender_name=" Ada ",
        recipient=opaque("acme-1"),
        attachments=[file_attachment("19", "image/png"), file_attachment("20", None)],
        contact_id="55512001",
    )
    assert body == {
        "channelAccountId": "880011",
        "messageDirection": "INCOMING",
        "integrationThreadId": "d.uuid",
        "integrationIdempotencyId": "digest",
        "text": "Hi\ufffd",
        "timestamp": "2026-10-01T09:20:10.900Z",
        "senders": [{"name": "Ada", "deliveryIdentifier": {"type": "HS_PHONE_NUMBER", "value": "+14155552671"}}],
        "recipients": [{"deliveryIdentifier": {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "acme-1"}}],
        "attachments": [
            {"type": "FILE", "fileId": "19", "fileUsageType": "IMAGE"},
            {"type": "FILE", "fileId": "20", "fileUsageType": "OTHER"},
        ],
        "associateWithContactId": 55512001,
    }
    assert "senderActorId" not in json.dumps(body)


def test_senders() -> None:
    assert identifier_of(Contact(email="a@example.com")) == {"type": "HS_EMAIL_ADDRESS", "value": "a@example.com"}
    assert identifier_of(Contact(phone="+14155552671")) == {"type": "HS_PHONE_NUMBER", "value": "+14155552671"}
    assert opaque("conv") == {"type": "CHANNEL_SPECIFIC_OPAQUE_ID", "value": "conv"}
    with pytest.raises(errors.ContactInvalid):
        identifier_of(Contact())


# Paths


@pytest.mark.parametrize("value", ["", ".", "..", "x" * 201, "\ud800"])
def test_segments_that_change_the_shape_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Paths("v3").thread(value)


def test_segments_are_quoted() -> None:
    assert Paths("v3").thread("../a?b#c%2F é") == "/conversations/v3/conversations/threads/..%2Fa%3Fb%23c%252F%20%C3%A9"
    assert Paths("v3").thread(5).endswith("/5")


def test_families_that_a_version_lacks_are_at_the_version_before() -> None:
    with pytest.raises(ValueError, match="2026-03"):
        Paths("v4")
    march, september = Paths("2026-03"), Paths("2026-09")
    assert march.thread("5") == "/conversations/v3/conversations/threads/5"
    assert march.channels() == "/conversations/custom-channels/2026-03"
    assert march.files() == "/files/2026-03/files"
    assert september.files() == "/files/2026-03/files"
    assert september.file_signed_url("1") == "/files/2026-03/files/1/signed-url"
    assert september.webhook_settings("3131") == "/app-webhooks/2026-09/3131/settings"
    assert september.contact_search() == "/crm/objects/2026-09/contacts/search"
    for name, family in vars(september)["_prefix"].items():
        assert "/v3" not in family, f"{name} would end in September 2027"
    assert Paths("v3").thread_assignee("5") == "/conversations/conversations/v3/threads/5/assignee"
