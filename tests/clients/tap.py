"""A Singer tap, as a loader runs it: find the streams, choose one, sync it from the state of the last time.

Both taps call their command ``tap-hubspot``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

COMMAND = Path(sys.executable).with_name("tap-hubspot")
given = json.load(sys.stdin)
FOLDER = Path(tempfile.mkdtemp())


def file(name: str, content: Any) -> str:
    path = FOLDER / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(path)


def tap(*arguments: str) -> str:
    command = [str(COMMAND), "--config", file("config", given["config"]), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return done.stdout


catalog = json.loads(tap("--discover"))
for stream in catalog["streams"]:
    for item in stream["metadata"]:
        if not item["breadcrumb"]:
            item["metadata"]["selected"] = stream["tap_stream_id"] == given["stream"]
state = ["--state", file("state", given["state"])] if given["state"] else []
messages = [json.loads(line) for line in tap(given["option"], file("catalog", catalog), *state).splitlines()]
seen = {
    "streams": [one["tap_stream_id"] for one in catalog["streams"]],
    "records": [one["record"]["id"] for one in messages if one["type"] == "RECORD"],
    "state": [one["value"] for one in messages if one["type"] == "STATE"][-1],
}
print(json.dumps(seen))
