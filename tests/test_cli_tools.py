"""``flask hubspot-hitl sign`` and ``simulate``: what they print, and what they must never print."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner, Result
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.cli import group
from flask_hubspot_hitl.hubspot import signature
from flask_hubspot_hitl.testing import Server, payloads

SECRET = "sim-client-secret-0001"
NOW = 1_790_000_000_000


@pytest.fixture
def hitl_settings(hitl_settings: dict[str, str]) -> dict[str, str]:
    return hitl_settings | {"HUBSPOT_HITL_SIGNATURE_VERSIONS": "v3,v1", "HUBSPOT_HITL_URL_PREFIX": "/the"}


@pytest.fixture
def hitl_app_factory() -> Callable[[dict[str, str]], Flask]:
    def create_app(config: dict[str, str]) -> Flask:
        app = Flask("host")
        app.config.from_mapping(config)
        HubSpotHITL(app)
        return app

    return create_app


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """A file as HubSpot would send it."""
    file = tmp_path / "it's a body.json"
    file.write_text(json.dumps([payloads.status_event("CLOSED", at=NOW)]) + "\n", encoding="utf-8")
    return file


def sign(app: Flask, *arguments: str, stdin: str | bytes | None = None) -> Result:
    """``flask hubspot-hitl sign``; whatever it prints, it is not the secret."""
    result = app.test_cli_runner().invoke(args=["hubspot-hitl", "sign", *arguments], input=stdin)
    assert SECRET not in result.output
    assert SECRET not in result.stderr
    return result


def send(url: str, body: bytes, headers: dict[str, str]) -> int:
    """Post it."""
    with requests.Session() as http:
        http.trust_env = False
        return http.post(url, data=body, headers={**headers, "Connection": "close"}, timeout=30).status_code


@pytest.mark.parametrize("version", ["v3", "v1"])
def test_what_is_signed_is_accepted(hitl_app: Flask, hitl_server: Server, body: Path, version: str) -> None:
    url = f"{hitl_server.url}/the/webhook"
    for result in (
        sign(hitl_app, str(body), "--version", version),
        sign(hitl_app, "--version", version, stdin=body.read_bytes()),
        sign(hitl_app, "-", "--version", version, stdin=body.read_bytes()),
    ):
        assert result.exit_code == 0, result.output
        assert result.stderr == ""
        headers = dict(line.split(": ", 1) for line in result.stdout.splitlines())
        assert headers.pop("Content-Type") == "application/json"
        assert all(name.startswith("X-HubSpot-") for name in headers)
        assert send(url, body.read_bytes(), headers) == 204
        assert send(url, body.read_bytes().strip(), headers) == 401, "another body, were it but a line feed"
    as_json = json.loads(sign(hitl_app, str(body), "--version", version, "--json").stdout)
    assert send(url, body.read_bytes(), as_json) == 204


def test_url_and_timestamp_can_be_chosen(hitl_app: Flask, hitl_server: Server, body: Path) -> None:
    url = f"{hitl_server.url}/the/webhook?a=%40b&c=1"
    headers = json.loads(sign(hitl_app, str(body), "--json", "--url", url).stdout)
    assert send(url, body.read_bytes(), headers) == 204
    assert send(f"{hitl_server.url}/the/webhook", body.read_bytes(), headers) == 401
    old = json.loads(sign(hitl_app, str(body), "--json", "--timestamp", str(NOW)).stdout)
    assert old["X-HubSpot-Request-Timestamp"] == str(NOW)
    wanted = signature.headers(
        "v3", secret=SECRET, uri=f"{hitl_server.url}/the/webhook", body=body.read_bytes(), timestamp=NOW
    )
    assert old == {"Content-Type": "application/json", **wanted}


def run(line: str) -> str:
    """Run a line as a shell would; curl's output."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, timeout=100, env=own)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_command_runs_as_pasted(hitl_app: Flask, hitl_server: Server, body: Path) -> None:
    from_file = sign(hitl_app, str(body), "--curl").stdout
    assert shlex.split(from_file)[-3:] == ["--data-binary", f"@{body}", f"{hitl_server.url}/the/webhook"]
    assert run(from_file).startswith("HTTP/1.1 204 ")
    spelled_out = sign(hitl_app, "--curl", stdin='[ "it\'s", "$(false)" ]\n').stdout
    assert run(spelled_out).startswith("HTTP/1.1 204 ")
    elsewhere = sign(hitl_app, str(body), "--curl", "--url", "https://bot.example.com/hubspot/webhook").stdout
    assert shlex.split(elsewhere)[-1] == "https://bot.example.com/hubspot/webhook"


def test_what_is_signed_for_a_public_url_can_be_sent_to_this_machine(
    hitl_app: Flask, hitl_server: Server, body: Path
) -> None:
    to = hitl_server.url.replace("127.0.0.1", "localhost") + "/the/webhook"
    line = sign(hitl_app, str(body), "--curl", "--to", to).stdout
    assert shlex.split(line)[-1] == to
    assert run(line).startswith("HTTP/1.1 204 ")


def test_sign_says_what_will_be_refused(hitl_app: Flask, body: Path, tmp_path: Path) -> None:
    assert "v1 for arrays only" in sign(hitl_app, "--version", "v1", stdin="{}").stderr
    for url in ("/hubspot/webhook", "https://", "https://bot.test/\udcff"):
        assert "a whole address" in sign(hitl_app, str(body), "--url", url).stderr
    assert sign(hitl_app, str(tmp_path / "missing.json")).exit_code == 2
    for raw in (b"\xff\x00", b"@/etc/passwd"):
        result = sign(hitl_app, "--curl", stdin=raw)
        assert result.exit_code == 1
        assert "put it into a file" in result.stderr


def test_sign_says_that_v1_is_off(hitl_settings: dict[str, str], tmp_path: Path) -> None:
    app = Flask("other")
    app.config.from_mapping(hitl_settings | {"HUBSPOT_HITL_SIGNATURE_VERSIONS": "v3"})
    HubSpotHITL(app)
    assert "refuses v1" in sign(app, "--version", "v1", stdin="[]").stderr
    app.extensions["hubspot_hitl"].close(timeout=1)


def test_an_app_without_the_extension_is_told_so() -> None:
    app = Flask("bare")
    app.cli.add_command(group)
    for command in (["sign", "-"], ["replay", "-"]):
        result = app.test_cli_runner().invoke(args=["hubspot-hitl", *command], input="[]")
        assert result.exit_code == 1
        assert "HubSpotHITL is not on this app" in result.stderr


def test_simulate_has_the_options_of_the_simulator(tmp_path: Path) -> None:
    shown = CliRunner().invoke(group, ["simulate", "--help"])
    assert shown.exit_code == 0
    assert "usage: flask hubspot-hitl simulate " in shown.stdout
    assert "--record FILE" in shown.stdout
    nowhere = CliRunner().invoke(group, ["simulate", "--port", "0", "--record", str(tmp_path / "no" / "such.jsonl")])
    assert nowhere.exit_code == 2
    assert "No such file or directory" in nowhere.stderr


def test_simulate_needs_no_app(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flask", "hubspot-hitl", "simulate", "--port", "0", "--stop-with-stdin"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    served = subprocess.run(
        [*command, "--record", "story.jsonl"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env=own,
        input="",
    )
    assert served.returncode == 0, served.stderr
    assert served.stdout.startswith("HubSpot stand-in: http://127.0.0.1:")
    assert (tmp_path / "story.jsonl").read_text(encoding="utf-8") == ""
