"""PostgreSQL connections that give up waiting: a server that was stopped or cut off never answers.

Socket time-outs don't help: of a server that is stopped, the system still acknowledges what it is sent.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

from .patience import LONGEST, remaining

SETTINGS = {"lock_timeout": int(LONGEST * 1000), "idle_in_transaction_session_timeout": 5_000}
"""Milliseconds. The second frees the rows that one of us holds who was stopped, or cut off, in the middle."""
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
    options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
    return ImpatientConnection.connect(*args, **{**parameters, "connect_timeout": seconds, "options": options})
