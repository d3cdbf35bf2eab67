"""Tell what this process is: forked since something was made, or one in which threads get no time.

Python tells of its own forks (``os.register_at_fork``). uWSGI forks in C and tells nobody: there, code that holds
locks, threads or connections finds out by comparing process ids. Imports nothing of ours.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import weakref
from collections.abc import Callable
from types import ModuleType

dice = random.SystemRandom()
"""Chance without a state: the same in no two processes, and apart from the module's, which a host may have seeded."""


class Process:
    """Remember the process that something was made in, and have it begin anew in another one.

    :param begin_anew: a method that replaces locks, threads and connections. It must close nothing that is the
        parent's, and is not called twice in a process. It is held weakly.
    :param at_once: also call it right after a fork that Python tells of. By default it is called when the child first
        comes to :meth:`check`: gevent may replace locks in between.
    """

    def __init__(self, begin_anew: Callable[[], None], *, at_once: bool = False) -> None:
        self._begin_anew = weakref.WeakMethod(begin_anew)
        self._pid = os.getpid()
        self._locks: dict[int, threading.Lock] = {}  # by process: the parent's may be held for ever
        if at_once:
            _at_once.add(self)

    def is_another(self) -> bool:
        """Return True when this is another process, and nothing was begun anew yet."""
        return os.getpid() != self._pid

    def check(self) -> None:
        """Begin anew if this is another process; every door to what is kept calls this first."""
        pid = os.getpid()
        if pid == self._pid:
            return
        with self._locks.setdefault(pid, threading.Lock()):
            begin_anew = self._begin_anew()
            if pid != self._pid and begin_anew is not None:
                begin_anew()
                self._pid = pid


_at_once: weakref.WeakSet[Process] = weakref.WeakSet()


def _after_fork() -> None:
    for one in list(_at_once):
        one.check()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def uwsgi() -> ModuleType | None:
    """Return uWSGI's module, which exists only in its processes; None elsewhere."""
    found = sys.modules.get("uwsgi")
    return found if hasattr(found, "opt") else None


def gives_threads_time() -> bool:
    """Return True when threads run here between two requests.

    uWSGI before 2.0.27 has no threads unless it is told so, and stops each of ours where it stands when a request ends.
    """
    server = uwsgi()
    if server is None:
        return True
    has_threads = getattr(server, "has_threads", None)
    return bool({"enable-threads", "threads"} & set(server.opt) if has_threads is None else has_threads)
