"""Write down what the host tells the agent of a user beside words: facts and a link (docs/rules.rst L1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..hubspot.content import safe_url
from ..hubspot.text import one_line, scrub

FACTS_LIMIT = 4_000
"""Characters, at most, of all facts together."""
NAME_LIMIT = 100
VALUE_LIMIT = 500
"""Characters of a fact's value; of a longer one the end is left out."""
LINK_LIMIT = 2_000

Redact = Callable[[str], str]
"""Takes what agents would read; returns what they may."""


def redacted(redact: Redact | None, text: str) -> str:
    """Return a text as the host lets agents read it.

    :param redact: the host's own function; None: as it is.
    :raises TypeError: it returned no str.
    """
    if redact is None or not text:
        return text
    allowed = redact(text)
    if not isinstance(allowed, str):
        raise TypeError(f"redact must return a str, not {type(allowed).__name__}")
    return scrub(allowed)


def render_facts(facts: Mapping[str, Any] | None, link: str | None, redact: Redact | None = None) -> str:
    """Return facts and link as lines, at most :data:`FACTS_LIMIT` characters of facts; "" for none.

    Values go through ``redact`` before they are cut. A fact of None, or of nothing, is left out.

    :raises TypeError: the facts are no mapping, a name is no text, or a value is no text, number, True or False.
    :raises ValueError: the link is no https address, or a name or the link is too long.
    """
    if not isinstance(facts, Mapping | None):
        raise TypeError(f"facts must be a mapping, not {type(facts).__name__}")
    lines = [line for name, value in (facts or {}).items() if (line := _fact(name, value, redact))]
    kept, length = 0, 0
    for line in lines:
        length += len(line) + 1
        if length > FACTS_LIMIT:
            break
        kept += 1
    left = len(lines) - kept
    more = [f"({left} more {'fact' if left == 1 else 'facts'} left out)"] if left else []
    return "\n".join([*lines[:kept], *more, *_link(link)])


def _fact(name: object, value: object, redact: Redact | None) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a fact must be a str, not {type(name).__name__}")
    label = one_line(name)
    if not label or len(label) > NAME_LIMIT:
        raise ValueError(f"the name of a fact must be 1 to {NAME_LIMIT} characters")
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"a fact must be text, a number, True or False, not {type(value).__name__}: {label!r}")
    said = {True: "yes", False: "no", None: ""}[value] if isinstance(value, bool | None) else str(value)
    said = one_line(redacted(redact, scrub(said)))
    said = f"{said[: VALUE_LIMIT - 1]}…" if len(said) > VALUE_LIMIT else said
    return f"{label}: {said}" if said else ""


def _link(link: object) -> list[str]:
    if link is None:
        return []
    if not isinstance(link, str):
        raise TypeError(f"link must be a str, not {type(link).__name__}")
    if safe_url(link) is None or len(link) > LINK_LIMIT:
        raise ValueError(f"link must be a full https address of at most {LINK_LIMIT} characters")
    return [f"Link: {link}"]
