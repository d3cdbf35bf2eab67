"""The files that a host gives to ``send``: every kind of bytes, every kind of file object, to its end."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from flask import Flask
from werkzeug.datastructures import FileStorage

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Record
from .helpers import HubSpot, state_of
from .story import Story

LIMIT = 1_000_000
PHOTO = secrets.token_bytes(600_000)


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="external", max_attachment_bytes=LIMIT)
    story = Story(app, hubspot, clock, record(app))
    story.start()
    return story


Pipe = Callable[[bytes], io.FileIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """The reading end of a pipe into which somebody writes: unbuffered, so that a read gives what has come."""
    made: list[tuple[io.FileIO, threading.Thread]] = []

    def start(content: bytes) -> io.FileIO:
        reading, writing = os.pipe()

        def write() -> None:
            with os.fdopen(writing, "wb", buffering=0) as file, contextlib.suppress(BrokenPipeError):
                left = memoryview(content)
                while left:
                    left = left[file.write(left) :]

        made.append((io.FileIO(reading), threading.Thread(target=write)))
        made[-1][1].start()
        return made[-1][0]

    yield start
    for file, thread in made:
        file.close()
        thread.join(10)


def stored(app: Flask) -> list[bytes]:
    """What is on disk of files."""
    with state_of(app).ledger.read() as tx:
        return [row[0] for row in tx._connection.core.exec_driver_sql("SELECT content FROM hitl_blob")]


def test_a_pipe_is_read_to_its_end(story: Story, pipe: Pipe) -> None:
    assert story.send("", attachments=[Attachment(name="photo.png", content=pipe(PHOTO))])
    assert stored(story.app) == [PHOTO]


@pytest.mark.parametrize(
    "wrap", [bytes, bytearray, memoryview, io.BytesIO, lambda content: FileStorage(io.BytesIO(content))]
)
def test_every_kind_of_bytes(story: Story, wrap: Callable[[bytes], Any]) -> None:
    assert story.send("", attachments=[Attachment(name="photo.png", content=wrap(PHOTO))])
    assert stored(story.app) == [PHOTO]


def test_no_text_beside_a_file_is_no_text(story: Story) -> None:
    with story.app.app_context():
        assert story.hitl.send("c1", None, attachments=(Attachment(name=f"{n}.png", content=b"x") for n in (1, 2)))
        assert [(one.text, len(one.attachments)) for one in story.hitl.transcript("c1")][-1] == ("", 2)
        with pytest.raises(ValueError, match="needs text or an attachment"):
            story.hitl.send("c1", None)


class _NotYet(io.RawIOBase):
    def read(self, size: int = -1) -> bytes | None:
        return None


class _Endless(io.RawIOBase):
    def read(self, size: int = -1) -> bytes:
        return b"x" * min(size, 100_000)


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (io.StringIO("text"), TypeError, "binary mode"),
        ("text", TypeError, "must be bytes or a binary file object, not str"),
        (5, TypeError, "must be bytes or a binary file object, not int"),
        (_NotYet(), ValueError, "must not be non-blocking"),
        (_Endless(), ValueError, "larger than HUBSPOT_HITL_MAX_ATTACHMENT_BYTES"),
        (bytearray(LIMIT + 1), ValueError, "larger than HUBSPOT_HITL_MAX_ATTACHMENT_BYTES"),
        (io.BytesIO(bytes(LIMIT + 1)), ValueError, "larger than HUBSPOT_HITL_MAX_ATTACHMENT_BYTES"),
    ],
)
def test_what_is_no_file_is_refused_and_nothing_is_kept(
    story: Story, content: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        story.send("look", attachments=[Attachment(name="a.png", content=content)])
    assert stored(story.app) == []
    assert [one for one in story.transcript() if one[1] == "look"] == []


@pytest.mark.parametrize(
    ("attachment", "says"),
    [
        ({"name": "a.png", "content": b"x"}, "must be an Attachment, not dict"),
        (b"x", "must be an Attachment, not bytes"),
        (None, "must be an Attachment, not NoneType"),
        (Attachment(name=cast(str, 5), content=b"x"), "name must be a str, not int"),
        (Attachment(name=cast(str, b"a.png"), url="https://files.example.com/a"), "name must be a str, not bytes"),
        (Attachment(content_type=cast(str, 5), content=b"x"), "content_type must be a str, not int"),
        (Attachment(content_type=cast(str, ["a"]), url="https://files.example.com/a"), "content_type must be a str"),
        (Attachment(url=cast(str, 5)), "url must be a str, not int"),
        (Attachment(url=cast(str, 0), content=b"x"), "url must be a str, not int"),
    ],
)
def test_an_attachment_of_the_wrong_type_is_told_so(story: Story, attachment: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        story.send("look", attachments=[Attachment(name="b.png", content=b"y"), attachment])
    assert stored(story.app) == []
    assert [one for one in story.transcript() if one[1] == "look"] == []


def test_a_file_of_exactly_the_limit_is_taken(story: Story, pipe: Pipe) -> None:
    assert story.send("", attachments=[Attachment(name="a.bin", content=pipe(bytes(LIMIT)))])
    with pytest.raises(ValueError, match="larger than"):
        story.send("", attachments=[Attachment(name="a.bin", content=pipe(bytes(LIMIT + 1)))])
    assert [len(one) for one in stored(story.app)] == [LIMIT]
