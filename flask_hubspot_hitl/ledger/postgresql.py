"""Connect to PostgreSQL, and give up waiting: a server that was stopped or cut off never answers.

Socket time-outs don't help: of a server that is stopped, the system still acknowledges what it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from psycopg import sql

from ..errors import LedgerUnavailable
from .patience import LONGEST, remaining
from .trouble import Trouble, first_line

# A host that is cut off sends no goodbye. Without these its threads would wait for a quarter of an hour, and the
# server would keep its row locks for two.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 4000}
SETTINGS = {
    "lock_timeout": int(LONGEST * 1000),
    "idle_in_transaction_session_timeout": 10_000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 2,
    "tcp_user_timeout": 4000,
}
"""Settings of each session, in milliseconds. ``idle_in_transaction_session_timeout`` frees the rows of a process that
was stopped or cut off within a transaction; a machine that is merely busy may keep one waiting for some seconds."""
_LEAST_CONNECT_SECONDS = 2  # psycopg takes less for that
ADDRESS = ("host", "port")
"""What of a URL's query SQLAlchemy is not given: it refuses some of what libpq takes, and the other way round."""
_HOST_AND_PORT = re.compile(r"([A-Za-z0-9.-]+):([0-9]+)")  # SQLAlchemy's ?host=one:5432&host=two:5433

_Result = TypeVar("_Result")
_Server = dict[str, str]


class ImpatientConnection(psycopg.Connection[Any]):
    """Wait for the server's answers while there is patience, then close the connection."""

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **kwargs: Any) -> _Result:
        """Wait for ``gen``; see ``psycopg.Connection.wait``, which resumes it with each answer, and every 0.1 s."""
        return super().wait(self._while_patient(gen), *args, **kwargs)

    def _while_patient(self, gen: Generator[Any, Any, _Result]) -> Generator[Any, Any, _Result]:
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and not remaining():
                    self.close()
                    raise psycopg.OperationalError("the server does not answer")
                wanted = gen.send(ready)
        except StopIteration as end:
            result: _Result = end.value
            return result


class Unreachable(psycopg.OperationalError):
    """Say that none of the servers that were tried took the connection; ``reasons`` has what libpq said of each."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = list(reasons)


class Connector:
    """Connect while there is patience, to one of the servers in turn; the one that took us last comes first.

    libpq would begin with the first each time, and wait for it when its host is gone.
    """

    def __init__(self) -> None:
        self._last: _Server | None = None
        self._store: tuple[sql.Composed, str] | None = None

    def expect(self, table: str, schema: str | None, deployment_id: str) -> None:
        """Take only connections to one store from now on, whose id is in that table."""
        name = sql.Identifier(table) if schema is None else sql.Identifier(schema, table)
        query = sql.SQL("SELECT value FROM {} WHERE name = 'deployment_id'").format(name)
        self._store = (query, deployment_id)

    def on_do_connect(self, _dialect: Any, _record: Any, args: Any, parameters: dict[str, Any]) -> ImpatientConnection:
        """Handle SQLAlchemy's ``do_connect`` event.

        :raises Unreachable: when no server takes us in time.
        :raises Misconfigured: when the database is not one that can hold what we store.
        :raises LedgerUnavailable: when another store is there now, or none.
        """
        servers = servers_of(parameters)
        if len(servers) > 1:
            parameters = {"target_session_attrs": "read-write", **parameters}  # a standby is of no use
        servers.sort(key=lambda one: one != self._last)
        reasons = []
        for number, server in enumerate(servers):
            try:
                connection = _connect(*args, **{**parameters, **server}, among=len(servers) - number)
            except psycopg.Error as error:
                reason, host = first_line(str(error)), server.get("host", "")
                reasons.append(reason if host in reason else f"{host}: {reason}")
                continue
            self._last = server
            try:
                _must_hold_all_text(connection)
                self._must_be_ours(connection)
            except BaseException:
                connection.close()
                raise
            return connection
        raise Unreachable(reasons)

    def _must_be_ours(self, connection: ImpatientConnection) -> None:
        """Whoever is sent to another store by a name that was given away would accept into it what nobody looks for."""
        if self._store is None:
            return
        query, deployment_id = self._store
        try:
            found = connection.execute(query, prepare=False).fetchone()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
            found = None
        connection.rollback()
        if found is None or found[0] != deployment_id:
            what = "its tables are gone" if found is None else "another store is there now"
            raise LedgerUnavailable(
                f"the database can't be used: {what}; bring the old one back, or run 'flask hubspot-hitl adopt' and "
                "restart this process"
            )


def servers_of(parameters: Mapping[str, Any]) -> list[_Server]:
    """Return what differs between the servers that libpq's parameters name; one of nothing where they name none."""
    lists = {name: str(parameters[name]).split(",") for name in ("host", "hostaddr", "port") if parameters.get(name)}
    count = max(map(len, lists.values()), default=1)
    for name, values in lists.items():
        if len(values) == 1:
            lists[name] = values * count
    if any(len(values) != count for values in lists.values()):
        return [{}]  # libpq will say so
    return [{name: values[number] for name, values in lists.items()} for number in range(count)]


def _connect(*args: Any, among: int, **parameters: Any) -> ImpatientConnection:
    left = remaining()
    if left < _LEAST_CONNECT_SECONDS / 2:
        raise psycopg.OperationalError("there is no time left to connect to the server")
    seconds = max(_LEAST_CONNECT_SECONDS, int(min(left, LONGEST) / among))
    return ImpatientConnection.connect(*args, **{"connect_timeout": seconds, **parameters})


def _must_hold_all_text(connection: ImpatientConnection) -> None:
    """Refuse an encoding that can't hold all text: people write in any script, and their messages would be refused."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding in (None, "UTF8"):
        return
    name = connection.info.dbname
    raise Trouble(
        f'the database "{name}" has the encoding {encoding}, which can\'t hold all text; make another and name that: '
        f"CREATE DATABASE \"{name}_utf8\" TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C'",
        is_setting=True,
    ).error()


def options_of(url: sa.URL, servers: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return how to connect, to one of ``servers``; what the URL says itself comes last and holds.

    ``prepare_threshold=none`` in it keeps psycopg from preparing statements, which some poolers need.
    """
    given = url.normalized_query
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    options: dict[str, Any] = {name: value for name, value in _KEEPALIVE.items() if name not in given}
    options["options"] = " ".join([settings, *given.get("options", ())])
    options["client_encoding"] = "utf8"  # whatever PGCLIENTENCODING says
    options |= _address(given, servers)
    for threshold in given.get("prepare_threshold", ()):
        options["prepare_threshold"] = int(threshold) if threshold.isdigit() else None
    return options


def _address(given: Mapping[str, Sequence[str]], servers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Host and port as libpq takes them: those in the URL's query hold, each for itself; see :data:`ADDRESS`."""
    hosts, ports = [host for host, _ in servers], [port for _, port in servers]
    if "host" in given:
        named = [_HOST_AND_PORT.fullmatch(one) or (one, one, "") for one in ",".join(given["host"]).split(",")]
        hosts = [one[1] for one in named]
        if any(one[2] for one in named):
            ports = [one[2] for one in named]
    if "port" in given:
        ports = ",".join(given["port"]).split(",")
    return {name: ",".join(values) for name, values in (("host", hosts), ("port", ports)) if any(values)}
