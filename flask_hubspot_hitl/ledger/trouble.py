"""Tell what a database's error says: in words, of the connection it came on, and whether waiting helps.

Knows PostgreSQL's SQLSTATEs, libpq's first lines and SQLite's codes; imports no driver. What PostgreSQL refuses a
connection with comes without an SQLSTATE, and in the server's language: a line that is not known is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any

from ..errors import LedgerUnavailable


class Session(Enum):
    """Name what an error says of the connection it came on."""

    KEPT = auto()
    """The connection is as good as before."""
    LOST = auto()
    """The connection is gone; the others are pinged before they are used."""
    REJECTED = auto()
    """The connection works, but neither it nor the others that were made by then are of any use."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Hold what an error says. ``words`` completes "the database can't be used: …" and may say what to do."""

    words: str
    session: Session = Session.KEPT
    passes: bool = False
    """Waiting helps."""
    is_setting: bool = False
    """The address, or the database that it names, is not what we need: no start, at the start."""
    is_private: bool = False
    """The server's own message may hold a part of what was stored, and is not passed on."""

    def error(self) -> LedgerUnavailable:
        """Return the exception to raise."""
        kind = Misconfigured if self.is_setting else LedgerUnavailable
        return kind(f"the database can't be used{' just now' if self.passes else ''}: {self.words}")


class Misconfigured(LedgerUnavailable):
    """Say that the database can't be used until its address, or it itself, is changed; no app is made with it."""


# PostgreSQL: what it says on a connection ------------------------------------------------------------------------

_CUT = Trouble("the connection was lost", Session.LOST, passes=True)
_ENDED = Trouble("the server ended the connection", Session.LOST, passes=True)
_BUSY = Trouble("others are in the way", passes=True)
_RESOURCES = Trouble("the server has run out of something", passes=True)
_READ_ONLY = "it is read-only: a standby, or a server that is being taken over from"
_TOO_MANY = "the server has no connection left: raise its max_connections, or have fewer processes and threads"
_PREPARED = "the server has lost a prepared statement; behind a pooler, end the URL with ?prepare_threshold=none"
_TABLES = "its tables are not those of this version; if they were dropped, restored or upgraded, restart this process"
_PRIVILEGE = "its role lacks a privilege: GRANT it CREATE and USAGE on the schema, and ALL on the tables in it"
_LOGIN = Trouble("the server refuses the login", Session.LOST, is_setting=True)
_ENCODING = Trouble("its encoding can't hold all text", is_setting=True, is_private=True)

SQLSTATES: Mapping[str, Trouble] = {
    # By class. https://www.postgresql.org/docs/current/errcodes-appendix.html
    "08": _CUT,
    "28": _LOGIN,
    "40": _BUSY,
    "53": _RESOURCES,
    "55": _BUSY,
    "57": _ENDED,
    "58": Trouble("the server's system has failed it", Session.LOST),
    "XX": Trouble("the server reports a fault of its own", Session.LOST),
    # One by one, where they say more than their class.
    "0A000": Trouble("the tables were changed meanwhile", Session.REJECTED, passes=True),
    "22P05": _ENCODING,
    "25006": Trouble(_READ_ONLY, Session.REJECTED, passes=True),
    "25P02": Trouble("an earlier statement of the transaction had failed", passes=True),
    "25P03": replace(_ENDED, words="the server ended a transaction that had idled for too long"),
    "25P04": replace(_ENDED, words="the server ended a transaction that had taken too long"),
    "26000": Trouble(_PREPARED, Session.REJECTED, passes=True),
    "3D000": Trouble("there is no such database", Session.LOST, is_setting=True),
    "3F000": Trouble("there is no such schema", is_setting=True),
    "42501": Trouble(_PRIVILEGE, is_setting=True),
    "42703": Trouble(_TABLES),
    "42P01": Trouble(_TABLES, Session.REJECTED),  # what is there now may be another store
    "42P05": Trouble(_PREPARED, Session.REJECTED, passes=True),
    "53100": Trouble("the server's disk is full"),
    "53300": Trouble(_TOO_MANY, passes=True),
    "55000": Trouble("it is not ready for that", passes=True),
    "57014": Trouble("a statement was cancelled, by an administrator or for its time", passes=True),
    "57P04": replace(_ENDED, words="the database was dropped", passes=False),
}
"""By SQLSTATE, or by its class. What is in neither is a fault of ours, or of the data."""


def of_sqlstate(state: str | None, message: str | None) -> Trouble | None:
    """Tell what PostgreSQL says with an SQLSTATE and its primary message; None when it says nothing of the database."""
    found = SQLSTATES.get(state or "") or SQLSTATES.get((state or "")[:2])
    if found is None or found.is_private or not message:
        return found
    return replace(found, words=f"{found.words} ({first_line(message)})")


# PostgreSQL: why there is no connection --------------------------------------------------------------------------

_REFUSALS: tuple[tuple[str, Trouble], ...] = (
    (r"Connection refused|failed: No such file or directory", Trouble("nobody listens there", passes=True)),
    (r"timeout expired|timed out|no time left", Trouble("no server answers there", passes=True)),
    (
        r"starting up|shutting down|in recovery mode|accept(ing)? connections",
        Trouble("it takes no connections yet, or no more", passes=True),
    ),
    (r"too many clients|too many connections|connection slots|connection limit", Trouble(_TOO_MANY, passes=True)),
    (r"session is read-only|hot standby mode", Trouble(_READ_ONLY, passes=True)),
    (r"closed the connection|closed unexpectedly|[Cc]onnection reset|SYSCALL|[Nn]etwork is|No route to host", _CUT),
    (r"Temporary failure in name resolution", Trouble("its host can't be looked up", passes=True)),
    (
        r"resolve host|translate host name|Name or service not known|nodename nor servname|No address associated",
        Trouble("its host is not known: check the name, or wait until there is one", passes=True),
    ),
    (r"no password supplied", Trouble("it wants a password, and the URL has none", is_setting=True)),
    (r"authentication failed", Trouble("the password is wrong, or the user is not known", is_setting=True)),
    (r'role ".*" does not exist', Trouble("the user is not known", is_setting=True)),
    (r'database ".*" does not exist', Trouble("there is no such database", is_setting=True)),
    (r"pg_hba\.conf", Trouble("the server does not let this user in from here", is_setting=True)),
    (r"permission denied for database", Trouble("its role lacks a privilege: GRANT CONNECT", is_setting=True)),
    (r"SSL|TLS|certificate", Trouble("TLS fails", is_setting=True)),
    (
        r"\binvalid\b|could not match|bad value for|unrecognized configuration parameter",
        Trouble("the URL is wrong", is_setting=True),
    ),
)
"""What libpq's line has in it, the first that fits."""


def of_refusal(text: str) -> Trouble:
    """Tell why a server was not connected to, by what libpq or psycopg said."""
    line = first_line(text)
    found = next((one for pattern, one in _REFUSALS if re.search(pattern, line)), None)
    if found is None:
        return Trouble(f"no connection ({line})", Session.LOST)
    return replace(found, words=f"{found.words} ({line})", session=Session.LOST)


def of_refusals(texts: list[str]) -> Trouble:
    """Tell why none of several servers was connected to: waiting helps when it helps for one of them."""
    each = [of_refusal(text) for text in texts]
    return Trouble(
        "; ".join(dict.fromkeys(one.words for one in each)),
        Session.LOST,
        passes=any(one.passes for one in each),
        is_setting=all(one.is_setting for one in each),
    )


def first_line(text: str) -> str:
    """Return the first line of what libpq said: the others are hints. The line never has the password in it."""
    line = text.strip().partition("\n")[0].strip()
    return re.sub(r"^connection (failed|is bad): ", "", re.sub(r"\s+", " ", line))


# SQLite ----------------------------------------------------------------------------------------------------------

_SQLITE: Mapping[str, Trouble] = {
    "SQLITE_BUSY": Trouble("another program holds a lock on the file", passes=True),
    "SQLITE_LOCKED": Trouble("another program holds a lock on the file", passes=True),
    "SQLITE_PROTOCOL": Trouble("another program holds a lock on the file", passes=True),
    "SQLITE_SCHEMA": Trouble("the tables were changed meanwhile", passes=True),
    "SQLITE_NOMEM": Trouble("there is no memory left", passes=True),
    "SQLITE_FULL": Trouble("the disk is full; make room, a restart is not needed"),
    "SQLITE_IOERR": Trouble("the disk fails, or is full"),
    "SQLITE_READONLY": Trouble("the file, its folder or its file system is read-only"),
    "SQLITE_PERM": Trouble("this user may not use the file"),
    "SQLITE_AUTH": Trouble("this user may not use the file"),
    "SQLITE_CANTOPEN": Trouble("the file can't be opened: its folder must be there, and this user must own it"),
    "SQLITE_NOLFS": Trouble("the file system takes no file of that size"),
    "SQLITE_CORRUPT": Trouble("the file is damaged: stop the app, and bring back a copy"),
    "SQLITE_NOTADB": Trouble("the file is no SQLite database", is_setting=True),
}
"""By SQLite's primary result code."""


def of_sqlite(error: BaseException) -> Trouble:
    """Tell what an error of SQLite's says; its own messages hold no values."""
    name = str(getattr(error, "sqlite_errorname", ""))
    if not name:
        return Trouble(type(error).__name__, passes=True)
    found = _SQLITE.get("_".join(name.split("_")[:2])) or Trouble("SQLite refuses")
    if name == "SQLITE_ERROR" and "no such" in str(error):
        found = Trouble(_TABLES)
    return replace(found, words=f"{found.words} ({name}: {error})")


# Any -------------------------------------------------------------------------------------------------------------


def of_driver(error: BaseException, driver: Any, *, is_sqlite: bool) -> Trouble | None:
    """Tell what a driver's error says of the database.

    :param driver: the driver's module.
    :returns: None for our faults, and the data's.
    """
    # A plain DatabaseError is SQLite's word for a damaged file.
    is_its_own = isinstance(error, (driver.OperationalError, driver.InterfaceError, driver.InternalError))
    is_its_own = is_its_own or type(error) is driver.DatabaseError
    if is_sqlite:
        return of_sqlite(error) if is_its_own else None
    if not isinstance(error, driver.Error):
        return None
    cause: Any = error
    if (reasons := getattr(cause, "reasons", None)) is not None:
        return of_refusals(reasons)
    found = of_sqlstate(cause.sqlstate, cause.diag.message_primary)
    if found is None and is_its_own:
        found = Trouble(f"{type(cause).__name__}: {first_line(str(cause))}", passes=True)
    return found
