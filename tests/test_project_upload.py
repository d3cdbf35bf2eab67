"""``project upload``: the stand-in takes what ``project init`` writes, and gives back the app's four words."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from flask import Flask
from flask.cli import ScriptInfo

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.cli import group

from .helpers import HubSpot
from .project_commands import APP, URL, bot, call, save

WORDS = ["APP_ID", "CLIENT_ID", "CLIENT_SECRET", "DEVELOPER_API_KEY"]


def test_the_stand_in_takes_the_folder(hubspot: HubSpot, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with bot(tmp_path / "app", api_base_url=hubspot.url) as app:
        said = json.loads(call(app, "init", folder, "--json").stdout)
        assert said["commands"] == [f"flask hubspot-hitl project upload {folder}"]
        lines = call(app, "upload").stdout.splitlines()
        words = dict(line.split("=", 1) for line in lines)
        assert list(words) == [f"HUBSPOT_HITL_{word}" for word in WORDS]
        assert all(words.values())
        again = json.loads(call(app, "upload", folder, "--json").stdout)
        assert [again[word.lower()] for word in WORDS] == list(words.values())
        assert (again["created"], again["skipped"]) == (False, [])
        assert {one["type"] for one in again["components"]} == {"app", "webhooks"}


def test_each_profile_is_an_app_of_its_own(hubspot: HubSpot, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    more = ("--profile", "b=https://b.example.test", "--account", "b=8")
    with bot(tmp_path / "app", api_base_url=hubspot.url) as app:
        call(app, "init", folder, "--profile", "a", "--account", "7", *more)
        mine = json.loads(call(app, "upload", folder, "--json").stdout)
        other = json.loads(call(app, "upload", folder, "--profile", "b", "--json").stdout)
        assert mine["app_id"] != other["app_id"]
        assert json.loads(call(app, "upload", folder, "--json").stdout)["app_id"] == mine["app_id"]


def test_what_the_stand_in_refuses_is_told(hubspot: HubSpot, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with bot(tmp_path / "app", api_base_url=hubspot.url) as app:
        call(app, "init", folder)
        save(folder, APP, (folder / APP).read_text().replace('"private"', '"secret"'))
        assert "distribution" in call(app, "upload", folder, ok=False).stderr


def test_what_the_stand_in_leaves_out_is_told(hubspot: HubSpot, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    with bot(tmp_path / "app", api_base_url=hubspot.url) as app:
        call(app, "init", folder)
        save(folder, "src/app/cards/deep/card-hsmeta.json", {"uid": "card", "type": "card", "config": {}})
        assert "Left out: src/app/cards/deep/card-hsmeta.json: " in call(app, "upload", folder).stderr


def test_the_words_go_into_a_file_of_settings(hubspot: HubSpot, tmp_path: Path) -> None:
    folder, env = tmp_path / "project", tmp_path / ".env"
    env.write_bytes(
        "FLASK_SECRET_KEY=é\r\nFLASK_HUBSPOT_HITL_APP_ID=1\n#FLASK_HUBSPOT_HITL_CLIENT_ID=2\nLAST=3".encode()
    )
    with bot(tmp_path / "app", api_base_url=hubspot.url) as app:
        call(app, "init", folder)
        words = dict(line.split("=", 1) for line in call(app, "upload").stdout.splitlines())
        assert call(app, "upload", "--env", env).stdout == f"{env} has the app's settings.\n"
        mine = {f"FLASK_{name}": value for name, value in words.items()}
        first, *rest = [f"{name}={value}" for name, value in mine.items()]
        kept = ["FLASK_SECRET_KEY=é\r", first, "#FLASK_HUBSPOT_HITL_CLIENT_ID=2", "LAST=3"]
        assert env.read_bytes().decode().split("\n") == [*kept, *rest, ""]
        assert call(app, "upload", "--env", env).stdout == f"{env} has the app's settings already.\n"
        new = tmp_path / "new.env"
        call(app, "upload", "--env", new)
        assert new.stat().st_mode & 0o077 == 0
        assert "can't be written" in call(app, "upload", "--env", tmp_path / "no" / ".env", ok=False).stderr


def test_only_project_commands_run_before_there_is_a_secret(tmp_path: Path) -> None:
    def create() -> Flask:
        app = Flask("bot", instance_path=str(tmp_path / "instance"))
        app.config["HUBSPOT_HITL_PUBLIC_URL"] = URL
        HubSpotHITL(app)
        return app

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(group, words, obj=ScriptInfo(create_app=create))
        return done.exit_code, done.output

    assert run("project", "init", str(tmp_path / "project"))[0] == 0
    assert run("project", "check") == (0, "All is well.\n")
    for words in ("setup", "status", "install-url"):
        code, said = run(words)
        assert code == 1
        assert "HUBSPOT_HITL_CLIENT_SECRET is missing" in said
