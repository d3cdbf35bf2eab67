"""Files of Botpress's messages are fetched from the hosts on the list, and nothing else is ever asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from flask import Flask, Response, redirect
from werkzeug.serving import make_server
from werkzeug.wrappers import Response as BaseResponse

from flask_hubspot_hitl.botpress.media import Fetcher, NotFetched, with_files
from flask_hubspot_hitl.botpress.messages import Media, Readable


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
def fetcher() -> Iterator[Fetcher]:
    one = Fetcher(["127.0.0.1"], limit=99)
    yield one
    one.close()


def test_a_file_comes_with_its_name_and_type(files: str, fetcher: Fetcher) -> None:
    found = fetcher.fetch(Media("image", f"{files}/a.png?x=1"))
    assert (found.name, found.content_type, found.size, found.content) == ("a.png", "image/png", 3, b"png")
    named = fetcher.fetch(Media("image", f"{files}/to/2", "../My photo"))
    assert (named.name, named.content_type) == ("My photo.png", "image/png")


@pytest.mark.parametrize(
    ("path", "later"), [("/bill", False), ("/to/3", False), ("/away", False), ("/none", False), ("/broken", True)]
)
def test_what_is_not_fetched(files: str, fetcher: Fetcher, path: str, later: bool) -> None:
    with pytest.raises(NotFetched) as raised:
        fetcher.fetch(Media("file", files + path))
    assert raised.value.later is later


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
    fetcher = Fetcher(limit=10)
    assert not fetcher.allows(url)
    with pytest.raises(NotFetched):
        fetcher.fetch(Media("image", url))
    fetcher.close()


def test_botpresss_own_hosts_are_on_the_list() -> None:
    fetcher = Fetcher(limit=10)
    assert fetcher.allows("https://files.bpcontent.cloud/x/a.png")
    assert fetcher.allows("https://FILES.bpcontent.cloud:443/x/a.png")
    fetcher.close()


def test_a_link_instead_of_a_file(files: str, fetcher: Fetcher) -> None:
    broken, image = Media("file", f"{files}/broken", "bill"), Media("image", f"{files}/a.png")
    with pytest.raises(NotFetched):
        with_files(Readable("look", (broken, image)), fetcher.fetch, last_try=False)
    text, found = with_files(Readable("look", (broken, image)), fetcher.fetch, last_try=True)
    assert text == f"look\n[ File - bill: {files}/broken ]"
    assert [one.name for one in found] == ["a.png"]
