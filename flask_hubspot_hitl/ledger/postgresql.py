"""PostgreSQL connections that give up waiting: a server that was stopped or cut off never answers.

Socket time-outs don't help: of a server that is stopped, the system still acknowledges what it is sent.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa

from .patience import LONGEST, remaining

# A host that is cut off sends no goodbye. Without these its threads would wait for a quarter of an hour, and the
# server would keep its row locks for two.
_KEEPALIVE = {"keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 2, "tcp_user_timeout": 4000}
SETTINGS = {
    "lock_timeout": int(LONGEST * 1000),
    "idle_in_transaction_session_timeout": 5000,
    "tcp_keepalives_idle": 5,
    "tcp_keepalives_interval": 2,
    "tcp_keepalives_count": 2,
    "tcp_user_timeout": 4000,
}
"""Of each session. The second frees the rows that one of us holds who was stopped, or cut off, in the middle."""
_LEAST_CONNECT_SECONDS = 2  # psycopg takes less for that

_Result = TypeVar("_Result")


class ImpatientConnection(psycopg.Connection[Any]):
    """Waits for the server's answers while there is patience, then closes itself."""

    def wait(self, gen: Generator[Any, Any, _Result], *args: Any, **kwargs: Any) -> _Result:
        """See psycopg: it resumes ``gen`` whenever the server has said something, and every 0.1 s."""
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


def connect(*args: Any, **parameters: Any) -> ImpatientConnection:
    """Connect while there is patience; the parameters are psycopg's.

    :raises psycopg.OperationalError: when the server can't be reached in time.
    """
    left = remaining()
    if left < _LEAST_CONNECT_SECONDS / 2:
        raise psycopg.OperationalError("there is no time left to connect to the server")
    seconds = max(_LEAST_CONNECT_SECONDS, int(min(left, LONGEST)))
    return ImpatientConnection.connect(*args, **{"connect_timeout": seconds, **parameters})


def on_do_connect(_dialect: Any, _record: Any, args: Any, parameters: dict[str, Any]) -> ImpatientConnection:
    """SQLAlchemy's ``do_connect`` event."""
    return connect(*args, **parameters)


def options_of(url: sa.URL) -> dict[str, Any]:
    """How to connect; what the URL says itself comes last and holds.

    ``prepare_threshold=none`` in it keeps psycopg from preparing statements, which some poolers need.
    """
    given = url.normalized_query
    settings = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    options: dict[str, Any] = {name: value for name, value in _KEEPALIVE.items() if name not in given}
    options["options"] = " ".join([settings, *given.get("options", ())])
    for threshold in given.get("prepare_threshold", ()):
        options["prepare_threshold"] = int(threshold) if threshold.isdigit() else None
    return options
