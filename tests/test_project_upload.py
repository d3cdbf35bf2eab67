"""``project upload``: the stand-in takes what ``project init`` writes, and gives back the app's four words."""

from __future__ import annotations

import json
from pathlib import Path

from .helpers import HubSpot
from .project_commands import APP, bot, call, save

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
