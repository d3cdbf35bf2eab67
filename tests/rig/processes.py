"""The processes under fire: a server, workers, how they are started and how they are killed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import requests

from ..helpers import own_port

ROOT = Path(__file__).parents[2]
FACTORY = "tests.rig.host:create_app"
WEB_PROCESSES, WEB_THREADS = 2, 8
DISPATCHER_THREADS = 4
"""In each process that dispatches."""


class Processes:
    """gunicorn, and with ``workers`` as many ``flask hubspot-hitl worker``, each in a process group of its own."""

    def __init__(
        self, settings: dict[str, str], folder: Path, *, workers: int, work_seconds: float, mutant: str | None
    ) -> None:
        self.port = own_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.witness = folder / "witness"
        self.log = folder / "server.log"
        self.at_once = (workers or WEB_PROCESSES) * DISPATCHER_THREADS
        self._env = {
            **os.environ,
            **settings,
            "HUBSPOT_HITL_PUBLIC_URL": self.url,
            "HUBSPOT_HITL_DISPATCHER": "external" if workers else "thread",
            "HUBSPOT_HITL_DISPATCHER_THREADS": str(DISPATCHER_THREADS),
            "RIG_WITNESS": str(self.witness),
            "RIG_WORK_SECONDS": str(work_seconds),
            "RIG_MUTANT": mutant or "",
        }
        server = f"-m gunicorn {FACTORY}() --worker-class gthread --workers {WEB_PROCESSES} --threads {WEB_THREADS}"
        self._commands = [f"{server} --bind 127.0.0.1:{self.port} --log-level warning --no-control-socket".split()]
        self._commands += [[*self._flask(), "worker"]] * workers
        self.groups = set(range(len(self._commands)))
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    @staticmethod
    def _flask() -> list[str]:
        return ["-m", "flask", "--app", FACTORY, "hubspot-hitl"]

    def start(self) -> None:
        """Start what does not run; see :meth:`wait`."""
        with self.log.open("ab") as log:
            for number in self.groups - self._running.keys():
                self._running[number] = subprocess.Popen(
                    [sys.executable, *self._commands[number]],
                    env=self._env,
                    cwd=ROOT,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def wait(self, seconds: float = 60.0) -> None:
        """Wait until the server answers."""
        ends = time.monotonic() + seconds
        while not self._answers():
            if time.monotonic() > ends:
                raise TimeoutError(f"the server did not start within {seconds} s; see {self.log}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/hubspot/healthz", timeout=5).status_code == 200
        return False

    def kill(self, groups: Iterable[int] | None = None) -> tuple[float, float]:
        """``kill -9`` for every process of these groups, by default of all; when it began, and when it was over."""
        doomed = [self._running.pop(number) for number in groups or list(self._running)]
        begun = time.time()
        for process in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in doomed:
            process.wait(60)
        return begun, time.time()

    def command(self, *words: str) -> None:
        """Run a ``flask hubspot-hitl`` command, with its options, to its end.

        :raises subprocess.CalledProcessError: when it fails.
        """
        with self.log.open("ab") as log:
            command = [sys.executable, *self._flask(), *words]
            subprocess.run(command, env=self._env, cwd=ROOT, stdout=log, stderr=log, check=True, timeout=240)
