"""Tell whether the database is this deployment's own, and whether the public URL leads to it.

The self-test is a signed request to ourselves through the public URL. It changes nothing. Whoever has the client secret
can send one (HubSpot too, and with it any admin's workflow), and whoever is on the way can read along: so the answer is
encrypted with a key made from that secret. To others it is noise, and nobody else can give one.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Any

from .._version import __version__
from ..config import PREFIX, Settings
from ..ledger import Ledger
from ..ledger.crypto import Cipher, Undecipherable
from ..process import gives_threads_time

_BODY = '{"type":"FLASK_HUBSPOT_HITL_SELF_TEST","nonce":"%s"}'
_PATTERN = re.compile((re.escape(_BODY) % "([0-9a-f]{32})").encode())
_ANSWER = "self_test"
BODY_GONE = "the body did not arrive whole"
"""What the webhook says to anybody whose body somebody else has read before; doctor knows it by this."""
SWITCHED_OFF = "live agents are switched off here"
"""What every route says where the app runs without live agents; doctor knows it by this."""


def self_test_body(nonce: str) -> bytes:
    """Return the body of a self-test.

    To an older version it is an event of an unknown type.

    :param nonce: 32 hex digits, random.
    """
    return (_BODY % nonce).encode()


def self_test_nonce(raw: bytes) -> str | None:
    """Return the nonce of a self-test; None when a verified body is none."""
    found = _PATTERN.fullmatch(raw)
    return None if found is None else found[1].decode()


def self_test_answer(settings: Settings, nonce: str, deployment_id: str) -> dict[str, str]:
    """Return the JSON to answer with, sealed: which deployment this is, and whether its dispatcher has threads."""
    facts = {"deployment_id": deployment_id, "version": __version__}
    if settings.dispatcher == "thread" and not gives_threads_time():
        facts["threads"] = "none"
    return {_ANSWER: Cipher((), settings.client_secret).encrypt(nonce, facts)}


def read_self_test(settings: Settings, nonce: str, value: object) -> dict[str, Any] | None:
    """Open a sealed answer.

    :returns: ``deployment_id``, ``version``, and ``threads`` ("none") or not; None for anything else, or another
        nonce's.
    """
    sealed = value.get(_ANSWER) if isinstance(value, dict) else None
    if not isinstance(sealed, str):
        return None
    try:
        return Cipher((), settings.client_secret).decrypt(nonce, sealed)
    except Undecipherable:
        return None


logger = logging.getLogger(__name__)


class Deployment:
    """Remember which database this app was served from last, in a small file that only its user can read.

    The file has one line, an id; more where apps of one name share an instance folder, each with a database of its own.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_first(self) -> bool:
        """Return True when no database was here before."""
        return not self._read()

    def why_not(self, deployment_id: str) -> str | None:
        """Return the reason why a database is not the one of before; None when it is, or is the first one.

        The first one is remembered. Where that can't be written, as in a container whose files are read-only, nothing
        is ever noticed.

        :param deployment_id: the database's id; an empty string when it is empty.
        """
        known = self._read()
        if not known:
            self.remember(deployment_id)
        if not known or deployment_id in known:
            return None
        this = deployment_id or "empty"
        return (
            f"this app was served from the database {known[-1]} before, and this one is {this}: check "
            "HUBSPOT_HITL_DATABASE_URL and that its disk is mounted; if this one is right, run "
            "'flask hubspot-hitl adopt', or 'adopt --also' where apps of one name share this instance folder"
        )

    def remember(self, deployment_id: str, *, also: bool = False) -> None:
        """Remember that this database is the right one from now on.

        :param also: those of before are right as well.
        """
        ids = [*self._read(), deployment_id] if also else [deployment_id]
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w", encoding="ascii") as text:
                text.writelines(f"{one}\n" for one in dict.fromkeys(ids))
            new.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink(missing_ok=True)
            logger.info(
                "The id of this database can't be written to %s (%s); if another database is used one day, nobody is "
                "told",
                self.path, error.strerror,
            )  # fmt: skip

    def _read(self) -> list[str]:
        try:
            return self.path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError):
            return []


def not_adopted(served: str | None, urls: tuple[str, ...]) -> str | None:
    """Return the reason why a database may not be dispatched: it served none of our public URLs; else None.

    :param served: the URLs that it served, one a line; None when it served none yet.
    """
    if served is None or set(served.split("\n")) & set(urls):
        return None
    return (
        f"this database served {served.split()[0]} before, and {PREFIX}PUBLIC_URL is {urls[0]}; if it is "
        "not a copy of another installation's, run 'flask hubspot-hitl adopt'"
    )


class Adoption:
    """Refuse to dispatch a copied database, which must not replay its queue.

    A database is dispatched only where its public URL is served.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._settings = settings
        self._ledger = ledger
        self._passed = False

    def __call__(self) -> str | None:
        if self._passed:
            return None
        urls = self._settings.public_url
        with self._ledger.read() as tx:
            served = tx.get_meta("public_url")
        reason = not_adopted(served, urls)
        if reason is not None:
            return reason
        if served != "\n".join(urls):
            from . import arrivals  # seldom needed

            with self._ledger.write() as tx:
                arrivals.serve(tx, urls)
        self._passed = True
        return None
