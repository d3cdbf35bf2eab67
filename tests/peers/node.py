"""HubSpot's and Botpress's Node libraries: installed once, and scripts that use them."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, NoReturn

import pytest

PEERS = Path(__file__).parent


def give_up(reason: str) -> NoReturn:
    """Skip; but where CI promises the tools, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def install(folder: Path) -> Path:
    """Install the libraries into a folder, unless they are there; test workers take turns."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if not npm or not node:
        give_up("node and npm are not installed")
    manifest = (PEERS / "package.json").read_text()
    installed = folder / "installed.json"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != manifest:
            (folder / "package.json").write_text(manifest)
            command = [str(npm), "install", "--ignore-scripts", "--no-audit", "--no-fund"]
            try:
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200, check=False)
            except subprocess.TimeoutExpired:
                give_up("npm install takes too long")
            if done.returncode != 0:
                give_up(f"npm install failed: {done.stderr[-300:]}")
            installed.write_text(manifest)
        for script in (*PEERS.glob("*.cjs"), PEERS / "parse_projects.mjs"):
            shutil.copy(script, folder)
    return folder


def run(folder: Path, script: str, given: Any) -> Any:
    """What a script prints when it is given this; both are JSON."""
    command = ["node", script]
    done = subprocess.run(
        command, cwd=folder, input=json.dumps(given), capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
