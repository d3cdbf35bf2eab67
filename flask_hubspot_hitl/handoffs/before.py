"""Read what was said before a handoff, in the shapes that hosts and bots have it, and write it down for the agents.

Understood are :class:`.HistoryEntry`, pairs, and the messages of OpenAI, Anthropic, LangChain, Rasa and Botpress, as
mappings or as the objects of their libraries, none of which is imported.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ..clock import to_datetime
from ..domain import HistoryEntry
from ..hubspot.content import parse_time, safe_url
from ..hubspot.text import scrub

HISTORY_LIMIT = 10_000
"""Characters. HubSpot documents no limit; integrators cut at 10,000 or 15,000."""
UNSAID = frozenset({"system", "developer", "tool", "function", "remove", "function_call_output"})
"""Roles of entries that nobody has said; they are left out. So is Rasa's every event but those of :data:`SPEAKERS`."""
SPEAKERS = frozenset({"user", "bot", "agent"})
"""Rasa's events that say something."""
DEPTH = 6
"""Parts of parts that are read."""

_NAMES = {"human": "user", "ai": "bot", "assistant": "bot", "model": "bot"}
_CHUNK = "MessageChunk"
"""How LangChain's streamed messages end their kind: ``AIMessageChunk``."""
_CALLS = "apply_patch|code_interpreter|computer|custom_tool|file_search|function|image_generation|local_shell|mcp|shell"
_THOUGHTS = re.compile(
    rf"(\w+_)?tool_?(use|call|result)\w*|({_CALLS}|web_search)_call\w*|mcp_(list_tools|approval_\w+)|item_reference|"
    r"(redacted_)?thinking|reasoning\w*|compaction|non_standard"
)
"""Kinds of entries and parts that are a model's thoughts, or a tool's: OpenAI's, Anthropic's and LangChain's."""
_TOOLS = ("functionCall", "functionResponse", "function_call", "function_response", "toolUse", "toolResult")
"""By these Gemini's and Bedrock's parts, which name no kind, are known for a tool's."""
_WORDS = ("title", "subtitle", "text", "markdown", "content", "refusal", "label")
_LISTS = ("parts", "items", "options", "actions", "buttons", "quick_replies")
_LINKS = ("imageUrl", "audioUrl", "videoUrl", "fileUrl", "image_url", "image", "attachment", "url")
_PAIRS = (
    ("author", "text"),
    ("role", "content"),
    ("role", "parts"),
    ("type", "content"),
    ("sender", "text"),
    ("sender", "preview"),
)
_KEY = re.compile(r"\w{1,40}")
_EARLIEST_MS = 10**11
"""Times below are seconds: as milliseconds they would be in 1973."""


class _Strange(Exception):
    """An entry, or a part of one, is not understood."""


def render_history(
    entries: Iterable[Any],
    limit: int = HISTORY_LIMIT,
    *,
    is_checked: bool = True,
    allowed: Callable[[str], str] = lambda line: line,
) -> str:
    """Return the conversation before the handoff as one text, oldest first, at most ``limit`` characters.

    When it is too long whole entries at the beginning are left out, and the first line says how many; only the newest
    entry is ever cut. Entries that nobody said (:data:`UNSAID`), or that are empty, are left out. Empty in, "" out.

    :param entries: any iterable, oldest first.
    :param is_checked: an entry that is not understood is an error; False: a line says how many there were.
    :param allowed: takes an entry's line, and returns what of it may be read; called before anything is cut.
    :raises TypeError: an entry is not understood; the text tells its keys and types, and nothing of its content.
    """
    if isinstance(entries, str | bytes | Mapping) or not isinstance(entries, Iterable):
        if is_checked:
            raise TypeError(f"history must be a list of entries, not a {type(entries).__name__}")
        entries = [entries]
    kept: deque[str] = deque()
    length = dropped = unread = 0
    for position, entry in enumerate(entries):
        try:
            said = _line_of(entry)
        except (_Strange, ValueError, OverflowError):  # numbers and times beyond all bounds
            if is_checked:
                raise TypeError(_complaint(position, entry)) from None
            unread += 1
            continue
        line = said and allowed(said)
        if not line:
            continue
        kept.append(line)
        length += len(line) + 1
        while length - 1 > limit and len(kept) > 1:
            length -= len(kept.popleft()) + 1
            dropped += 1
    while dropped and len(kept) > 1 and length + len(_heading(dropped, unread)) > limit:
        length -= len(kept.popleft()) + 1
        dropped += 1
    heading = _heading(dropped, unread)
    text = "\n".join(kept)
    room = max(limit - len(heading), 0)
    if len(text) > room:
        text = "…" + text[len(text) - room + 1 :] if room else ""
    return (heading + text)[: max(limit, 0)].rstrip("\n")


def _heading(dropped: int, unread: int) -> str:
    counts = ((dropped, "earlier {} left out"), (unread, "{} could not be read"))
    return "".join(f"({n} {what.format('entry' if n == 1 else 'entries')})\n" for n, what in counts if n)


def _complaint(position: int, entry: object) -> str:
    kind = type(entry).__name__
    if isinstance(entry, Mapping):
        keys = [f"{_shown(key)} ({type(value).__name__})" for key, value in list(entry.items())[:10]]
        kind += f" with {', '.join(keys)}" if keys else " without keys"
    elif isinstance(entry, list | tuple):
        kind += f" of {len(entry)}: {', '.join(type(one).__name__ for one in entry[:5])}"
    return (
        f"history[{position}] is not understood: a {kind}. Write HistoryEntry(author, text), (author, text) or "
        '{"role": …, "content": …}'
    )


def _shown(key: object) -> str:
    return repr(key) if isinstance(key, str) and _KEY.fullmatch(key) else "a key that is no name"


# An entry ------------------------------------------------------------------------------------------------


def _line_of(entry: object) -> str:
    """Return an entry as a line; "" when there is nothing to read in it."""
    told = _told(entry)
    if told is None:
        return ""
    author, said, at = told
    text = scrub(_said(said)).strip()
    if not text:
        return ""
    label = " ".join(scrub(author).split()) or "unknown"
    label = label.capitalize() if label.islower() else label
    stamp = f"[{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC] " if isinstance(at, datetime) and at.tzinfo else ""
    return f"{stamp}{label}: {text}"


def _told(entry: object) -> tuple[str, object, object] | None:
    """Return who spoke, what, and when; None when nobody has said it."""
    if isinstance(entry, HistoryEntry):
        return str(entry.author), entry.text, entry.at
    if isinstance(entry, Mapping):
        return _of_mapping(entry, 0)
    if isinstance(entry, list | tuple):
        if len(entry) != 2 or not isinstance(entry[0], str | None):
            raise _Strange
        return entry[0] or "", entry[1], None
    for who, what in _PAIRS:
        if isinstance(getattr(entry, who, None), str) and hasattr(entry, what):
            refusal = getattr(entry, "refusal", None)
            return _of_mapping({who: getattr(entry, who), what: getattr(entry, what), "refusal": refusal}, 0)
    if _is_thought(getattr(entry, "type", None)):
        return None
    raise _Strange


def _of_mapping(entry: Mapping[str, Any], depth: int) -> tuple[str, object, object] | None:
    if depth > DEPTH:
        raise _Strange
    at = entry.get("at") or _time(entry)
    inner = next((entry[key] for key in ("data", "kwargs") if isinstance(entry.get(key), Mapping)), None)
    if isinstance(entry.get("event"), str) and not _pair(entry):
        return _of_rasa(entry, at)
    if isinstance(entry.get("payload"), Mapping):
        return _botpress_author(entry), {"type": entry.get("type"), **entry["payload"]}, at
    found = _pair(entry)
    if found is None and inner is not None and isinstance(entry.get("type"), str):  # LangChain's own dumps
        return _of_mapping({"type": entry["type"], **inner}, depth + 1)
    if found is None:
        if _is_thought(entry.get("type")):
            return None
        raise _Strange
    who, what = found
    author = entry[who]
    if not isinstance(author, str | None):
        raise _Strange
    if author and author.endswith(_CHUNK):
        author = author.removesuffix(_CHUNK).lower()
    if who != "author" and author and (author.lower() in UNSAID or _is_thought(author)):
        return None
    said = [entry[what], entry["refusal"]] if entry.get("refusal") else entry[what]
    return _NAMES.get(author or "", author or ""), said, at


def _is_thought(kind: object) -> bool:
    return isinstance(kind, str) and _THOUGHTS.fullmatch(kind) is not None


def _pair(entry: Mapping[str, Any]) -> tuple[str, str] | None:
    return next(((who, what) for who, what in _PAIRS if who in entry and what in entry), None)


def _of_rasa(entry: Mapping[str, Any], at: object) -> tuple[str, object, object] | None:
    event = entry["event"]
    if "text" in entry:
        rich = entry.get("data")
        shown = {key: value for key, value in rich.items() if value} if isinstance(rich, Mapping) else {}
        return event, [entry["text"], shown or None], at
    if event in SPEAKERS:
        raise _Strange
    return None


def _botpress_author(entry: Mapping[str, Any]) -> str:
    is_bot = {"incoming": False, "outgoing": True}.get(str(entry.get("direction")), entry.get("isBot"))
    return "bot" if is_bot is True else "user" if is_bot is False else "unknown"


def _time(entry: Mapping[str, Any]) -> datetime | None:
    value = next((entry[key] for key in ("createdAt", "timestamp", "created_at") if entry.get(key)), None)
    if isinstance(value, datetime):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < _EARLIEST_MS:
        value = int(value * 1000)
    try:
        return to_datetime(parse_time(int(value) if isinstance(value, float) else value))
    except (ValueError, OverflowError):
        return None


# What was said -------------------------------------------------------------------------------------------


def _said(value: object, depth: int = 0) -> str:
    """Return what a text, a part, or a list of parts says; of what is no text, its address or its kind."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if depth > DEPTH:
        return "[…]"
    if isinstance(value, list | tuple):
        return "\n".join(filter(None, (_said(one, depth + 1) for one in value)))
    if isinstance(value, Mapping):
        return _part(value, depth)
    kind, text = getattr(value, "type", None), getattr(value, "text", None)
    if isinstance(kind, str):
        return _part({"type": kind, "text": text}, depth)
    raise _Strange


def _part(part: Mapping[str, Any], depth: int) -> str:
    kind = part.get("type")
    if isinstance(part.get("payload"), Mapping):
        return _part({"type": kind, **part["payload"]}, depth)
    if _is_thought(kind) or part.get("thought") is True or any(name in part for name in _TOOLS):
        return ""
    name = re.sub(r"_url$|[^\w-]", "", kind)[:40] if isinstance(kind, str) else ""
    lines = [line for line in _lines_of(part, name, depth) if line.strip()]
    if lines:
        return "\n".join(lines)
    if not name:
        raise _Strange
    return "" if name == "text" else f"[{name}]"


def _lines_of(part: Mapping[str, Any], name: str, depth: int) -> Iterator[str]:
    said = [_said(part[key], depth + 1) for key in _WORDS if part.get(key)]
    yield from said or [_said(part.get("value"), depth + 1)]
    for key in _LINKS:
        if part.get(key):
            yield _link(name or key.removesuffix("Url"), part[key])
    for key in _LISTS:
        if part.get(key):
            yield _said(part[key], depth + 1)
    if "latitude" in part and "longitude" in part:
        yield f"[location: {_said(part['latitude'], DEPTH)},{_said(part['longitude'], DEPTH)}]"


def _link(name: str, value: object) -> str:
    url = safe_url(value.get("url") if isinstance(value, Mapping) else value)
    return f"[{name}: {url}]" if url else f"[{name}]"
