"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any


def facts(folder: Path) -> dict[str, Any]:
    """Cores, versions, and how long the disk takes to keep 4 kB for certain, in ms."""
    facts: dict[str, Any] = {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    facts["python"] = platform.python_version()
    facts["sqlite"] = sqlite3.sqlite_version
    facts |= {name: importlib.metadata.version(name) for name in ("flask", "sqlalchemy", "gunicorn", "psycopg")}
    return facts | {"fdatasync": f"{_sync_ms(folder):.2f} ms"}


def _sync_ms(folder: Path) -> float:
    took = []
    file = os.open(folder / "sync", os.O_WRONLY | os.O_CREAT)
    for number in range(200):
        began = time.perf_counter()
        os.pwrite(file, bytes(4096), number * 4096)
        os.fdatasync(file)
        took.append((time.perf_counter() - began) * 1000)
    os.close(file)
    return statistics.median(took)
