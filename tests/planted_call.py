"""A test that leaves a wrong call behind; ``test_traffic.py`` runs it by itself, and its name keeps it out else."""

from __future__ import annotations

import json
import os
from pathlib import Path

from flask_hubspot_hitl.simulator.engine.traffic import FOLDER


def test_planted() -> None:
    call = {"method": "GET", "path": "/conversations/v3/conversations/inboxes", "query": {}, "status": 200}
    call |= {"request_headers": {"Authorization": "Bearer x"}, "request_body": None, "response_body": {"results": 1}}
    (Path(os.environ[FOLDER]) / "planted.jsonl").write_text(json.dumps(call) + "\n", encoding="utf-8")
