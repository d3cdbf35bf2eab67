"""``setup`` and ``teardown`` by the app's kind: a project app's webhooks by file, a legacy app's by API or by hand.

Source: docs/hubspot.rst (Subscriptions API; Project apps); rules C7.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL
from flask_hubspot_hitl.hubspot.scopes import AppKind
from flask_hubspot_hitl.hubspot.setup import wanted
from flask_hubspot_hitl.hubspot.setup.files import compare, steps
from flask_hubspot_hitl.portals.project import compared, wanted_of

from .conftest import MakeApp, Serve
from .helpers import PORTAL, HubSpot, Recorder, state_of
from .project_commands import APP, WEBHOOKS, Json, load, save
from .story import PHONE
from .test_setup import ALL, BARE, HELP_DESK, INBOX, Desk, run, setup, webhook_url

UNSAID: Json = {"app_kind": None, "api_version": None}


@dataclass
class Project:
    """A project app: its folder, and the Flask app that uses it."""

    app: Flask
    desk: Desk
    folder: Path

    def run(self, *arguments: str) -> str:
        """A command that succeeds; its output."""
        result = run(self.app, *arguments)
        assert result.exit_code == 0, result.output
        return result.output

    def facts(self) -> Json:
        """The plan, as a machine is told it."""
        found: Json = json.loads(run(self.app, "setup", "--plan", "--json").stdout)
        return found


@pytest.fixture
def project(make_app: MakeApp, hubspot: HubSpot, tmp_path: Path) -> Project:
    """The folder is written and uploaded, and the app is installed in the preset portal; setup was not run."""
    folder = tmp_path / "hubspot-app"
    # These two dispatch nothing: they have other addresses, which the database would be taken to belong to.
    first = make_app(name="first", dispatcher="external", **UNSAID)
    port = first.config["TEST_PORT"]
    own: Json = {**UNSAID, "public_url": f"http://localhost:{port}"}
    writer = make_app(name="writer", dispatcher="external", **own)
    for command in ("init", "upload"):
        result = run(writer, "project", command, str(folder), "--json")
        assert result.exit_code == 0, result.output
    words = json.loads(result.stdout)
    env = hubspot.control("POST", "apps", {"appId": words["app_id"], "portalId": PORTAL})
    desk = Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": INBOX})
    app = make_app(**{**desk.config, **own, "SECRET_KEY": "a secret key that is long", "dispatcher": "thread"})
    app.config["TEST_PORT"] = port
    return Project(app, desk, folder)


def webhook_calls(hubspot: HubSpot) -> list[str]:
    """What was asked of the webhooks API."""
    found = [f"{one['method']} {one['path']}" for one in hubspot.requests()]
    return [one for one in found if "webhooks/" in one and "/_" not in one]


# A project app -------------------------------------------------------------------------------------------


def test_a_plan_has_both_halves(project: Project, hubspot: HubSpot) -> None:
    told = project.run("setup", "--plan")
    assert "Would make the channel “Assistant”" in told
    assert "Would connect the inbox" in told
    assert f"The project's files in {project.folder} are as wanted" in told
    facts = project.facts()
    assert [one["change"] for one in facts["changes"]] == ["MakeChannel", "ConnectInbox"]
    assert (facts["kind"], facts["by_hand"]) == ("project", [])
    assert facts["files"] == {"folder": str(project.folder), "trouble": None, "differences": []}
    assert webhook_calls(hubspot) == []


def test_run_twice_the_second_changes_nothing(project: Project, hubspot: HubSpot) -> None:
    project.run("setup")
    written, files = project.desk.writes(), {path: path.read_bytes() for path in project.folder.rglob("*.json")}
    assert project.run("setup").startswith("Nothing to change.\n")
    assert project.desk.writes() == written
    assert {path: path.read_bytes() for path in project.folder.rglob("*.json")} == files
    assert webhook_calls(hubspot) == []
    project.run("setup", "--plan", "--check")


def test_a_handoff_proves_what_doctor_waits_for(
    project: Project, hubspot: HubSpot, serve: Serve, record: Callable[[Flask], Recorder]
) -> None:
    serve(project.app, target=False)
    recorder = record(project.app)
    told = project.run("setup")
    assert "HH422 warning" in told
    with project.app.app_context():
        handoff = HubSpotHITL().start("c1", contact=PHONE, name="Rosa", title="Refund")
    hubspot.act(handoff.thread_id, "reply", text="Hello Rosa")
    recorder.wait_for("operator_message")
    hubspot.act(handoff.thread_id, "close")
    recorder.wait_for("conversation_completed")
    waited = run(project.app, "doctor", "--wait", "60")
    assert waited.exit_code == 0, waited.output
    assert waited.stdout.rstrip().endswith("All is well.")


def test_what_differs_is_a_step_and_fails_a_check(project: Project, tmp_path: Path) -> None:
    project.run("setup")
    hooks = load(project.folder, WEBHOOKS)
    hooks["config"]["settings"]["targetUrl"] = "https://old.example.test/hubspot/webhook"
    save(project.folder, WEBHOOKS, hooks)
    told = project.run("setup")
    assert f"By hand: The project's files in {project.folder} differ in one point from what is wanted." in told
    assert f"  1. {WEBHOOKS}: " in told
    assert f"  2. flask hubspot-hitl project init {project.folder}\n" in told
    assert f"  3. flask hubspot-hitl project upload {project.folder}\n" in told
    [difference] = project.facts()["files"]["differences"]
    assert difference["path"] == WEBHOOKS
    checked = run(project.app, "setup", "--plan", "--check")
    assert checked.exit_code == 1
    assert f"The project's files in {project.folder} are not as wanted." in checked.output
    project.run("project", "init", str(project.folder), "--yes")
    project.run("project", "upload", str(project.folder))
    project.run("setup", "--plan", "--check")


def test_a_folder_that_cant_be_read_is_a_step(make_app: MakeApp, project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    config = {**project.desk.config, **UNSAID, "project_dir": str(tmp_path / "file")}
    app = make_app(**config, public_url=state_of(project.app).settings.public_url[0])
    told = run(app, "setup").output
    assert "By hand: The project's files can't be read.\n" in told
    assert "is a file: name a folder." in told
    assert run(app, "setup", "--plan", "--check").exit_code == 1


def test_against_hubspot_its_own_command_uploads(project: Project, make_app: MakeApp) -> None:
    """The plan alone; nobody is called."""
    settings = state_of(make_app(public_url="https://bot.example.test", **UNSAID)).settings
    todo = steps(compare(project.folder, wanted_of(settings), for_stand_in=False), settings.webhook_urls()[0])
    assert todo is not None
    assert todo[1][-1] == f"cd {project.folder} && hs project upload"


def test_teardown_says_what_to_delete_at_hubspot(project: Project, hubspot: HubSpot) -> None:
    project.run("setup")
    told = project.run("teardown", "--yes")
    assert "they go with the project. To end them delete it in HubSpot (Development, Projects)" in told
    assert webhook_calls(hubspot) == []
    assert "Webhooks page" not in told
    again = json.loads(project.run("teardown", "--json"))
    assert again["kind"] == "project"


# What HubSpot's answer tells -----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_kind_that_nobody_tells_is_asked_for(make_app: MakeApp, hubspot: HubSpot, status: int) -> None:
    hubspot.chaos(webhooks_refusal=status)
    env = hubspot.control("POST", "apps", {"appId": BARE, "portalId": PORTAL, "kind": "project"})
    desk = Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": HELP_DESK})
    app = make_app(**{**desk.config, **UNSAID})
    told = setup(app).output
    assert "Set HUBSPOT_HITL_APP_KIND to project, legacy-public, legacy-private." in told
    assert "is listed in HubSpot under Development, Projects, is a project app" in told
    assert "flask hubspot-hitl project init DIR" in told
    assert {one.split()[0] for one in webhook_calls(hubspot)} == {"GET"}
    assert len(desk.accounts(desk.channel()["id"])) == 1, "what the kind does not matter for is done"
    assert "HH403 warning" in run(app, "doctor").output

    same_url = state_of(app).settings.public_url[0]
    said = make_app(**{**desk.config, "app_kind": "project", "public_url": same_url})
    assert "HUBSPOT_HITL_APP_KIND" not in setup(said, "--plan").output


def test_a_legacy_public_app_is_known_by_its_webhooks(make_app: MakeApp, hubspot: HubSpot) -> None:
    env = hubspot.control("POST", "apps", {"appId": BARE, "portalId": PORTAL, "subscribed": False})
    desk = Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": INBOX})
    app = make_app(**{**desk.config, **UNSAID})
    assert state_of(app).services.app_kind() is AppKind.PROJECT, "a guess"
    setup(app, "--plan")
    assert state_of(app).services.app_kind() is AppKind.PROJECT, "a plan changes nothing"
    setup(app)
    assert state_of(app).services.app_kind() is AppKind.LEGACY_PUBLIC
    assert (desk.target(), desk.subscriptions()) == (webhook_url(app), ALL)
    facts = json.loads(setup(app, "--json").stdout)
    assert (facts["kind"], facts["changes"], facts["by_hand"], facts["files"]) == ("legacy-public", [], [], None)


def test_a_database_of_a_legacy_app_follows_to_a_project(project: Project) -> None:
    """The app was migrated at HubSpot: it is refused what it could do before, and its folder is here."""
    state = state_of(project.app)
    with state.ledger.write() as tx:
        tx.set_meta("app_kind", "legacy-public")
    assert f"The project's files in {project.folder} are as wanted" in project.run("setup")
    assert state.services.app_kind() is AppKind.PROJECT


def test_a_setting_that_hubspot_contradicts_is_said(make_app: MakeApp, hubspot: HubSpot) -> None:
    env = hubspot.control("POST", "apps", {"appId": BARE, "portalId": PORTAL, "kind": "project"})
    desk = Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": INBOX})
    app = make_app(**{**desk.config, "app_kind": "legacy-public"})
    for told in (setup(app).output, run(app, "doctor").output):
        assert "this app counts as legacy-public" in told
        assert "set HUBSPOT_HITL_APP_KIND to project" in told
    assert state_of(app).services.app_kind() is AppKind.LEGACY_PUBLIC


def test_a_private_app_gets_the_clicks(make_app: MakeApp, hubspot: HubSpot) -> None:
    env = hubspot.control("POST", "apps", {"appId": BARE, "portalId": PORTAL, "kind": "legacy-private"})
    desk = Desk(hubspot, {**env, "HUBSPOT_HITL_INBOX_ID": INBOX})
    app = make_app(**{**desk.config, "refresh_token": None})
    told = setup(app, "--plan").output
    assert "By hand: No API sets the webhooks of a private app." in told
    assert f"Target URL: {webhook_url(app)}" in told
    assert all(str(one) in told for one in wanted.SUBSCRIPTIONS)
    assert "roject" not in told
    assert webhook_calls(hubspot) == []


def test_files_of_the_app_are_read_where_they_are(project: Project) -> None:
    """The distribution, which decides how many may install it."""
    app = load(project.folder, APP)
    app["config"]["distribution"] = "marketplace"
    save(project.folder, APP, app)
    assert compared(project.folder, state_of(project.app).settings).distribution == "marketplace"
