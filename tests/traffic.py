"""Holds recorded API calls against HubSpot's OpenAPI documents, all versions; the exceptions, with their reasons.

The rules are those of ``../shared/tools/validate_traffic.py``. Calls that differ in nothing but ids, times and words
are looked at once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

Json = dict[str, Any]

TOOL = Path(__file__).parents[2] / "shared" / "tools" / "validate_traffic.py"

# HubSpot publishes no document of these versions; they are held against their nearest sibling.
SIBLINGS = (
    ("/oauth/2026-03/", "/oauth/v3/"),
    ("/crm/objects/2026-03/", "/crm/objects/2026-09/"),
    *((f"/crm/v3/objects/{kind}", f"/crm/objects/2026-09/{kind}") for kind in ("tickets", "notes", "0-5", "0-46")),
    ("/webhooks-journal/journal/2026-09/", "/webhooks-journal/journal/2026-03/"),
    ("/webhooks-journal/journal-local/2026-09/", "/webhooks-journal/journal-local/2026-03/"),
    ("/webhooks-journal/subscriptions/2026-09", "/webhooks-journal/subscriptions/2026-03"),
)

ID = re.compile(r"(?!\d{4}-\d\d$)([0-9a-f-]*[0-9][0-9a-f-]*|ch[0-9a-f]+|sim-.*)")
"""A part of a path that is an id or a token, and no version."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a call: ``part`` is request, response or path."""

    call: Json
    part: str
    what: str

    @property
    def path(self) -> str:
        return str(self.call["path"])

    @property
    def is_ours(self) -> bool:
        """Whether the extension's own client made the call."""
        return bool(self.call["request_headers"].get("User-Agent") == "Flask-HubSpot-HITL")

    def __str__(self) -> str:
        return f"{self.call['method']} {self.path} -> {self.call['status']}: {self.part}: {self.what[:300]}"


EXCEPTIONS: dict[str, Callable[[Problem], bool]] = {
    # no document at all
    "a browser's page, no API": lambda one: bool(re.fullmatch(r"/oauth/([^/]+/)?authorize", one.path)),
    "HubSpot publishes no document of account info, uninstalling and the legacy upload": lambda one: (
        one.path.startswith(("/account-info/", "/appinstalls/", "/filemanager/"))
    ),
    "HubSpot publishes no document of these; its own clients' models are the source": lambda one: bool(
        re.match(r"/crm/(v3/)?(properties|owners)\b|/visitor-identification/|/oauth/v2/private-apps/", one.path)
    ),
    "sorts are objects in the guides, and in every client": lambda one: (
        one.path.endswith("/search") and one.part == "request" and "$.sorts[" in one.what
    ),
    "a file of the journal comes from a storage, by a signed address": lambda one: (
        one.part == "path" and one.path.startswith("/journal-files/")
    ),
    "a path within a path has slashes, and is no number": lambda one: (
        bool(re.fullmatch(r"/files/(v3|2026-03)/(files/stat|folders)/.+", one.path)) and one.part in ("path", "request")
    ),
    "a test asks for what there is not": lambda one: (
        not one.is_ours and one.part == "path" and one.call["status"] in (404, 405, 501)
    ),
    "a token lacks the scope of what is not served": lambda one: (
        not one.is_ours and one.part == "path" and one.call["status"] == 403
    ),
    # answers
    "chaos answers as HubSpot's edge does, without JSON": lambda one: (
        one.part == "response" and "fault" in one.call and not isinstance(one.call["response_body"], dict)
    ),
    "a repeated publish may be a 200 (open question 6)": lambda one: (
        one.call["method"] == "POST" and one.path.endswith("/messages") and "status 200 undocumented" in one.what
    ),
    "v1's token answer as the guides show it (docs/hubspot.rst: Tokens)": lambda one: (
        one.path == "/oauth/v1/token" and one.part == "response" and "token_use" not in one.call["response_body"]
    ),
    # docs/hubspot.rst (Actors; Subscriptions API)
    "batches of 2026-09 answer 207 again, which our copies of the documents leave out": lambda one: (
        bool(
            re.fullmatch(r"/conversations/.*/2026-09/actors/batch/read|/app-webhooks/2026-09/.*/batch/update", one.path)
        )
        and one.what.startswith("status 207 undocumented")
    ),
    # requests
    # docs/hubspot.rst (Journal)
    "an app's own token, which the documents of v1 and v3 have and 2026-09's leaves out": lambda one: (
        one.path in ("/oauth/2026-09/token", "/oauth/2026-03/token")
        and "'client_credentials' is not one of" in one.what
    ),
    # docs/hubspot.rst (Listing and changing channels)
    "a channel may be changed in part, its guides say": lambda one: (
        bool(re.fullmatch(r".*/custom-channels(/[\d-]+)?/\d+", one.path))
        and (one.call["method"], one.part) == ("PATCH", "request")
        and "is a required property" in one.what
    ),
    # requests, none of them made by the extension
    "the fuzzer asks for anything": lambda one: (
        "schemathesis" in one.call["request_headers"].get("User-Agent", "") and one.part == "request"
    ),
    # docs/hubspot.rst (Message body; Contact search; Listing and changing channels)
    "the documents require what HubSpot does not": lambda one: (
        not one.is_ours and one.part == "request" and "is a required property" in one.what
    ),
    # docs/hubspot.rst (Subscriptions API)
    "webhooks of v3 take the developer key, whatever the document says": lambda one: (
        one.path.startswith("/webhooks/") and "no credentials" in one.what and "hapikey" in one.call["query"]
    ),
    "private apps have a header of their own in 2026-09 only": lambda one: (
        "no credentials" in one.what and "Private-App" in one.call["request_headers"]
    ),
    "HubSpot's alpha client joins lists by commas and asks for tokens in JSON": lambda one: (
        "HubSpot/Python" in one.call["request_headers"].get("User-Agent", "")
        and ("," in str(one.call["query"].get("deliveryIdentifierType")) or one.path.startswith("/oauth/"))
        and one.part == "request"
    ),
}


class Documents:
    """HubSpot's documents, ready to hold calls against. Raises FileNotFoundError where they are not beside us."""

    def __init__(self) -> None:
        if not TOOL.exists():
            raise FileNotFoundError(TOOL)
        self._tool = _load(TOOL)
        self._options = self._tool.ap.parse_args([])
        self._operations: list[Any] = []
        for path in sorted((TOOL.parents[1] / "openapi").glob("*.json")):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)  # the tool leaves closing files to chance
                document, components = self._tool.load(str(path), False)
            for template, item in document["paths"].items():
                for method in {"get", "put", "post", "patch", "delete"} & set(item):
                    made = self._tool.Op(path.name, template, method, item[method], item, document, components)
                    self._operations.append(made)
        self.covered: set[tuple[str, str, str]] = set()
        self.looked_at = 0

    def operations(self) -> set[tuple[str, str, str]]:
        """Document, method and path of everything HubSpot documents."""
        return {(one.file, one.method.upper(), one.tmpl) for one in self._operations}

    def problems(self, calls: Iterable[Json]) -> list[Problem]:
        """Everything that is wrong with some calls and no exception explains."""
        found, seen = [], set()
        for call in calls:
            kind = kind_of(call)
            if kind not in seen:
                seen.add(kind)
                found += [one for one in self._of(call) if not any(allowed(one) for allowed in EXCEPTIONS.values())]
        self.looked_at += len(seen)
        return found

    def _of(self, call: Json) -> list[Problem]:
        given = dict(call)
        for ours, theirs in SIBLINGS:
            given["path"] = given["path"].replace(ours, theirs, 1)
        if call["status"] >= 400 and isinstance(call["request_body"], str):
            given["request_body"] = None  # rubbish, and refused
        operation, verdicts = self._tool.check(given, self._operations, self._options)
        if operation is not None:
            self.covered.add((operation.file, operation.method.upper(), operation.tmpl))
        return [Problem(call, part, what) for level, part, what in verdicts if level != "WARN"]


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def kind_of(call: Json) -> str:
    """What two calls have in common that differ only in ids, times and words."""
    headers = call["request_headers"]
    told = [headers.get(name) for name in ("Content-Type", "User-Agent")]
    has = [name in headers for name in ("Authorization", "Private-App")]
    parts = [_shape(call[name]) for name in ("query", "request_body", "response_body")]
    path = "/".join("#" if ID.fullmatch(part) else part for part in str(call["path"]).split("/"))
    return json.dumps([call["method"], path, call["status"], "fault" in call, told, has, parts])


def _shape(value: Any) -> Any:
    """A JSON value without what can't matter to a schema: constants stay, other texts lose their letters and digits."""
    if isinstance(value, dict):
        return {name: _shape(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return sorted({json.dumps(_shape(item)) for item in value})
    if isinstance(value, str):
        if re.fullmatch(r"[A-Z][A-Z_-]*", value):
            return value
        return re.sub(r"\w+", "a", re.sub(r"[0-9]+", "0", value))[:40]
    if isinstance(value, int) and not isinstance(value, bool):
        return ["int", value < 0, value.bit_length() // 31]
    return "number" if isinstance(value, float) else value


def read_folder(folder: Path) -> list[Json]:
    """The calls that stand-ins kept in a folder. A line that a killed process left unfinished is left out."""
    calls = []
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                calls.append(json.loads(line))
    return calls


def must_have_documents() -> bool:
    """Whether their absence is a failure, and no reason to skip."""
    return os.environ.get("CI") == "true"
