"""Keeps every API call served in a file, beyond resets and the end of the process.

For those who hold the stand-in against HubSpot's own documents, as this project's tests do: each process that finds the
environment variable ``HUBSPOT_STAND_IN_TRAFFIC`` writes a file of its own into that folder, one JSON object a line.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from ..model.world import JSON

FOLDER = "HUBSPOT_STAND_IN_TRAFFIC"


class Traffic:
    """The file, made with the first call; nothing is kept without a folder. Guarded by the simulation's lock."""

    def __init__(self, folder: str | None) -> None:
        self._path = Path(folder) / f"traffic-{os.getpid()}-{id(self)}.jsonl" if folder else None

    def keep(self, entry: JSON) -> None:
        """Write one entry of ``/_sim/requests``."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
