"""The command line ``hubspotctl``, by what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

given = json.load(sys.stdin)
COMMAND = str(Path(sys.executable).with_name("hubspotctl"))


def say(*words: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "HUBSPOT_ACCESS_TOKEN": given["token"]}
    return subprocess.run([COMMAND, *words], env=environ, capture_output=True, text=True, check=True)


def ask(*words: str) -> Any:
    done = say("--format", "json", *words)
    return json.loads(done.stdout), re.search(r"--after (\S+)", done.stdout + done.stderr)


def pages(*words: str) -> list[str]:
    found, more = ask(*words)
    while more is not None:
        page, more = ask(*words, "--after", more[1])
        found += page
    return [one["id"] for one in found]


listed = pages("contact", "list")
contact, change = given["contact"], given["change"]
words = say("contact", "create", "--email", contact["email"], "--firstname", contact["firstname"])
(made,) = re.findall(r"Created contact: (\d+)", words.stdout + words.stderr)
say("contact", "update", made, "--phone", change["phone"])
(changed,), _ = ask("contact", "show", contact["email"])
found, _ = ask("contact", "search", contact["email"])
status = say("auth", "status")
seen = {
    "listed": listed,
    "made": made,
    "changed": changed,
    "searched": pages("contact", "search", "example.test"),
    "found": {one["id"]: one for one in found},
    "properties": [one["name"] for one in ask("contact", "properties")[0]],
    "account": int(re.findall(r"portal ID: (\d+)", status.stdout + status.stderr)[0]),
}
print(json.dumps(seen))
