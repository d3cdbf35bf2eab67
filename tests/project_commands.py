"""Apps with settings of a project app, and the commands of ``flask hubspot-hitl project`` run on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import Result
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL

from .helpers import state_of

Json = dict[str, Any]
URL = "https://bot.example.test"
APP = "src/app/app-hsmeta.json"
WEBHOOKS = "src/app/webhooks/webhooks-hsmeta.json"


@contextmanager
def bot(folder: Path, **settings: str) -> Iterator[Flask]:
    """An app that has a database of its own in ``folder``."""
    app = Flask("bot", instance_path=str(folder / "instance"))
    config = {"client_secret": "a" * 32, "public_url": URL, "dispatcher": "external", **settings}
    app.config.from_mapping({f"HUBSPOT_HITL_{key.upper()}": value for key, value in config.items()})
    HubSpotHITL(app)
    try:
        yield app
    finally:
        state_of(app).close(timeout=20)


def call(app: Flask, command: str, *arguments: object, ok: bool = True) -> Result:
    """``flask hubspot-hitl project …``."""
    words = ["hubspot-hitl", "project", command, *map(str, arguments)]
    result = app.test_cli_runner().invoke(args=words)
    assert (result.exit_code == 0) == ok, result.output
    assert "Traceback" not in result.output
    return result


def checked(app: Flask, folder: Path, *more: str) -> list[Json]:
    """What ``check`` finds."""
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "project", "check", str(folder), "--json", *more])
    found: list[Json] = json.loads(result.stdout)["differences"]
    assert (result.exit_code != 0) == bool(found), result.output
    return found


def load(folder: Path, path: str) -> Any:
    """A file's content."""
    return json.loads((folder / path).read_text(encoding="utf-8"))


def save(folder: Path, path: str, value: Any) -> None:
    """Write a file: text as it is, bytes too, anything else as JSON."""
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    raw = value if isinstance(value, bytes) else (value if isinstance(value, str) else json.dumps(value)).encode()
    target.write_bytes(raw)
