"""``--record FILE``: every API call served and every delivery, one JSON object a line, without secrets.

``dir`` says which: ``api`` has the fields of ``/_sim/requests``, ``webhook-out`` those of ``/_sim/deliveries``. What
must not be told is replaced in place, so that a line keeps its shape. Reading such a file: ``replay.py``.
"""

from __future__ import annotations

import json
import logging
import os
import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from ...hubspot import strict_json
from ..model.world import JSON, World

logger = logging.getLogger(__name__)

REDACTED = "redacted"
SHORTEST_SECRET = 6
"""Characters; a shorter one can't be looked for in other text."""

_SECRET_NAME = re.compile(r"(?i)authorization|cookie|token|secret|password|signature|api[_-]?key|^code$|^state$")
_NOT_SECRET = frozenset({"x-hubspot-signature-version", "token_type", "tokentype", "token_use", "errormessagetokens"})
_TOKEN_IN_PATH = re.compile(r"(?<=/access-tokens/)[^/]+|(?<=/refresh-tokens/)[^/]+")
_LINK_SIGNATURE = re.compile(r"(?i)([?&](?:amp;)?signature=)[^&\s\"'<>]+")

# What is kept of the text fields when texts are to go: no more than ids, times, types and states.
_KEPT_NAMES = frozenset(
    "id type timestamp status category direction after limit archived sort scope scopes active access method mode"
    " grant_type operator sourceGroup createdBy assignedTo assignedFrom propertyName propertyValue".lower().split()
)
_KEPT_ENDINGS = (
    "Id",
    "Ids",
    "_id",
    "_type",
    "_use",
    "At",
    "Type",
    "Types",
    "Status",
    "Timestamp",
    "Direction",
    "Flag",
    "Source",
)
_PERSONAL = re.compile(r"(?i)@|%40|^\+|^%2B")


class Recording:
    """A file being written. Called with the simulation's lock held."""

    def __init__(self, path: str, *, redact_text: bool = False) -> None:
        """Open ``path`` anew, readable by its owner only. Raises OSError."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "w", encoding="ascii", buffering=1)
        self._redaction = Redaction(texts=redact_text)

    def add(self, direction: str, entry: JSON, world: World) -> None:
        """Write one entry; ``direction`` is ``api`` or ``webhook-out``. A full disk ends the recording, not the run."""
        self._redaction.learn(secrets_of(world))
        if self._file.closed:
            return
        try:
            self._file.write(json.dumps({"dir": direction, **self._redaction.of(entry)}) + "\n")
        except OSError as problem:
            logger.warning("the recording ends here: %s", problem.strerror)
            self.close()

    def close(self) -> None:
        """End the file."""
        try:
            self._file.close()
        except OSError:
            logger.warning("the end of the recording could not be written")


def secrets_of(world: World) -> set[str]:
    """Every secret and token that the world knows now."""
    found = {app.client_secret for app in world.apps.values()} | {app.developer_key for app in world.apps.values()}
    found |= {made.refresh_token for made in world.installs.values()}
    return found | world.tokens.keys() | world.codes.keys() | world.staging.keys()


class Redaction:
    """Takes secrets out of log entries: those it was told of, and whatever stands where secrets stand.

    With ``texts`` also what people wrote: names, addresses, texts.
    """

    def __init__(self, *, texts: bool = False) -> None:
        self._texts = texts
        self._known: set[str] = set()
        self._pattern = re.compile(r"(?!)")

    def learn(self, secrets: set[str]) -> None:
        """Look for these too, from now on."""
        new = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET} - self._known
        if new:
            self._known |= new
            forms = {form for secret in self._known for form in (secret, quote(secret, safe=""))}
            longest_first = sorted(forms, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def of(self, entry: JSON) -> JSON:
        """A redacted copy."""
        answer: JSON = self._without_secrets(entry, "")
        headers = entry.get("request_headers") or {}
        is_form = any(name.lower() == "content-type" and "form-urlencoded" in headers[name] for name in headers)
        for name in ("request_body", "response_body", "body"):
            if isinstance(entry.get(name), str):
                answer[name] = self._text_body(entry[name], is_form=is_form and name == "request_body")
            elif name in entry and self._texts:
                answer[name] = _without_text(answer[name], "")
        if "path" in entry:
            answer["path"] = self._path(answer["path"], by_property="idProperty" in (entry.get("query") or ()))
        if "query" in entry and self._texts:
            answer["query"] = _without_text(answer["query"], "")
        for name in ("url", "connected_to"):
            if name in entry:
                parts = urlsplit(answer[name])  # without user, password and query
                answer[name] = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        return answer

    def _without_secrets(self, value: Any, name: str) -> Any:
        """``value``, which stands under ``name``, with everything secret in it replaced."""
        if isinstance(value, dict):
            return {self._clean(key): self._without_secrets(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [self._without_secrets(item, name) for item in value]
        secret = _SECRET_NAME.search(name) and name.lower() not in _NOT_SECRET
        if secret and value not in (None, "", True, False):
            scheme, space, _ = str(value).partition(" ")
            return f"{scheme} {REDACTED}" if name.lower() == "authorization" and space else REDACTED
        return self._clean(value) if isinstance(value, str) else value

    def _clean(self, text: str) -> str:
        return _LINK_SIGNATURE.sub(rf"\1{REDACTED}", self._pattern.sub(REDACTED, text))

    def _text_body(self, body: str, *, is_form: bool) -> str:
        """A body that is logged as text: JSON, a form, or anything else."""
        if is_form:
            pairs = [(name, self._without_secrets(value, name)) for name, value in parse_qsl(body, True)]
            return urlencode([(name, _without_text(value, name) if self._texts else value) for name, value in pairs])
        try:
            parsed = strict_json.loads(body.encode("utf-8", "replace"), parse_constant=float)
        except ValueError:
            return _length_of(body) if self._texts else self._clean(body)
        changed = self._without_secrets(parsed, "")
        if self._texts:
            changed = _without_text(changed, "")
        return body if changed == parsed else json.dumps(changed)

    def _path(self, path: str, *, by_property: bool) -> str:
        """A path without tokens; without texts, also without addresses and what a contact is looked up by."""
        path = _TOKEN_IN_PATH.sub(REDACTED, path)
        if not self._texts:
            return path
        parts = [REDACTED if _PERSONAL.search(part) else part for part in path.split("/")]
        return "/".join([*parts[:-1], REDACTED] if by_property else parts)


def _without_text(value: Any, name: str) -> Any:
    """``value`` without text, but for what stands under a name that is kept and is no address."""
    if isinstance(value, dict):
        return {key: _without_text(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_text(item, name) for item in value]
    if not isinstance(value, str) or value == REDACTED:
        return value
    kept = (name.lower() in _KEPT_NAMES or name.endswith(_KEPT_ENDINGS)) and not _PERSONAL.search(value)
    return value if kept else _length_of(value)


def _length_of(text: str) -> str:
    return f"[{len(text)} characters]" if text else ""
