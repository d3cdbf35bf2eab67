"""The deployment's id, kept in the instance folder as well: a database that comes up empty is noticed.

A volume that was not mounted, or another server's database, looks like a fresh start: handoffs that are open would be
forgotten, and HubSpot's webhooks about them thrown away. Knows files, and nothing of databases.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


class Deployment:
    """Which store this app was served from last, in one small file that only its user can read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def why_not(self, deployment_id: str) -> str | None:
        """Why a store is not the one that was here before; None when it is, or is the first one.

        The first one is remembered. Where that can't be written, as in a container whose files are read-only, nothing
        is ever noticed.
        """
        before = self._read()
        if before is None:
            self.remember(deployment_id)
        if before in (None, deployment_id):
            return None
        return (
            f"this app was served from the database {before} before, and this one is {deployment_id}: check "
            "HUBSPOT_HITL_DATABASE_URL and that its disk is mounted; if this one is right, run "
            "'flask hubspot-hitl adopt'"
        )

    def remember(self, deployment_id: str) -> None:
        """This store is the right one from now on."""
        new = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "w", encoding="ascii") as text:
                text.write(f"{deployment_id}\n")
            new.replace(self.path)
        except OSError as error:
            logger.info(
                "Which database this is can't be kept in %s (%s): if another one comes up one day, nobody is told",
                self.path, error.strerror,
            )  # fmt: skip

    def _read(self) -> str | None:
        try:
            return self.path.read_text(encoding="ascii").strip() or None
        except (OSError, UnicodeDecodeError):
            return None
