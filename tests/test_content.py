"""Content: what agents write reaches the bot whole and harmless (D05, D06, D25, D28, D35)."""

from __future__ import annotations

import html
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl.hubspot.content import (
    clean_html,
    clean_name,
    escape_text,
    html_to_text,
    parse_message,
    parse_time,
    render_first_message,
    scrub,
)

anything = st.text(st.characters(exclude_categories=[]), max_size=80)


@pytest.mark.parametrize(
    ("markup", "clean"),
    [
        ("<div>Hi <b>you</b></div>", "<div>Hi <b>you</b></div>"),
        ('<p style="color:red" class="x" id="y" title="t">a</p>', "<p>a</p>"),
        ("a<script>alert(1)</script>b<style>c</style><!-- d -->", "ab"),
        (
            "<h1>Big</h1><table><tr><td>cell</td></tr></table>",
            "<h1>Big</h1><table><tbody><tr><td>cell</td></tr></tbody></table>",
        ),
        (
            '<a href="https://x.test/a?b=1&amp;c=2" target="_blank">k</a>',
            '<a href="https://x.test/a?b=1&amp;c=2" rel="noopener noreferrer">k</a>',
        ),
        (
            '<a href="mailto:ada@example.com">m</a>',
            '<a href="mailto:ada@example.com" rel="noopener noreferrer">m</a>',
        ),
        ('<img src="https://x.test/i.png" alt="logo" onerror="x()">', '<img src="https://x.test/i.png" alt="logo">'),
        ('<img src="data:image/png;base64,AA==">', ""),
        ("\x00a\ud800", "\ufffda\ufffd"),
    ],
)
def test_clean_html(markup: str, clean: str) -> None:
    assert clean_html(markup) == clean


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "JaVaScRiPt:x", "http://x.test", "/a", "//x.test/a", "data:text/html,x", "java\tscript:x"],
)
def test_other_links_lose_their_target(target: str) -> None:
    assert "href" not in clean_html(f'<a href="{target}">k</a>')
    assert "src" not in clean_html(f'<img src="{target}">')


@given(anything)
def test_cleaning_is_final(markup: str) -> None:
    once = clean_html(markup)
    assert clean_html(once) == once
    html_to_text(markup).encode()


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ('Read <a href="https://x.test/a">here</a>!', "Read here (https://x.test/a)!"),
        ('<a href="https://x.test">https://x.test</a>', "https://x.test"),
        ('<a href="mailto:ada@example.com">ada@example.com</a>', "ada@example.com"),
        ('<a href="http://x.test/old">old</a>', "old (http://x.test/old)"),
        ('<a href="javascript:x">k</a>', "k"),
        ('<div>See <img src="https://x.test/i.png" alt="i"></div>', "See [image: https://x.test/i.png]"),
        ('<img src="data:image/png;base64,AA==" alt="a cat">', "[image: a cat]"),
        ("<div>one</div><div>two</div><p>three</p>", "one\ntwo\nthree"),
        ("a<br>b<br><br>c", "a\nb\n\nc"),
        ("<ul><li>one</li><li>two</li></ul>end", "- one\n- two\nend"),
        ("<pre>a\n  b</pre>", "a\n  b"),
        ("1 &lt; 2 &amp;amp; 3&nbsp;4", "1 < 2 &amp; 3 4"),
        ("  lots \n of   space ", "lots of space"),
        ("<script>x</script>", ""),
        ("", ""),
    ],
)
def test_html_to_text(markup: str, text: str) -> None:
    assert html_to_text(markup) == text


def test_deep_and_long_html_is_no_trouble() -> None:
    started = time.thread_time()
    for piece in ("<div>", "<b>", "<a href='https://x.test'>", "<blockquote><p>"):
        clean_html(piece * 50_000)
        html_to_text(piece * 50_000)
    assert time.thread_time() - started < 8
    assert html_to_text("<p>word</p>" * 20_000).endswith("word […]")
    embedded = f'<img src="data:image/png;base64,{"A" * 2_000_000}" alt="a cat"><p>after</p>'
    assert html_to_text(embedded) == "[image: a cat]\nafter"


def test_escape_text() -> None:
    assert escape_text('<b>"&\nnext\x00') == "&lt;b&gt;&quot;&amp;<br>next\ufffd"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a b c", "a b c"),
        ("1. a\n   - b", "1. a<br>&nbsp; &nbsp;- b"),
        (" a", "&nbsp;a"),
        ("a  b   c", "a &nbsp;b &nbsp; c"),
        ("if x:\n\treturn", "if x:<br>&nbsp;&nbsp;&nbsp;&nbsp;return"),
        ("a \tb", "a &nbsp;&nbsp;&nbsp;&nbsp;b"),
        ("  <b>\n\n&nbsp;", "&nbsp; &lt;b&gt;<br><br>&amp;nbsp;"),
    ],
)
def test_escaped_text_keeps_its_indentation_and_its_runs_of_spaces(text: str, escaped: str) -> None:
    assert escape_text(text) == escaped


@given(anything | st.text(" \t\na<", max_size=20))
def test_escaped_text_shows_itself(text: str) -> None:
    escaped = escape_text(text)
    assert "<" not in escaped.replace("<br>", "")
    lines = [html.unescape(one).replace("\xa0", " ") for one in escaped.split("<br>")]
    assert lines == (scrub(text).replace("\t", " " * 4).replace("\xa0", " ").splitlines() or [""])
    assert not re.search(r"(?:^|<br>| ) ", escaped), "a browser would show fewer"
    scrub(text).encode()
    assert "\x00" not in scrub(text)


@pytest.mark.parametrize(
    ("name", "content_type", "clean"),
    [
        ("invoice.pdf", None, "invoice.pdf"),
        ("100%.pdf", None, "100%.pdf"),
        ("image./u/8f2c", "image/png", "8f2c.png"),
        ("../../x", None, "x"),
        ("C:\\temp\\x.txt", None, "x.txt"),
        ("a\u202egpj.exe", None, "agpj.exe"),
        ("a\r\nSet-Cookie: x.txt", None, "aSet-Cookie: x.txt"),
        ("", None, "file"),
        (".", None, "file"),
        ("..", "text/plain; charset=utf-8", "file.txt"),
        ("dir/", None, "file"),
        (".pdf", None, "file.pdf"),
        ("name.", "image/jpeg", "name.jpg"),
        ("Offer v2.final version", "application/pdf", "Offer v2.final version.pdf"),
        ("photo", "image/webp", "photo.webp"),
        ("photo", "no/such-type", "photo"),
        ("\ud800\x00.txt", None, "file.txt"),
        ("👨‍👩‍👧.png", None, "👨‍👩‍👧.png"),
        (None, None, "file"),
        (7, "image/gif", "file.gif"),
    ],
)
def test_clean_name(name: object, content_type: str | None, clean: str) -> None:
    """D28."""
    assert clean_name(name, content_type=content_type) == clean


def test_long_names_keep_their_extension() -> None:
    assert clean_name("x" * 400 + ".pdf") == "x" * 251 + ".pdf"
    long = clean_name("é" * 400 + ".jpeg")
    assert len(long.encode()) <= 255
    assert long.endswith("é.jpeg")


@given(anything, st.one_of(st.none(), anything))
def test_names_are_only_names(name: str, content_type: str | None) -> None:
    clean = clean_name(name, content_type=content_type)
    assert 0 < len(clean.encode()) <= 255
    assert not set("/\\\x00\n\u202e") & set(clean)
    assert clean not in (".", "..")


def message(**changes: Any) -> dict[str, Any]:
    raw: dict[str, Any] = {
        "id": "c0ffee12",
        "type": "MESSAGE",
        "channelId": "100458",
        "channelAccountId": "880011",
        "conversationsThreadId": "6300112233",
        "createdAt": "2026-10-01T09:20:10.900Z",
        "createdBy": "A-987",
        "client": {"clientType": "HUBSPOT"},
        "senders": [{"actorId": "A-987", "name": "Noor"}],
        "text": "Hi Rosa",
        "richText": "<div>Hi <b>Rosa</b></div>",
        "direction": "OUTGOING",
        "truncationStatus": "NOT_TRUNCATED",
        "status": {"statusType": "SENT"},
        "attachments": [],
        "archived": False,
    }
    return {key: value for key, value in (raw | changes).items() if value is not ...}


def test_parse_message() -> None:
    found = parse_message(message())
    assert (found.message_id, found.thread_id) == ("c0ffee12", "6300112233")
    assert (found.channel_id, found.channel_account_id) == ("100458", "880011")
    assert found.created_at_ms == 1_790_846_410_900
    assert (found.created_by, found.sender_actor_id, found.sender_name) == ("A-987", "A-987", "Noor")
    assert (found.direction, found.type, found.client_type) == ("OUTGOING", "MESSAGE", "HUBSPOT")
    assert (found.text, found.html) == ("Hi Rosa", "<div>Hi <b>Rosa</b></div>")
    assert (found.attachments, found.status_type, found.truncated) == ((), "SENT", False)
    assert "Rosa" not in repr(found)
    assert "Noor" not in repr(found)


def test_status_as_a_string_and_truncation() -> None:
    assert parse_message(message(status="SENT")).status_type == "SENT"
    assert parse_message(message(truncationStatus="TRUNCATED")).truncated
    assert not parse_message(message(truncationStatus=...)).truncated


@pytest.mark.parametrize(
    "field",
    [
        "type",
        "channelId",
        "channelAccountId",
        "createdBy",
        "client",
        "senders",
        "text",
        "richText",
        "direction",
        "truncationStatus",
        "status",
        "attachments",
    ],
)
@pytest.mark.parametrize("value", [..., None, 7, True, "x", [], [None], ["x"], {}, {"x": 1}, 1.5])
def test_every_optional_field_may_be_anything(field: str, value: Any) -> None:
    found = parse_message(message(**{field: value}))
    assert found.message_id == "c0ffee12"
    assert found.text


@pytest.mark.parametrize("field", ["id", "conversationsThreadId", "createdAt"])
@pytest.mark.parametrize("value", [..., None, "", " ", True, 1.5, [], {}, -1, 2**70, "x" * 300])
def test_what_can_not_be_missing(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_message(message(**{field: value}))


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("2026-10-01T09:20:10Z", 1_790_846_410_000),
        ("2026-10-01T09:20:10.9Z", 1_790_846_410_900),
        ("2026-10-01T11:20:10.900123+02:00", 1_790_846_410_900),
        ("2026-10-01T09:20:10", 1_790_846_410_000),
        (1_790_846_410_900, 1_790_846_410_900),
    ],
)
def test_times(value: object, ms: int) -> None:
    assert parse_time(value) == ms


def test_text_from_html_when_there_is_none() -> None:
    """D05, D25: a link's target and an inline image reach the bot."""
    rich = '<div><a href="https://x.test/u">here</a></div><img src="https://x.test/i.png">'
    found = parse_message(message(text=" ", richText=rich))
    assert found.text == "here (https://x.test/u)\n[picture not shown: https://x.test/i.png]"
    beside = parse_message(message(text="here", richText=rich))
    assert beside.text == "here\n[picture not shown: https://x.test/i.png]"
    assert "https://x.test/u" in str(beside.html)
    assert "https://x.test/i.png" in str(beside.html)


PICTURE = "https://424242.fs1.hubspotusercontent-eu1.net/hubfs/424242/chat/cat%201.png"


def told_of(source: str) -> str:
    return f"[picture not shown: {source}]"


GATED = "https://api-eu1.hubspot.com/filemanager/api/v2/files/190001/signed-url-redirect?portalId=424242"


@pytest.mark.parametrize(
    ("sources", "listed", "names", "lines"),
    [
        ([PICTURE], [], ["cat 1.png"], []),
        ([PICTURE, PICTURE], [], ["cat 1.png"], []),
        ([PICTURE], [{"fileId": "7", "name": "cat.png", "url": f"{PICTURE}?Expires=9&Signature=a"}], [], []),
        ([GATED], [], ["image"], []),
        ([GATED], [{"fileId": "190001", "name": "cat.png"}], [], []),
        (["https://f.hubspotusercontent30.net/hubfs/1/a.gif"], [], ["a.gif"], []),
        (["https://x.test/i.png"], [], [], [told_of("https://x.test/i.png")]),
        (["https://hubspotusercontent-evil.net/i"], [], [], [told_of("https://hubspotusercontent-evil.net/i")]),
        (["https://x.test/hubspot.net"], [], [], [told_of("https://x.test/hubspot.net")]),
        (["https://hubspot.net.x.test/i"], [], [], [told_of("https://hubspot.net.x.test/i")]),
        (["http://127.0.0.1/i", "//x.test/i"], [], [], [told_of("http://127.0.0.1/i"), "[picture not shown]"]),
        (["data:image/png;base64,AA==", "/i.png", "javascript:x"], [], [], ["[picture not shown]"]),
    ],
)
def test_pictures_in_the_text(
    sources: list[str], listed: list[dict[str, Any]], names: list[str], lines: list[str]
) -> None:
    """D05: each that HubSpot has comes once, as a file; the others are told of, and never fetched."""
    rich = "<p>look" + "".join(f'<img src="{one}">' for one in sources) + "</p>"
    files = [{"type": "FILE", "fileUsageType": "IMAGE", **one} for one in listed]
    for text in ("look", ""):
        found = parse_message(message(text=text, richText=rich, attachments=files))
        assert [one.name for one in found.pictures] == names
        assert all(str(one.content_type).startswith("image/") for one in found.pictures)
        told = re.findall(r"\[picture not shown[^]]*]", found.text)
        assert sorted(set(told)) == sorted(lines)
        assert found.text.startswith("look")
        assert PICTURE not in found.text
    assert [one.file_id for one in found.pictures] == (
        ["190001"] if sources == [GATED] and names else [None] * len(names)
    )


def test_a_text_of_nothing_but_a_picture() -> None:
    found = parse_message(message(text="", richText=f'<img src="{PICTURE}">'))
    assert (found.text, [one.url for one in found.pictures]) == ("", [PICTURE])


def test_html_never_stands_in_for_text() -> None:
    """D35."""
    found = parse_message(message(text="", richText="<p>Hi <b>you</b></p>"))
    assert found.text == "Hi you"
    assert parse_message(message(text=..., richText=...)).text == "[empty message]"


def test_text_is_verbatim_but_scrubbed() -> None:
    assert parse_message(message(text="  <b> \x00\ud83d & \n")).text == "  <b> \ufffd\ufffd & \n"


def test_files() -> None:
    """D06, D25: a file without URL is still a file; one with neither is said to be lost."""
    files = [
        {"type": "FILE", "fileId": "1", "fileUsageType": "IMAGE", "name": "a/b.png", "url": "https://x.test/b.png"},
        {"type": "FILE", "fileId": 2, "fileUsageType": "VOICE_RECORDING"},
        {"type": "FILE", "fileId": "3", "name": "c.pdf", "url": "http://evil.test/c.pdf"},
        {"type": "FILE", "url": "https://x.test/100%25.pdf?Expires=1"},
        {"type": "FILE", "url": "http://127.0.0.1:9/d.txt", "size": 5},
        {"type": "FILE", "name": "gone.txt"},
    ]
    found = parse_message(message(text="", richText="", attachments=files))
    assert [(file.name, file.content_type, file.url, file.file_id) for file in found.attachments] == [
        ("b.png", "image/png", "https://x.test/b.png", "1"),
        ("audio", "audio/*", None, "2"),
        ("c.pdf", "application/pdf", None, "3"),
        ("100%.pdf", "application/pdf", "https://x.test/100%25.pdf?Expires=1", None),
        ("d.txt", "text/plain", "http://127.0.0.1:9/d.txt", None),
    ]
    assert found.attachments[4].size == 5
    assert found.text == "[file that can't be reached: gone.txt]"
    only = parse_message(message(text="", richText="", attachments=files[:1]))
    assert only.text == ""
    assert len(only.attachments) == 1


@pytest.mark.parametrize(
    ("attachment", "line"),
    [
        (
            {"type": "LOCATION", "latitude": 1.5, "longitude": -2, "name": "Depot", "address": "Main St"},
            "[location: Depot, Main St, 1.5, -2]",
        ),
        (
            {
                "type": "CONTACT",
                "contactProfile": {
                    "name": {"firstName": "Ada", "lastName": "L"},
                    "phones": [{"phone": "+1"}, 3],
                    "emails": [{"email": "a@x"}],
                },
            },
            "[contact: Ada L, +1, a@x]",
        ),
        ({"type": "CONTACT"}, "[contact]"),
        (
            {"type": "QUICK_REPLIES", "quickReplies": [{"value": "y", "label": "Yes"}, {"value": "No"}]},
            "[choices: Yes, No]",
        ),
        ({"type": "MESSAGE_HEADER", "text": "Sale\nnow"}, "[header: Sale now]"),
        (
            {"type": "SOCIAL_MEDIA_METADATA", "socialMetadata": {"mediaType": "PHOTO", "mediaUrl": "https://x.test"}},
            "[shared photo: https://x.test]",
        ),
        ({"type": "UNSUPPORTED_CONTENT"}, "[content that can't be shown here]"),
        ({"type": "WHATSAPP_TEMPLATE_METADATA"}, "[WhatsApp template]"),
        ({"type": "HOLO\u202eGRAM"}, "[attachment of type HOLOGRAM]"),
        ("junk", "[attachment of type unknown]"),
    ],
)
def test_other_attachments_are_told_in_words(attachment: object, line: str) -> None:
    assert parse_message(message(attachments=[attachment])).text == f"Hi Rosa\n{line}"
    assert parse_message(message(text=..., richText=..., attachments=[attachment])).text == line


def test_first_message() -> None:
    assert render_first_message("Ada", "Refund", "Wrong invoice", "+14155550123", "User: hi") == (
        "Refund\nWrong invoice\nFrom: Ada, +14155550123\n\nConversation so far:\nUser: hi"
    )
    assert render_first_message(None, None, None) == "A user asks to talk to a person."
    assert render_first_message("Ada\nTitle: x", None, " ") == "From: Ada Title: x"
