"""A file that HubSpot does not take never takes the user's words with it, and the agents read what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from flask_hubspot_hitl import Attachment
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp, Record
from .helpers import HubSpot, Json
from .story import Story

UPLOAD = "POST .*/files/.*"
PUBLISH = "POST .*/custom-channels/.*/messages$"
WORDS = "  look at \n these "


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    story = Story(app, hubspot, clock, record(app))
    story.start()
    return story


def files(*names: str) -> list[Attachment]:
    return [Attachment(name=name, content=name.encode()) for name in names]


def fault(match: str, **more: Any) -> Json:
    return {"match": match, "times": None, "mode": "status", "status": 400, **more}


def said(story: Story) -> list[tuple[str, list[str]]]:
    """What agents see of the user, without the opening: text and the names of files."""
    messages = story.hubspot.threads()[0]["messages"]
    mine = [one for one in messages if one.get("direction") == "INCOMING"][1:]
    return [(one["text"], [file["name"] for file in one["attachments"]]) for one in mine]


def notes(story: Story) -> list[str]:
    return [one["text"] for one in story.hubspot.threads()[0]["messages"] if one["type"] == "COMMENT"]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (400, "HubSpot refuses it"),
        (403, "HubSpot does not allow this app to store files"),
        (404, "HubSpot refuses it"),
        (413, "HubSpot finds it too large"),
        (415, "HubSpot does not take files of this type"),
    ],
)
def test_a_refused_file_leaves_the_words_and_the_other_files(story: Story, status: int, why: str) -> None:
    story.hubspot.chaos(faults=[fault(UPLOAD, status=status, times=1)])
    assert story.send(WORDS, attachments=files("bad.exe", "good.png"))
    assert story.send("next")
    story.run(1)
    assert said(story) == [(WORDS, ["good.png"]), ("next", [])]
    assert notes(story) == [f"[ A file of the user's is missing: bad.exe. {why}. ]"]
    told = [one["message"] for one in story.recorder.of("message_delivered")]
    assert [one.error for one in told] == [notes(story)[0], None]
    uploads = [one for one in story.hubspot.requests() if "/files" in one["path"] and one["method"] == "POST"]
    assert len(uploads) == 2, "what went through is not uploaded again"


def test_a_message_of_nothing_but_a_refused_file_says_so(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(UPLOAD)])
    assert story.send("", attachments=files("a.exe", "b.exe"))
    story.run(1)
    line = "[ A file of the user's is missing: {}. HubSpot refuses it. ]"
    assert said(story) == [(f"{line.format('a.exe')}\n{line.format('b.exe')}", [])]
    assert notes(story) == []


def test_it_is_a_message_where_notes_are_refused(story: Story) -> None:
    story.hubspot.chaos(notes="refused", faults=[fault(UPLOAD)])
    assert story.send(WORDS, attachments=files("a.exe"))
    assert story.send(WORDS, attachments=files("b.exe"))
    story.run(1)
    line = "[ A file of the user's is missing: {}. HubSpot refuses it. ]"
    assert [text for text, _ in said(story)] == [WORDS, line.format("a.exe"), WORDS, line.format("b.exe")]
    assert sum("does not take comments" in str(one) for one in story.hubspot.requests()) <= 1


def test_a_message_that_is_refused_because_of_its_files_goes_without_them(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(PUBLISH, times=1)])
    assert story.send(WORDS, attachments=files("a.pdf", "b.pdf"))
    story.run(1)
    assert said(story) == [(WORDS, [])]
    assert [note.count("HubSpot refuses the message with it") for note in notes(story)] == [2]


def test_a_message_that_is_refused_with_and_without_files_fails(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(PUBLISH)])
    assert story.send(WORDS, attachments=files("a.pdf"))
    story.run(1)
    assert [one["message"].text for one in story.recorder.of("message_failed")] == [WORDS]
    assert said(story) == []


@pytest.mark.parametrize("trouble", [{"mode": "drop_after"}, {"status": 500}])
def test_a_file_that_hubspot_never_answers_holds_up_nothing_for_long(story: Story, trouble: Json) -> None:
    story.hubspot.chaos(faults=[fault(UPLOAD, **trouble)])
    assert story.send(WORDS, attachments=files("huge.bin"))
    assert story.send("next")
    for _ in range(20):
        story.run(15)
    assert said(story) == [(WORDS, []), ("next", [])]
    assert notes(story) == ["[ A file of the user's is missing: huge.bin. HubSpot did not take it in time. ]"]


def test_in_an_outage_files_wait_like_everything_else(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(".*", status=503)])
    assert story.send(WORDS, attachments=files("a.pdf"))
    for _ in range(20):
        story.run(60)
    story.hubspot.chaos(faults=[])
    for _ in range(3):
        story.run(600)
    assert said(story) == [(WORDS, ["a.pdf"])]
    assert notes(story) == []


def test_a_file_whose_content_is_gone(story: Story) -> None:
    story.hubspot.chaos(faults=[fault(UPLOAD, status=503)])
    assert story.send(WORDS, attachments=files("a.pdf"))
    with story.state.ledger.write() as tx:
        tx._connection.core.exec_driver_sql("DELETE FROM hitl_blob")
    story.hubspot.chaos(faults=[])
    story.run(600)
    assert said(story) == [(WORDS, [])]
    assert notes(story) == ["[ A file of the user's is missing: a.pdf. Its content is gone. ]"]


def test_the_same_file_twice_and_an_empty_one(story: Story) -> None:
    assert story.send(WORDS, attachments=[*files("a.pdf", "a.pdf"), Attachment(name="empty.txt", content=b"")])
    story.run(1)
    (text, names), *rest = said(story)
    assert (text, rest) == (WORDS, [])
    assert len(names) + len(notes(story)) in (3, 4)


def test_a_link_before_a_file_does_not_take_the_files_content(story: Story) -> None:
    """Files are stored by their position."""
    link = Attachment(url="https://elsewhere.example.com/b.pdf")
    assert story.send("look", attachments=[link, *files("a.pdf")])
    story.run(1)
    assert said(story) == [(f"look\n[ File: {link.url} ]", ["a.pdf"])]
    assert notes(story) == []
