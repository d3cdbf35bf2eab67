"""``flask hubspot-hitl project init|check|upload``: what is written, what is refused, and what is said."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_hubspot_hitl.hubspot import project
from flask_hubspot_hitl.hubspot.scopes import AppKind
from flask_hubspot_hitl.portals import installations
from flask_hubspot_hitl.portals.project import META, remembered, wanted_of

from .helpers import state_of
from .peers.http_peer import HttpPeer, Reply, Request
from .project_commands import APP, URL, WEBHOOKS, Json, bot, call, checked, load, save

FILES = {"hsproject.json", APP, WEBHOOKS}


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    with bot(tmp_path / "app") as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the project shall be."""
    return tmp_path / "project"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Writing -------------------------------------------------------------------------------------------------


def test_run_again_it_changes_nothing(app: Flask, folder: Path) -> None:
    assert "Written." in call(app, "init", folder).stdout
    before = contents(folder)
    assert before.keys() == FILES
    assert "Nothing to change." in call(app, "init", folder).stdout
    assert contents(folder) == before
    assert call(app, "check", folder).stdout == "All is well.\n"


def test_its_addresses_are_the_ones_that_the_app_serves(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    settings = state_of(app).settings
    assert load(folder, APP)["config"]["auth"]["redirectUrls"] == [settings.oauth_url("callback")]
    assert load(folder, WEBHOOKS)["config"]["settings"]["targetUrl"] == settings.webhook_urls()[0]


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        ({"AVAILABILITY": "hubspot"}, {"crm.objects.users.read"}),
        (
            {"AVAILABILITY": "hubspot", "INBOX_MEMBERS": "team:5"},
            {"crm.objects.users.read", "settings.users.teams.read"},
        ),
        ({"TICKETS": "1"}, {"tickets"}),
        ({"NOTES_IN": "both"}, {"tickets", "crm.objects.contacts.write"}),
        ({"CONTACT_POLICY": "create"}, {"crm.objects.contacts.write"}),
    ],
)
def test_what_is_switched_on_has_its_scopes_in_the_file(
    app: Flask, folder: Path, tmp_path: Path, settings: Json, more: set[str]
) -> None:
    call(app, "init", tmp_path / "plain")
    plain = load(tmp_path / "plain", APP)["config"]["auth"]["requiredScopes"]
    with bot(tmp_path / "other", **settings) as other:
        call(other, "init", folder)
        wanted = state_of(other).settings
    asked = load(folder, APP)["config"]["auth"]["requiredScopes"]
    assert set(asked) - set(plain) == more
    assert set(asked) == set(installations.wanted_scopes(wanted, AppKind.PROJECT)), "what an installation asks for"


def test_a_plan_writes_nothing(app: Flask, folder: Path) -> None:
    result = call(app, "init", folder, "--plan")
    assert "+++ b/src/app/app-hsmeta.json" in result.stdout
    assert "Nothing was written" in result.stdout
    assert not folder.exists()


def test_what_comes_next_is_told_in_order(app: Flask, folder: Path) -> None:
    said = json.loads(call(app, "init", folder, "--json").stdout)
    assert [one["path"] for one in said["files"]] == ["hsproject.json", APP, WEBHOOKS]
    assert {one["change"] for one in said["files"]} == {"made"}
    assert said["commands"] == [
        *("npm install -g @hubspot/cli", "hs account auth", f"cd {folder}"),
        *("hs project validate", "hs project upload"),
    ]
    names = ("CLIENT_ID", "CLIENT_SECRET", "APP_ID", "DEVELOPER_API_KEY")
    assert list(said["where"]) == [f"HUBSPOT_HITL_{name}" for name in names]


def test_the_folder_is_remembered(app: Flask, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Name the project's folder" in call(app, "check", ok=False).stderr
    monkeypatch.chdir(tmp_path)
    call(app, "init", "project")
    monkeypatch.chdir("/")
    assert call(app, "check").stdout == "All is well.\n"
    with state_of(app).ledger.read() as tx:
        assert tx.get_meta(META) == str(folder)
    with bot(tmp_path / "app", project_dir=str(tmp_path / "other")) as other:
        with state_of(other).ledger.read() as tx:
            assert remembered(tx, state_of(other).settings) == tmp_path / "other"
        assert "no project" in call(other, "check", "--json", ok=False).stdout


def theirs(folder: Path) -> dict[str, bytes]:
    """A project that somebody has made, with a card, a settings page, and an app that has more than ours."""
    app = """{
    "type" : "app", "uid":"acme",
    "config": {
        "name": "Acme", "description": "All of Acme.", "distribution": "marketplace", "logo": "/app/logo.svg",
        "auth": {"type": "oauth",
                 "redirectUrls": [ "https://acme.example/back" ],
                 "requiredScopes": ["tickets","oauth"],
                 "optionalScopes": ["files", "content" , "conversations.read"], "conditionallyRequiredScopes": []},
        "permittedUrls": {"fetch": ["https://acme.example"], "iframe": [], "img": []}
    } }"""
    files = {
        "hsproject.json": '{"name":"acme","srcDir":"src","platformVersion":"2027.03"}',
        "src/app/acme-hsmeta.json": app,
        "src/app/cards/card-hsmeta.json": '{"uid": "card",\t"type": "card", "config": {"name": "${free}"}}',
        "src/app/cards/Card.jsx": "export default () => <b>${text}</b>",
        "src/app/settings/settings-hsmeta.json": '{"uid":"page","type":"settings","config":{}}\n\n',
        "README.md": "Ours",
    }
    for path, text in files.items():
        save(folder, path, text)
    return contents(folder)


def test_a_person_keeps_what_is_theirs(app: Flask, folder: Path) -> None:
    before = theirs(folder)
    call(app, "init", folder, "--yes")
    after = contents(folder)
    assert {path for path in after if after[path] != before.get(path)} == {"src/app/acme-hsmeta.json", WEBHOOKS}
    text = before["src/app/acme-hsmeta.json"].decode()
    for old, new in (
        ('"https://acme.example/back" ', f'"https://acme.example/back", "{URL}/hubspot/oauth/callback" '),
        ('["files", "content" , "conversations.read"]', '["content"]'),
        ('["tickets","oauth"]', '["tickets","oauth",%s]'),
    ):
        assert old in text
        text = text.replace(old, new)
    scopes = wanted_of(state_of(app).settings).scopes
    added = ",".join(f'"{one}"' for one in scopes if one != "oauth")
    assert after["src/app/acme-hsmeta.json"].decode() == text % added
    assert load(folder, WEBHOOKS)["uid"] == "hubspot_hitl_webhooks"
    [extra, free] = sorted(checked(app, folder), key=lambda one: one["kind"], reverse=True)
    assert (extra["kind"], free["kind"]) == ("scope too many", "no profile")
    assert f"HUBSPOT_HITL_SCOPES={','.join(scopes)},tickets." in extra["fix"]


def test_what_is_said_is_put_in_place(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    result = call(app, "init", folder, "--name", "New", "--support-email", "a@example.test", ok=False)
    assert "run it again with --yes" in result.stderr
    assert load(folder, APP)["config"]["name"] == "Assistant"
    call(app, "init", folder, "--name", "New", "--support-email", "a@example.test", "--yes")
    config = load(folder, APP)["config"]
    assert (config["name"], config["support"]) == ("New", {"supportEmail": "a@example.test"})
    call(app, "init", folder)
    assert load(folder, APP)["config"]["name"] == "New"


def test_a_new_address_joins_the_old_one(app: Flask, folder: Path, tmp_path: Path) -> None:
    call(app, "init", folder)
    with bot(tmp_path / "moved", public_url=f"https://new.example.test,{URL}") as moved:
        assert {one["kind"] for one in checked(moved, folder)} == {"redirect URL", "target URL"}
        call(moved, "init", folder, "--yes")
    back = [f"{base}/hubspot/oauth/callback" for base in (URL, "https://new.example.test")]
    assert load(folder, APP)["config"]["auth"]["redirectUrls"] == back
    assert load(folder, WEBHOOKS)["config"]["settings"]["targetUrl"] == "https://new.example.test/hubspot/webhook"


def test_legacy_files_becomes_the_two_new_scopes(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    scopes = load(folder, APP)["config"]["auth"]["requiredScopes"]
    save(folder, APP, (folder / APP).read_text().replace('"files.read",\n        "files.write"', '"files"'))
    kinds = [one["kind"] for one in checked(app, folder)]
    assert kinds == ["scope missing", "scope missing", "scope refused"]
    call(app, "init", folder, "--yes")
    assert load(folder, APP)["config"]["auth"]["requiredScopes"] == scopes


def test_a_paused_and_a_missing_subscription_come_back(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    good = load(folder, WEBHOOKS)
    events = json.loads(json.dumps(good))
    [paused, *_] = events["config"]["subscriptions"]["hubEvents"]
    paused["active"] = False
    del events["config"]["subscriptions"]["hubEvents"][-1]
    save(folder, WEBHOOKS, events)
    kinds = [one["kind"] for one in checked(app, folder)]
    assert kinds == ["subscription paused", "subscription missing"]
    call(app, "init", folder, "--yes")
    assert load(folder, WEBHOOKS) == good


def test_permissions_stay_and_no_file_is_left_over(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    (folder / APP).chmod(0o600)
    call(app, "init", folder, "--name", "New", "--yes")
    assert stat.S_IMODE((folder / APP).stat().st_mode) == 0o600
    assert contents(folder).keys() == FILES


# Profiles ------------------------------------------------------------------------------------------------


def test_one_folder_serves_two_deployments(app: Flask, folder: Path, tmp_path: Path) -> None:
    call(app, "init", folder)
    call(app, "init", folder, "--profile", "staging", "--account", "7", "--yes")
    with bot(tmp_path / "production", public_url="https://live.example.test", url_prefix="/p") as live:
        refused = call(live, "init", folder, "--yes", ok=False).stderr
        assert "staging is the deployment's at https://bot.example.test/hubspot" in refused
        call(live, "init", folder, "--profile", "production", "--account", "8", "--yes")
        assert checked(live, folder) == []
        said = json.loads(call(live, "init", folder, "--json").stdout)
        assert (said["files"], said["commands"][-1]) == ([], "hs project upload --profile production")
    assert checked(app, folder) == []
    assert load(folder, "src/hsprofile.production.json") == {
        "accountId": 8,
        "variables": {"HITL_URL": "https://live.example.test/p"},
    }
    with bot(tmp_path / "third", public_url="https://third.example.test") as third:
        assert "no profile" in {one["kind"] for one in checked(third, folder)}
        assert "production, staging" in call(third, "init", folder, ok=False).stderr


def test_a_persons_own_variables_will_do(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    save(folder, WEBHOOKS, (folder / WEBHOOKS).read_text().replace(URL, "https://${host}:443".replace(":443", "")))
    save(folder, "src/hsprofile.one.json", {"accountId": 7, "variables": {"host": "bot.example.test"}})
    before = contents(folder)
    call(app, "init", folder, "--yes")
    after = contents(folder)
    assert after[WEBHOOKS] == before[WEBHOOKS]
    assert checked(app, folder) == []


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--profile", "a"], "needs the number of the account"),
        (["--profile", "a.b", "--account", "7"], "letters and digits"),
        (["--profile", "a", "--account", "x"], "--account is a number"),
        (["--profile", "a", "--account", "b=7"], "belongs to a --profile"),
        (["--account", "7"], "belongs to a --profile"),
        (["--profile", "a", "--account", "7", "--profile", "b", "--account", "b=8"], "say where that deployment is"),
        (
            ["--profile", "a", "--account", "7", "--profile", "b=http://b.test", "--account", "b=8"],
            "to https addresses",
        ),
        (["--profile", "a=https://other.test", "--account", "7"], "the first is this deployment's"),
    ],
)
def test_profiles_that_cant_be(app: Flask, folder: Path, arguments: list[str], why: str) -> None:
    assert why in call(app, "init", folder, *arguments, ok=False).stderr
    assert not folder.exists()


def test_two_profiles_of_one_account_are_told(app: Flask, folder: Path) -> None:
    more = ("--profile", "b=https://b.test", "--account", "b=7")
    call(app, "init", folder, "--profile", "a", "--account", "7", *more)
    [one] = checked(app, folder)
    assert (one["kind"], one["path"]) == ("profile", "src/hsprofile.b.json")


# Refusing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--name", "x" * 201], "has 201 characters, and HubSpot takes 200"),
        (["--name", "🙂" * 101], "has 202 characters"),
        (["--name", " x"], "begins or ends with a blank"),
        (["--name", ""], "is empty"),
        (["--name", "a ${b}"], "a profile's variable"),
        (["--name", "\udcff"], "no text"),
        (["--description", "x" * 8193], "has 8,193 characters"),
        (["--support-email", " "], "say an address"),
    ],
)
def test_what_hubspot_would_refuse_is_not_written(app: Flask, folder: Path, arguments: list[str], why: str) -> None:
    assert why in call(app, "init", folder, *arguments, ok=False).stderr
    assert not folder.exists()


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"public_url": "http://127.0.0.1:5000"}, "on your own machine to http://localhost:5000."),
        ({"public_url": f"{URL},http://[::1]"}, "to http://localhost only, not to http://[::1]/hubspot"),
        ({"scopes": "oauth,files"}, "write files.read,files.write instead"),
        ({"channel_name": "x" * 201}, "has 201 characters"),
    ],
)
def test_settings_that_hubspot_would_refuse(tmp_path: Path, folder: Path, settings: Json, why: str) -> None:
    with bot(tmp_path / "app", **settings) as app:
        assert why in call(app, "init", folder, ok=False).stderr
    assert not folder.exists()


def link(folder: Path, path: str) -> None:
    save(folder, "elsewhere.json", (folder / path).read_bytes())
    (folder / path).unlink()
    (folder / path).symlink_to(folder / "elsewhere.json")


def directory(folder: Path, path: str) -> None:
    (folder / path).unlink()
    (folder / path).mkdir()


def linked_folder(folder: Path, path: str) -> None:
    (folder / "src").rename(folder / "elsewhere")
    (folder / "src").mkdir()
    (folder / "src/app").symlink_to(folder / "elsewhere/app")


def as_text(change: Callable[[str], str | bytes]) -> Callable[[Path, str], None]:
    return lambda folder, path: save(folder, path, change((folder / path).read_text()))


DAMAGES: dict[str, tuple[Callable[[Path, str], None], str]] = {
    "byte order mark": (as_text(lambda text: f"\ufeff{text}"), "byte order mark"),
    "comment": (as_text(lambda text: f"{text}// end"), "comment in line"),
    "broken": (as_text(lambda text: text[:-3]), "is not JSON"),
    "empty": (as_text(lambda text: ""), "is empty"),
    "list": (as_text(lambda text: f"[{text}]"), "no JSON object"),
    "not UTF-8": (as_text(lambda text: text.encode("utf-16")), "is not UTF-8"),
    "key twice": (
        as_text(lambda text: text.replace("{", '{"uid": "a", "uid": "b", "name": "x", "name": "y",', 1)),
        "twice",
    ),
    "link": (link, "symbolic link"),
    "directory": (directory, "is no file"),
    "linked folder": (linked_folder, "symbolic link"),
    "huge": (as_text(lambda text: text + " " * 1_000_001), "larger than"),
}


@pytest.mark.parametrize("path", ["hsproject.json", APP, WEBHOOKS])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_file_that_cant_be_read_stops_everything(app: Flask, folder: Path, damage: str, path: str) -> None:
    call(app, "init", folder)
    act, why = DAMAGES[damage]
    act(folder, path)
    before = contents(folder)
    assert why in call(app, "init", folder, "--name", "New", "--yes", ok=False).stderr
    assert contents(folder) == before
    assert checked(app, folder)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"uid": "a", "type": "card"}, "has the type"),
        ({"uid": "a", "type": "app", "config": []}, "config has to be an object"),
        ({"uid": "a", "type": "app", "config": {"auth": "x"}}, "config.auth has to be an object"),
        (
            {"uid": "a", "type": "app", "config": {"auth": {"redirectUrls": "x"}}},
            "config.auth.redirectUrls has to be a list",
        ),
    ],
)
def test_values_of_another_kind_are_not_overwritten(app: Flask, folder: Path, change: Any, why: str) -> None:
    save(folder, APP, change)
    assert why in call(app, "init", folder, "--yes", ok=False).stderr
    assert contents(folder).keys() == {APP}


def test_a_second_app_and_a_lost_one_are_not_written_over(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    save(folder, "src/app/two-hsmeta.json", {"uid": "two", "type": "app"})
    assert "several files for the app" in call(app, "init", folder, ok=False).stderr
    (folder / "src/app/two-hsmeta.json").unlink()
    (folder / "src/app/webhooks/deep").mkdir()
    (folder / WEBHOOKS).rename(folder / "src/app/webhooks/deep/webhooks-hsmeta.json")
    assert "is in the wrong folder" in call(app, "init", folder, ok=False).stderr


def test_an_app_that_is_there_keeps_its_uid_and_its_file(app: Flask, folder: Path) -> None:
    save(folder, "hsproject.json", {"name": "x", "srcDir": "./source/", "platformVersion": "2025.2"})
    save(folder, "source/app/mine-hsmeta.json", {"uid": "mine", "type": "App"})
    save(folder, "source/app/cards/c-hsmeta.json", {"uid": "hubspot_hitl_webhooks", "type": "card", "config": {}})
    call(app, "init", folder, "--yes")
    made = load(folder, "source/app/mine-hsmeta.json")
    assert (made["uid"], made["type"], made["config"]["name"]) == ("mine", "app", "Assistant")
    assert load(folder, "source/app/webhooks/webhooks-hsmeta.json")["uid"] == "hubspot_hitl_webhooks_2"
    assert load(folder, "hsproject.json")["platformVersion"] == "2026.09"
    assert checked(app, folder) == []


def test_what_changed_meanwhile_is_not_written_over(folder: Path) -> None:
    wanted = project.Wanted(base_urls=(f"{URL}/hubspot",), scopes=("oauth",))
    read = project.read(folder)
    changed = project.changes(read, wanted)
    save(folder, WEBHOOKS, "{}")
    with pytest.raises(project.FolderError, match="was changed meanwhile"):
        project.write(read, changed)
    assert contents(folder).keys() == {WEBHOOKS}


def test_a_folder_that_cant_be_written(app: Flask) -> None:
    assert "can't be written: No such file or directory" in call(app, "init", "/proc/project", ok=False).stderr


def test_a_file_in_place_of_the_folder(app: Flask, folder: Path) -> None:
    folder.write_text("")
    assert "is a file: name a folder" in call(app, "init", folder, ok=False).stderr
    assert "can't be read: Not a directory" in call(app, "init", folder / "below", ok=False).stderr


# Checking ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "old", "new", "kind"),
    [
        (APP, '"private"', '"secret"', "distribution"),
        (APP, '"oauth",\n      "redirectUrls"', '"static",\n      "redirectUrls"', "auth"),
        (APP, '"name": "Assistant"', '"name": " x"', "app's name"),
        (APP, '"name": "Assistant",', "", "app's name"),
        (APP, '"description": "Hands', f'"description": "{"x" * 8200}', "description"),
        (APP, '"https://bot', '"http://bot.example.test/x", "https://bot', "redirect URL"),
        (APP, '"uid"', '"mine": 1, "uid"', "unknown key"),
        (APP, '"type": "app"', '"type": ""', "no type"),
        (APP, '"config"', '"dependencies"', "no config"),
        (WEBHOOKS, "/hubspot/webhook", "/webhook", "target URL"),
        ("hsproject.json", '"2026.09"', '"2025.2"', "platform version"),
        ("hsproject.json", '"name": "assistant",', "", "project file"),
        ("hsproject.json", "{", "", "project file"),
    ],
)
def test_what_differs_is_named(app: Flask, folder: Path, path: str, old: str, new: str, kind: str) -> None:
    call(app, "init", folder)
    text = (folder / path).read_text()
    assert old in text
    save(folder, path, text.replace(old, new, 1))
    found = {one["kind"]: one for one in checked(app, folder)}
    assert kind in found
    assert found[kind]["path"] == path
    result = call(app, "check", folder, ok=False)
    assert f"{path}: {found[kind]['what']}" in result.stdout
    assert "to mend in" in result.stderr


def test_a_component_in_anothers_folder_is_named(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    save(folder, "src/app/cards/page-hsmeta.json", {"uid": "p", "type": "settings", "config": {}})
    save(folder, "src/app/settings/one-hsmeta.json", {"uid": "q", "type": "settings", "config": {}})
    kinds = sorted(one["kind"] for one in checked(app, folder))
    assert kinds == ["place", "two of a kind"]


def test_a_folder_in_node_modules_is_named(app: Flask, tmp_path: Path) -> None:
    folder = tmp_path / "my_node_modules" / "project"
    call(app, "init", folder)
    assert [one["kind"] for one in checked(app, folder)] == ["source folder"]


# Uploading -----------------------------------------------------------------------------------------------


def test_upload_is_for_the_stand_in(app: Flask, folder: Path) -> None:
    call(app, "init", folder)
    assert f"cd {folder} && hs project upload" in call(app, "upload", folder, ok=False).stderr


@pytest.mark.parametrize(
    ("reply", "why"),
    [
        (Reply(404, b"<html>"), "it answered 404"),
        (Reply(200, {"app_id": "1"}), "it answered 200"),
        (Reply(200, b"[]"), "it answered 200"),
        (Reply(drop=True), "Nobody answers"),
    ],
)
def test_another_server_in_place_of_the_stand_in(folder: Path, tmp_path: Path, reply: Reply, why: str) -> None:
    def answer(_: Request) -> Reply:
        return reply

    with HttpPeer(answer) as peer, bot(tmp_path / "app", api_base_url=peer.url) as app:
        call(app, "init", folder)
        assert why in call(app, "upload", folder, ok=False).stderr
