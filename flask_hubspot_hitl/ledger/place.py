"""Find where an app's database is. Knows SQLAlchemy's URLs, and opens nothing."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy.engine import URL

from ..errors import ConfigError

_SQLITE = "sqlite:///"


def locate(configured: str | None, *, instance_path: str, app_name: str) -> str | URL:
    """Return the database's URL; without one ``configured``, a SQLite file in the instance folder named for the app.

    A SQLite path is taken as it is written, and from the instance folder when it is relative: the folder that a
    process happens to stand in is the server's, or cron's.

    :raises ConfigError: when a file stands where a relative path led to before, and none where it leads to now.
    """
    instance = Path(instance_path)
    if configured is None:
        return _sqlite(instance / "hubspot-hitl" / f"{file_name(app_name)}.sqlite3")
    if not configured.startswith(_SQLITE):
        return configured
    path = Path(configured.removeprefix(_SQLITE))
    found, before = instance / path, Path.cwd() / path
    if before.exists() and not found.exists():
        raise ConfigError(
            [
                f"HUBSPOT_HITL_DATABASE_URL names a file in the instance folder: there is no {found}, and there is "
                f"{before}, where earlier versions looked. Stop the app and move that file there, with what stands "
                f"beside it (-wal, -shm); or name it by its whole path: {_SQLITE}{before}"
            ]
        )
    return _sqlite(found)


def file_name(app_name: str) -> str:
    """Return the app's name as a file name."""
    return re.sub(r"\W+", "-", app_name) or "app"


def _sqlite(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))
