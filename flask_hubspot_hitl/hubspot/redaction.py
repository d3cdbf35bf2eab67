"""Keep secrets and people's addresses out of what urllib3 logs. Imports nothing of ours."""

from __future__ import annotations

import itertools
import logging
import re
import weakref
from collections.abc import Iterable

SHORTEST_SECRET = 8
"""Characters of the shortest secret that is blotted out: the replacement of shorter ones would garble any log."""


class _Redaction(logging.Filter):
    """Blot out secrets, addresses, and whatever a query holds, in the URLs that urllib3 logs."""

    _QUERY = re.compile(r"([?&][^=&\s\"']*)=[^&\s\"']*")
    _PATH = re.compile(r"(channel-account-staging-tokens|access-tokens|refresh-tokens)/[^/?\s\"']+")
    _PERSON = re.compile(r"(contacts)/[^/?\s\"']*(?:@|%40)[^/?\s\"']*", re.IGNORECASE)
    """A contact that is read by its e-mail address."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: dict[int, tuple[str, ...]] = {}
        """The secrets by the ``id`` of the object that uses them."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        clean = self._PERSON.sub(r"\1/…", self._PATH.sub(r"\1/…", self._QUERY.sub(r"\1=…", message)))
        for secret in itertools.chain.from_iterable(list(self.hidden.values())):
            clean = clean.replace(secret, "…")
        if clean != message:
            record.msg, record.args = clean, ()
        return True


_redaction = _Redaction()


def install() -> None:
    """Filter urllib3's loggers; more often than once is harmless, because a logger keeps a filter object once."""
    for name in ("urllib3.connectionpool", "urllib3.util.retry"):
        logging.getLogger(name).addFilter(_redaction)


def hide(user: object, secrets: Iterable[str]) -> None:
    """Blot out secrets in urllib3's log for as long as their user exists.

    :param user: the object that sends the secrets, such as a transport.
    :param secrets: parts of URLs; those of fewer than 8 characters are left alone.
    """
    long_enough = tuple(secret for secret in secrets if len(secret) >= SHORTEST_SECRET)
    if long_enough:
        _redaction.hidden[id(user)] = long_enough
        weakref.finalize(user, _redaction.hidden.pop, id(user), None).atexit = False
