"""A signed request to ourselves through the public URL, which shows that it leads to us; what it says, and the answer.

It changes nothing. Who has the client secret can ask (HubSpot too, and with it any admin's workflow) and whoever is on
the way can read along: so the answer is encrypted with a key made from that secret. To others it is noise, and nobody
else can give one.
"""

from __future__ import annotations

import re
from typing import Any

from ._version import __version__
from .config import Settings
from .ledger.crypto import Cipher, Undecipherable
from .process import gives_threads_time

_BODY = '{"type":"FLASK_HUBSPOT_HITL_SELF_TEST","nonce":"%s"}'
_PATTERN = re.compile((re.escape(_BODY) % "([0-9a-f]{32})").encode())
_ANSWER = "self_test"
BODY_GONE = "the body did not arrive whole"
"""What the webhook says to anybody whose body somebody else has read before; doctor knows it by this."""


def body(nonce: str) -> bytes:
    """What is sent. ``nonce`` is 32 hex digits, random. To an older version it is an event of an unknown type."""
    return (_BODY % nonce).encode()


def nonce_of(raw: bytes) -> str | None:
    """The nonce, if a verified body is a self-test's."""
    found = _PATTERN.fullmatch(raw)
    return None if found is None else found[1].decode()


def answer(settings: Settings, nonce: str, deployment_id: str) -> dict[str, str]:
    """The JSON to answer with: which installation this is, and whether its dispatcher has threads, sealed."""
    facts = {"deployment_id": deployment_id, "version": __version__}
    if settings.dispatcher == "thread" and not gives_threads_time():
        facts["threads"] = "none"
    return {_ANSWER: Cipher((), settings.client_secret).encrypt(nonce, facts)}


def read(settings: Settings, nonce: str, value: object) -> dict[str, Any] | None:
    """What :func:`answer` sealed: ``deployment_id``, ``version``, and ``threads`` ("none") or not; None for anything
    else, or another nonce's.
    """
    sealed = value.get(_ANSWER) if isinstance(value, dict) else None
    if not isinstance(sealed, str):
        return None
    try:
        return Cipher((), settings.client_secret).decrypt(nonce, sealed)
    except Undecipherable:
        return None
