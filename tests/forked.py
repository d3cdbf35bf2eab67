"""Several processes that run the same code at the same moment. They are forked from one, which has imported everything
once: that is most of what a process costs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

_PROGRAM = """
import os, sys, traceback
import flask, sqlalchemy, flask_hubspot_hitl.extension, flask_hubspot_hitl.runtime
if os.environ["HUBSPOT_HITL_DATABASE_URL"].startswith("postgresql"):
    import psycopg
code = compile(sys.stdin.read(int(sys.argv[1])), "forked", "exec")
ready_in, ready_out = os.pipe()
go_in, go_out = os.pipe()
def ready():
    os.write(ready_out, b"x")
    os.read(go_in, 1)
def tell(what):
    os.write(1, f"{what}\\n".encode())
count = int(sys.argv[2])
for _ in range(count):
    if os.fork() == 0:
        os.close(go_out)
        status = 1
        try:
            exec(code, {"ready": ready, "tell": tell, "arguments": sys.argv[3:]})
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
for _ in range(count):
    os.read(ready_in, 1)
tell("ready")
sys.stdin.readline()
os.close(go_out)
statuses = [os.wait()[1] for _ in range(count)]
sys.exit(any(statuses))
"""


class Forked:
    """``count`` processes that run ``code``; a context manager that leaves none behind.

    The code calls ``ready()``, which returns in all of them at once, then ``tell(result)``, which writes a line; it has
    ``arguments``. ``env`` is the environment, with the settings of an app.
    """

    def __init__(self, code: str, *arguments: str, count: int, env: Mapping[str, str]) -> None:
        command = [sys.executable, "-c", _PROGRAM, str(len(code)), str(count), *arguments]
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(code)
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"

    def go(self, timeout: float = 60) -> list[str]:
        """Let them go on; what they told."""
        told, _ = self._process.communicate("go\n", timeout=timeout)
        assert self._process.returncode == 0
        return told.splitlines()

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()
