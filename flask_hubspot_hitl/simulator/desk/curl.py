"""A line of the wire view as a command for ``curl``. What is secret in it is a placeholder."""

from __future__ import annotations

import json
import shlex
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from ..engine.journal import Line
from ..engine.recording import Redaction, secrets_of
from ..engine.simulation import Simulation
from ..model.world import JSON

TOKEN = "$HUBSPOT_ACCESS_TOKEN"
LEFT_OUT = frozenset({"host", "content-length", "connection", "accept-encoding", "user-agent", "cookie"})
"""Headers that curl writes by itself, or that belong to one connection."""


def curl(sim: Simulation, line: Line) -> str:
    """The command. A bearer token is ``$HUBSPOT_ACCESS_TOKEN``, which the shell fills in; other secrets: "redacted"."""
    redaction = Redaction()
    redaction.learn(secrets_of(sim.world))
    if line.kind == "call":
        entry = redaction.of(line.entry)
        given, method, target = entry["request_headers"], entry["method"], sim.base_url + entry["path"]
        rest = body(entry["request_body"], given)
    else:
        asked = parse_qs(urlsplit(line.entry["url"]).query, keep_blank_values=True)
        entry = redaction.of({**line.entry, "query": asked})
        given, method, target = entry["headers"], "POST", entry["url"]
        rest = [f"--data-raw {shlex.quote(entry['body'])}"]
    query = urlencode(entry["query"], doseq=True, quote_via=quote) if entry.get("query") else ""
    parts = [f"curl -X {method} {shlex.quote(f'{target}?{query}' if query else target)}", *headers(given), *rest]
    return " \\\n  ".join(parts)


def headers(given: JSON) -> list[str]:
    """The options for headers, those apart that curl writes itself."""
    options = []
    for name, value in given.items():
        if name.lower() in LEFT_OUT or (name.lower() == "content-type" and "multipart" in str(value)):
            continue
        if name.lower() == "authorization" and str(value).startswith("Bearer "):
            options.append(f'-H "{name}: Bearer {TOKEN}"')
        else:
            options.append(f"-H {shlex.quote(f'{name}: {value}')}")
    return options


def body(shown: Any, given: JSON) -> list[str]:
    """The options for a body: a form with files, JSON, or text."""
    if shown is None:
        return []
    kind = next((str(value) for name, value in given.items() if name.lower() == "content-type"), "")
    if "multipart" in kind and isinstance(shown, dict):
        return [f"-F {shlex.quote(f'{name}={part(value)}')}" for name, value in shown.items()]
    return [f"--data-raw {shlex.quote(shown if isinstance(shown, str) else json.dumps(shown, ensure_ascii=False))}"]


def part(value: Any) -> str:
    """A part of a form: the log has a file as ``<name>``."""
    text = str(value)
    return f"@{text[1:-1]}" if text.startswith("<") and text.endswith(">") else text
