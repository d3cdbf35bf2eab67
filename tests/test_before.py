"""What was said before a handoff, in the shapes of five kinds of host: understood whole, or refused in plain sight."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl import HistoryEntry, HubSpotHITL
from flask_hubspot_hitl.handoffs.before import render_history

from .conftest import MakeApp
from .helpers import state_of
from .story import PHONE

anything = st.text(st.characters(exclude_categories=[]), max_size=80)
PICTURE = "https://files.example.com/cat.png"

UNDERSTOOD: list[tuple[Any, str]] = [
    # ours
    (HistoryEntry("user", "hi", datetime(2026, 10, 1, 9, 15, tzinfo=UTC)), "[2026-10-01 09:15 UTC] User: hi"),
    (("bot", "hello\x00"), "Bot: hello\ufffd"),
    (["human", "hello"], "Human: hello"),
    ({"author": "Noor H", "text": "yes"}, "Noor H: yes"),
    ({"author": None, "text": "yes"}, "Unknown: yes"),
    (("user", 17), "User: 17"),
    (("user", " "), ""),
    (("user", None), ""),
    # OpenAI, as mappings and as its library's objects
    ({"role": "user", "content": "hi"}, "User: hi"),
    ({"role": "assistant", "content": "hello", "refusal": None}, "Bot: hello"),
    ({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f"}}]}, ""),
    ({"role": "tool", "tool_call_id": "c", "content": "SECRET"}, ""),
    ({"role": "system", "content": "You are a bot"}, ""),
    ({"role": "developer", "content": "You are a bot"}, ""),
    (
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": PICTURE, "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        f"User: look\n[image: {PICTURE}]\n[image]\n[input_audio]",
    ),
    ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}, "User: hi"),
    ({"type": "function_call", "name": "f", "arguments": "{}"}, ""),
    ({"type": "reasoning", "summary": []}, ""),
    ({"role": "user", "content": [{"type": "text", "text": {"value": "hi", "annotations": []}}]}, "User: hi"),
    (SimpleNamespace(role="assistant", content="hello", tool_calls=None), "Bot: hello"),
    ({"role": "assistant", "content": None, "refusal": "I can't do that"}, "Bot: I can't do that"),
    (SimpleNamespace(role="assistant", content=None, refusal="I can't do that"), "Bot: I can't do that"),
    ({"role": "SYSTEM", "content": "SECRET"}, ""),
    ({"type": "reasoning", "content": [{"type": "reasoning_text", "text": "SECRET"}]}, ""),
    (SimpleNamespace(type="reasoning", content=[{"type": "reasoning_text", "text": "SECRET"}]), ""),
    (SimpleNamespace(type="function_call", name="f", arguments="{}"), ""),
    ({"type": "web_search_call", "id": "w", "status": "completed"}, ""),
    ({"type": "mcp_call", "id": "m", "output": "SECRET"}, ""),
    ({"type": "custom_tool_call", "call_id": "c", "input": "SECRET"}, ""),
    ({"type": "computer_call_output", "call_id": "c", "output": {}}, ""),
    # Anthropic, Gemini, Bedrock
    ({"type": "tool_result", "content": "SECRET"}, ""),
    ({"type": "thinking", "content": "SECRET"}, ""),
    (
        {
            "role": "assistant",
            "content": [
                {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "title": "SECRET"}]},
                {"type": "mcp_tool_use", "name": "f"},
                {"type": "mcp_tool_result", "content": [{"type": "text", "text": "SECRET"}]},
                {"type": "bash_code_execution_tool_result", "content": {"type": "text", "text": "SECRET"}},
                {"type": "text", "text": "hello"},
            ],
        },
        "Bot: hello",
    ),
    ({"role": "model", "parts": [{"text": "SECRET", "thought": True}, {"functionCall": {"name": "f"}}]}, ""),
    ({"role": "assistant", "content": [{"text": "hello"}, {"toolUse": {"name": "f"}}]}, "Bot: hello"),
    ({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "SECRET"}]}, ""),
    (
        {"role": "assistant", "content": [SimpleNamespace(type="text", text="one moment"), {"type": "tool_use"}]},
        "Bot: one moment",
    ),
    ({"role": "model", "parts": [{"text": "hello"}]}, "Bot: hello"),
    # LangChain: objects, and its three kinds of dumps
    (SimpleNamespace(type="human", content="hi", additional_kwargs={}), "User: hi"),
    (SimpleNamespace(type="ai", content=[{"type": "text", "text": "hello"}], tool_calls=[]), "Bot: hello"),
    (SimpleNamespace(type="system", content="You are a bot"), ""),
    (SimpleNamespace(type="tool", content="SECRET", tool_call_id="c"), ""),
    (SimpleNamespace(type="chat", role="Noor", content="hi"), "Noor: hi"),
    ({"type": "human", "content": "hi", "additional_kwargs": {}, "id": None}, "User: hi"),
    ({"type": "HumanMessageChunk", "content": "hi"}, "User: hi"),
    ({"type": "ToolMessageChunk", "content": "SECRET"}, ""),
    ({"type": "SystemMessageChunk", "content": "SECRET"}, ""),
    ({"type": "ai", "content": ["hello", {"type": "non_standard", "value": {"x": "SECRET"}}]}, "Bot: hello"),
    ({"type": "ai", "data": {"content": "hello", "type": "ai", "tool_calls": []}}, "Bot: hello"),
    (
        {"lc": 1, "type": "constructor", "id": ["HumanMessage"], "kwargs": {"content": "hi", "type": "human"}},
        "User: hi",
    ),
    # Rasa
    ({"event": "user", "timestamp": 1790846100.25, "text": "hi"}, "[2026-10-01 09:15 UTC] User: hi"),
    ({"event": "bot", "text": "hello", "data": {"buttons": None, "image": None}}, "Bot: hello"),
    (
        {"event": "bot", "text": "which?", "data": {"buttons": [{"title": "One", "payload": "/one"}]}},
        "Bot: which?\nOne",
    ),
    ({"event": "bot", "text": None, "data": {"image": PICTURE}}, f"Bot: [image: {PICTURE}]"),
    ({"event": "action", "name": "action_listen", "policy": None}, ""),
    ({"event": "slot", "name": "email", "value": "SECRET"}, ""),
    # Botpress
    (
        {
            "id": "msg_1",
            "createdAt": "2026-10-01T09:15:00.000Z",
            "type": "text",
            "payload": {"text": "hi"},
            "direction": "incoming",
            "userId": "user_1",
        },
        "[2026-10-01 09:15 UTC] User: hi",
    ),
    ({"type": "image", "payload": {"imageUrl": PICTURE}, "direction": "outgoing"}, f"Bot: [image: {PICTURE}]"),
    ({"payload": {"type": "text", "text": "hi"}, "isBot": False, "userId": "u"}, "User: hi"),
    (
        {
            "type": "choice",
            "payload": {"text": "Which?", "options": [{"label": "A", "value": "a"}]},
            "direction": "outgoing",
        },
        "Bot: Which?\nA",
    ),
    (
        {
            "type": "bloc",
            "payload": {"items": [{"type": "text", "payload": {"text": "x"}}, {"type": "voice", "payload": {}}]},
            "direction": "incoming",
        },
        "User: x\n[voice]",
    ),
    ({"sender": "User", "preview": "hi"}, "User: hi"),
]

STRANGE: list[Any] = [
    {"role": "user", "contnet": "SECRET"},
    {"rolle": "user", "content": "SECRET"},
    {"author": "user", "txt": "SECRET"},
    {"event": "user", "message": "SECRET"},
    {"SECRET with spaces": "x"},
    {"role": "user", "content": object()},
    {"role": ["SECRET"], "content": "x"},
    {"role": "user", "content": [{"sort": "SECRET"}]},
    {},
    "SECRET",
    ("SECRET",),
    ("user", "SECRET", "x"),
    ("user", b"SECRET"),
    (7, "SECRET"),
    SimpleNamespace(role="user", text="SECRET"),
    ("user", 10**5000),
    HistoryEntry("user", "SECRET", datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))),
    17,
    None,
    b"SECRET",
]


@pytest.mark.parametrize(("entry", "line"), UNDERSTOOD)
def test_an_entry_is_understood(entry: Any, line: str) -> None:
    assert render_history([entry]) == line
    assert render_history(iter([entry, ("user", "next")])).endswith("User: next")


@pytest.mark.parametrize("entry", STRANGE)
def test_what_is_not_understood_is_refused_without_its_content(entry: Any) -> None:
    with pytest.raises(TypeError, match=r"history\[1\] is not understood: a ") as caught:
        render_history([("user", "hi"), entry])
    assert "SECRET" not in str(caught.value)
    if isinstance(entry, dict) and "contnet" in entry:
        assert "'role' (str), 'contnet' (str)" in str(caught.value)
    told = render_history([("user", "hi"), entry, entry], is_checked=False)
    assert told == "(2 entries could not be read)\nUser: hi"


@pytest.mark.parametrize("entries", ["SECRET", {"role": "user", "content": "SECRET"}, 5, None, b"SECRET"])
def test_what_is_no_list_is_refused(entries: Any) -> None:
    with pytest.raises(TypeError, match="history must be a list of entries") as caught:
        render_history(entries)
    assert "SECRET" not in str(caught.value)


def test_a_host_hears_at_once_and_nothing_is_stored(make_app: MakeApp) -> None:
    app, hitl = make_app(), HubSpotHITL()
    with app.app_context():
        with pytest.raises(TypeError, match="'contnet'"):
            hitl.start("c1", contact=PHONE, history=[{"role": "user", "contnet": "x"}])
        assert not hitl.is_active("c1")
    with state_of(app).ledger.read() as tx:
        assert sum(tx.records.count_by_state().values()) == 0


def test_history_is_any_iterable() -> None:
    """D07, D52: oldest first."""
    entries = [HistoryEntry("user", "hi"), ("bot", "hello"), ("user", " ")]
    assert render_history(entries) == render_history(iter(entries)) == "User: hi\nBot: hello"
    assert render_history([]) == ""


def test_long_history_keeps_whole_newest_entries() -> None:
    text = render_history((("user", f"turn {number}") for number in range(100_000)), limit=200)
    heading, *lines = text.split("\n")
    assert len(text) <= 200
    assert lines[-1] == "User: turn 99999"
    assert lines[0] == f"User: turn {100_000 - len(lines)}"
    assert heading == f"({100_000 - len(lines)} earlier entries left out)"
    cut = render_history([("user", "a"), ("user", "b" * 500)], limit=100)
    assert len(cut) == 100
    assert cut.startswith("(1 earlier entry left out)\n…bbb")


@given(st.lists(st.tuples(anything, anything), max_size=8), st.integers(0, 120))
def test_history_never_passes_its_limit(entries: list[tuple[str, str]], limit: int) -> None:
    assert len(render_history(entries, limit)) <= limit


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything | st.sampled_from(["role", "content", "type",
        "text", "payload", "event", "data", "timestamp", "image_url"]), inner, max_size=4),
)  # fmt: skip


@given(st.lists(json_like, max_size=4))
def test_no_entry_ends_in_another_error(entries: list[Any]) -> None:
    render_history(entries, is_checked=False)
    with contextlib.suppress(TypeError):
        render_history(entries)
