"""Links to files: those that last, those that HubSpot signs for an hour, and what never passes for a file."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import IO

import pytest
import requests
from flask import Flask

from flask_hubspot_hitl import (
    Attachment,
    HubSpotNotFound,
    HubSpotRejected,
    HubSpotUnavailable,
    Message,
)
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .helpers import HubSpot, Recorder
from .story import Story

Record = Callable[[Flask], Recorder]

NOTE = {"name": "note.txt", "contentType": "text/plain", "content": "T3JkZXIgMTgxNQ=="}
CONTENT = b"Order 1815"


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY="a key of the tests")
    return Story(app, hubspot, clock, record(app))


def messages(story: Story) -> list[Message]:
    with story.app.app_context():
        return story.hitl.transcript("c1")


def received(story: Story) -> Attachment:
    (file,) = story.recorder.of("operator_message")[-1]["message"].attachments
    assert isinstance(file, Attachment)
    return file


def opened(story: Story, file: Attachment, conversation_id: str = "c1") -> IO[bytes]:
    with story.app.app_context():
        return story.hitl.open_attachment(conversation_id, file)


def url_of(story: Story, file: Attachment, conversation_id: str = "c1") -> str:
    with story.app.app_context():
        return story.hitl.attachment_url(conversation_id, file)


def of_agent(found: list[Message]) -> Attachment:
    (file,) = (file for one in found if one.author == "operator" for file in one.attachments)
    return file


def path_of(story: Story, url: str | None) -> str:
    assert url is not None
    base = story.state.settings.public_url[0]
    assert url.startswith(f"{base}/hubspot/files/")
    return url.removeprefix(base)


def signing_answers(story: Story, status: int) -> None:
    fault = {"match": "GET .*/signed-url", "times": None, "mode": "status", "status": status}
    story.hubspot.chaos(faults=[fault])


def signed(story: Story) -> int:
    return sum(one["path"].endswith("/signed-url") for one in story.hubspot.requests())


def test_a_link_of_the_transcript_works_a_year_later(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, "here", attachments=[NOTE])
    first = received(story).url
    assert first is not None
    assert requests.get(first, timeout=30).content == CONTENT
    story.stop()
    (completed,) = story.recorder.of("conversation_completed")
    links = {of_agent(messages(story)).url, of_agent(completed["transcript"]).url}
    story.clock.advance(timedelta(days=365).total_seconds())
    story.hubspot.chaos(link_key=1)
    assert requests.get(first, timeout=30).status_code == 404
    assert len(links) == 1
    answer = story.client.get(path_of(story, links.pop()))
    assert answer.status_code == 302
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert requests.get(answer.headers["Location"], timeout=30).content == CONTENT


def test_a_fresh_link_and_the_file_itself(story: Story) -> None:
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    story.hubspot.chaos(link_key=1)
    file = received(story)
    assert requests.get(url_of(story, file), timeout=30).content == CONTENT
    assert opened(story, file).read() == CONTENT
    assert opened(story, of_agent(messages(story))).read() == CONTENT
    assert signed(story) == 1, "within its hour a link is used again"
    story.clock.advance(3600)
    url_of(story, file)
    assert signed(story) == 2


def test_what_is_no_link_of_ours_leads_nowhere(story: Story) -> None:
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    path = path_of(story, of_agent(messages(story)).url)
    for other in (path[:-1], f"{path}x", "/hubspot/files/x", "/hubspot/files/W10.x", "/hubspot/files/%00"):
        assert story.client.get(other).status_code == 404
    assert story.client.get(path).status_code == 302


def test_an_erased_conversation_has_no_files(story: Story) -> None:
    thread = story.start().thread_id
    story.says(thread, "here", attachments=[NOTE])
    file, path = received(story), path_of(story, of_agent(messages(story)).url)
    story.event("privacyDeletion", thread, at=story.now)
    assert story.client.get(path).status_code == 404
    with pytest.raises(HubSpotNotFound):
        url_of(story, file, "another conversation")


def test_a_file_is_given_to_its_own_conversation_only(story: Story) -> None:
    """Its id is a number that anybody can guess, and HubSpot signs for every file of the portal."""
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    file, theirs = received(story), signed(story)
    story.start("c2")
    for wanted in (file, Attachment(file_id=file.file_id), Attachment(file_id="1"), Attachment(file_id="../1")):
        with pytest.raises(HubSpotNotFound, match="no message"):
            url_of(story, wanted, "c2")
    assert signed(story) == theirs, "HubSpot was not even asked"
    story.stop()
    story.start()
    assert opened(story, file).read() == CONTENT, "of the conversation's handoff before"


def test_hubspot_is_away_or_has_deleted_the_file(story: Story) -> None:
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    file, path = received(story), path_of(story, of_agent(messages(story)).url)
    signing_answers(story, 503)
    answer = story.client.get(path)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "60")
    signing_answers(story, 503)
    with pytest.raises(HubSpotUnavailable):
        opened(story, file)
    signing_answers(story, 404)
    with pytest.raises(HubSpotNotFound):
        opened(story, file)
    signing_answers(story, 404)
    assert story.client.get(path).status_code == 404


def test_a_missing_scope_is_not_called_a_deleted_file(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    path = path_of(story, of_agent(messages(story)).url)
    signing_answers(story, 403)
    answer = story.client.get(path)
    assert (answer.status_code, "deleted" in answer.text) == (503, False)
    [said] = [one.getMessage() for one in caplog.records if "could not be followed" in one.getMessage()]
    assert "403" in said
    assert "doctor" in said
    assert path.rpartition("/")[2] not in said


def test_a_login_page_is_never_taken_for_the_file(story: Story) -> None:
    story.hubspot.chaos(attachment_url="gated")
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    file = received(story)
    assert file.url is not None
    assert requests.get(file.url, timeout=30).content == CONTENT
    gone = Attachment(name="note.txt", content_type="text/plain", url=f"{story.hubspot.url}/hubfs/424242/1/none.txt")
    with pytest.raises(HubSpotRejected):
        opened(story, gone)
    gate = f"{story.hubspot.url}/filemanager/api/v2/files/{file.file_id}/signed-url-redirect?portalId=424242"
    assert "Log in" in requests.get(gate, timeout=30).text
    with pytest.raises(HubSpotRejected, match="web page"):
        opened(story, Attachment(name="note.txt", content_type="text/plain", url=gate))


def test_an_attachment_that_says_nothing(story: Story) -> None:
    story.start()
    with pytest.raises(ValueError, match="neither file_id nor url"):
        url_of(story, Attachment(name="a.txt"))
    assert url_of(story, Attachment(url="https://files.example.com/a.txt")) == "https://files.example.com/a.txt"


def test_a_file_that_is_too_large_is_refused(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline", max_attachment_bytes=5)
    story = Story(app, hubspot, clock, record(app))
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    with pytest.raises(HubSpotRejected, match="too large"):
        opened(story, received(story))


def test_without_a_key_the_links_stay_hubspots(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="inline", SECRET_KEY=None)
    story = Story(app, hubspot, clock, record(app))
    story.says(story.start().thread_id, "here", attachments=[NOTE])
    assert of_agent(messages(story)).url == received(story).url
    assert story.client.get("/hubspot/files/x").status_code == 404
