"""The database's address: what ``HUBSPOT_HITL_DATABASE_URL`` may be, and which servers it names.

Imports nothing of ours. An error's text holds no part of the URL: with one wrong character, any part is the password.
"""

from __future__ import annotations

import re

SCHEMES = ("sqlite:///", "postgresql://", "postgresql+psycopg://")
# As SQLAlchemy reads it, which knows no list of servers.
_POSTGRESQL = re.compile(r"(?P<start>[a-z+]+://(?:[^:/]*(?::[^@]*)?@)?)(?P<servers>[^/?]*)(?P<rest>.*)", re.DOTALL)
_SERVER = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|%2F[\w.%-]+|[A-Za-z0-9._-]*)(?::(?P<port>[0-9]{0,5}))?")


def split_servers(url: str) -> tuple[str, list[tuple[str, str]]]:
    """A PostgreSQL URL without its servers, and those: host and port of each, as libpq reads ``host1:5432,host2``.

    :param url: what SQLAlchemy takes, or the same with several servers.
    :returns: both; the list is empty where the URL names no server before its database, and a port may be ``""``.
    :raises ValueError: when it can't be read; the text completes a sentence.
    """
    found = _POSTGRESQL.fullmatch(url)
    if found is None:
        raise ValueError("is not a URL that can be read")
    servers = []
    for one in found["servers"].split(",") if found["servers"] else ():
        server = _SERVER.fullmatch(one)
        if server is None or not server["host"]:
            raise ValueError(
                "names a server that can't be read: it is host, host:port or [IPv6]:port, several with commas between "
                "them; in the password, write @ as %40, : as %3A and / as %2F"
            )
        servers.append((server["host"].strip("[]").replace("%2F", "/"), server["port"] or ""))
    return found["start"] + found["rest"], servers
