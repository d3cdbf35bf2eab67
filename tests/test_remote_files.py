"""Attachments given by URL are fetched from the hosts on the list, and nothing else is ever asked."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, Response, redirect
from werkzeug.serving import make_server
from werkzeug.wrappers import Response as BaseResponse

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.botpress.messages import FILE_HOSTS
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot import addresses
from flask_hubspot_hitl.portals.remote_files import Fetcher, NotFetched

from .conftest import MakeApp
from .helpers import HubSpot, Recorder, seconds_of
from .story import Story

Record = Callable[[Flask], Recorder]


@pytest.fixture(scope="module")
def files() -> Iterator[str]:
    """A host of files, on this machine."""
    app = Flask("files")

    @app.get("/a.png")
    def image() -> Response:
        return Response(b"png", content_type="image/png; charset=x")

    @app.get("/bill")
    def bill() -> Response:
        return Response(b"x" * 100, content_type="application/octet-stream")

    @app.get("/to/<int:times>")
    def to(times: int) -> BaseResponse:
        return redirect(f"/to/{times - 1}" if times else "/a.png")

    @app.get("/away")
    def away() -> BaseResponse:
        return redirect("http://127.0.0.2:9/a.png")

    @app.get("/drops")
    def drops() -> Response:
        def slowly() -> Iterator[bytes]:
            for _ in range(90):
                time.sleep(0.05)
                yield b"x"

        return Response(slowly(), content_type="image/png")

    @app.get("/slow/<int:times>")
    def slow(times: int) -> BaseResponse:
        time.sleep(0.2)
        return redirect(f"/slow/{times - 1}" if times else "/a.png")

    @app.get("/broken")
    def broken() -> tuple[str, int]:
        return "", 503

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def drips() -> Iterator[str]:
    """A host that sends one line of its answer's head after another, for ten seconds, and then the file."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            one.recv(65_536)
            one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n")
            for number in range(50):
                if over.wait(0.2):
                    return
                one.sendall(f"X-{number}: 1\r\n".encode())
            one.sendall(b"\r\npng")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=[listening.accept()[0]], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    listening.close()


@pytest.fixture
def fetcher() -> Iterator[Fetcher]:
    one = Fetcher(["127.0.0.1"], limit=99)
    yield one
    one.close()


def test_a_file_comes_with_its_name_and_type(files: str, fetcher: Fetcher) -> None:
    found, content = fetcher.fetch(Attachment(url=f"{files}/a.png?x=1"))
    assert (found.name, found.content_type, found.size, content) == ("a.png", "image/png", 3, b"png")
    named, _ = fetcher.fetch(Attachment(url=f"{files}/to/2", name="../My photo"))
    assert (named.name, named.content_type) == ("My photo.png", "image/png")


@pytest.mark.parametrize(
    ("path", "later"), [("/bill", False), ("/to/3", False), ("/away", False), ("/none", False), ("/broken", True)]
)
def test_what_is_not_fetched(files: str, fetcher: Fetcher, path: str, later: bool) -> None:
    with pytest.raises(NotFetched) as raised:
        fetcher.fetch(Attachment(url=files + path))
    assert raised.value.later is later


@pytest.mark.parametrize("path", ["/drops", "/slow/2", "/slow/0"])
def test_a_file_may_take_only_so_long(files: str, path: str) -> None:
    """The whole of it: byte after byte, redirect after redirect, or a host that says nothing."""
    fetcher = Fetcher(["127.0.0.1"], limit=99, seconds=0.1 if path == "/slow/0" else 0.3)

    def fetch() -> None:
        with pytest.raises(NotFetched) as raised:
            fetcher.fetch(Attachment(url=files + path))
        assert raised.value.later

    assert seconds_of(fetch, less_than=4.5) < 4.5  # which the drops would take
    fetcher.close()


def test_the_head_of_an_answer_may_take_only_so_long_too(drips: str) -> None:
    fetcher = Fetcher(["127.0.0.1"], limit=99, seconds=0.5)

    def fetch() -> None:
        with pytest.raises(NotFetched, match="takes too long") as raised:
            fetcher.fetch(Attachment(url=f"{drips}/a.png"))
        assert raised.value.later

    assert seconds_of(fetch, less_than=5, tries=2) < 5  # all of it takes ten
    fetcher.close()


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/a.png",
        "https://botpress.cloud.example.com/a.png",
        "https://evilbotpress.cloud/a.png",
        "http://files.bpcontent.cloud/a.png",
        "https://files.bpcontent.cloud:8443/a.png",
        "https://user@files.bpcontent.cloud/a.png",
        "http://127.0.0.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "https://[",
        "",
    ],
)
def test_hosts_that_are_not_on_the_list(url: str) -> None:
    fetcher = Fetcher(FILE_HOSTS, limit=10)
    with pytest.raises(NotFetched):
        fetcher.fetch(Attachment(url=url))
    fetcher.close()


def test_botpresss_own_hosts_are_on_the_list() -> None:
    fetcher = Fetcher(FILE_HOSTS, limit=10)
    assert fetcher.allows(addresses.parse("https://files.bpcontent.cloud/x/a.png"))
    assert fetcher.allows(addresses.parse("https://FILES.bpcontent.cloud:443/x/a.png"))
    fetcher.close()


def test_an_attachment_by_url_goes_to_hubspot_or_becomes_a_link(
    files: str, make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, database_url: str
) -> None:
    app = make_app(clock=clock, dispatcher="inline", attachment_hosts="127.0.0.1")
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    urls = [f"{files}/a.png", "https://elsewhere.example.com/b.pdf", f"{files}/broken"]
    assert story.send("look", attachments=[Attachment(url=url) for url in urls])
    assert story.send("and this")
    for _ in range(4):
        story.run(600)
    said = [one for one in hubspot.thread(thread)["messages"] if one["direction"] == "INCOMING"][-2:]
    assert [one["text"] for one in said] == [f"look\n[ File: {urls[1]} ]\n[ File: {urls[2]} ]", "and this"]
    assert [len(one["attachments"]) for one in said] == [1, 0]
    uploads = [one for one in hubspot.requests() if "/files" in one["path"] and one["method"] == "POST"]
    assert len(uploads) == 1


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_words_go_without_a_file_however_few_attempts_there_are(
    files: str, make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record, attempts: int
) -> None:
    app = make_app(clock=clock, dispatcher="inline", attachment_hosts="127.0.0.1", max_attempts=attempts)
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    assert story.send("look", attachments=[Attachment(url=f"{files}/broken")])
    for _ in range(4):
        story.run(600)
    assert hubspot.thread(thread)["messages"][-1]["text"] == f"look\n[ File: {files}/broken ]"
    assert story.recorder.of("message_failed") == []
