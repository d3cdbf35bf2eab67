"""Name the process that holds a lane's lease, and tell whether it still runs. Imports nothing of ours."""

from __future__ import annotations

import os
import socket
import uuid


def new_owner() -> str:
    """Name this process: its host and namespace, its id, its start, and some random digits for each call."""
    pid = os.getpid()
    return f"{_here()}:{pid}:{started_at(pid)}:{uuid.uuid4().hex[:8]}"


def _here() -> str:
    """Name the place in which process ids are unique: containers of one host name number theirs apart."""
    try:
        return f"{socket.gethostname()}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return socket.gethostname()


def started_at(pid: int) -> str:
    """Return a process's start in clock ticks since boot, or "" where the system does not say."""
    facts = _facts(pid)
    return facts[19] if len(facts) > 19 else ""


def _facts(pid: int) -> list[str]:
    """Return the fields of ``/proc/<pid>/stat`` from the state on; [] on systems without it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def is_dead(owner: str) -> bool:
    """Return True when the owner was a process of this machine, and of this container, that no longer runs."""
    host, _, rest = owner.partition(":")
    pid, started = [*rest.split(":"), "", ""][:2]
    if host != _here() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    if _facts(int(pid))[:1] == ["Z"]:
        return True  # killed, and its parent has not noticed yet: in a container without an init perhaps never
    return bool(started) and started_at(int(pid)) != started
