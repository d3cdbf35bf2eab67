"""Make and take back HubSpot's side without clicking: ``flask hubspot-hitl setup|teardown|inboxes``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import click
from flask.cli import with_appcontext

from ..config import PREFIX
from ..errors import HubSpotError, NotConfigured, TokenRevoked
from ..handoffs.words import count
from ..hubspot.setup.changes import Change
from ..hubspot.setup.plan import SetupPlan
from ..hubspot.setup.wanted import mark_of_account
from ..portals import routing
from ..portals.setup import PATIENCE, SetUp
from ..runtime import Runtime
from .common import Amount, Command, app_runtime, hubspot_id, say
from .doctor import Report, command
from .moving import migrate
from .tables import table

_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


_portal = click.option("--portal", "portal_id", callback=hubspot_id, help="The HubSpot account, if there are several.")


@click.command(cls=Command)
@click.option("--plan", "only_plan", is_flag=True, help="Only say what would be done.")
@click.option(
    "--check",
    is_flag=True,
    help="Fail when doctor finds an error; with --plan: when there is work.",
)
@click.option("--take-over", is_flag=True, help="Repoint what serves another installation; its address is printed.")
@click.option("--new-channel", is_flag=True, help="Make another channel: the one made before was deleted in HubSpot.")
@click.option("--inbox", "inbox_ids", multiple=True, callback=hubspot_id, help="Instead of HUBSPOT_HITL_INBOX_ID.")
@click.option(
    "--migrate", "to_newest", is_flag=True, help="Only move to HubSpot's newest API version, if it takes the tokens."
)
@click.option("--wait", default=PATIENCE, type=Amount(0, 3600), show_default=True, help="For a new channel.")
@_portal
@_json
@with_appcontext
def setup(
    only_plan: bool,
    check: bool,
    take_over: bool,
    new_channel: bool,
    to_newest: bool,
    inbox_ids: tuple[str, ...],
    wait: float,
    portal_id: str | None,
    as_json: bool,
) -> None:
    """Make or mend the channel, connect the inboxes, and subscribe to the events. May be run any number of times."""
    runtime = app_runtime()
    if to_newest:
        if only_plan or check or take_over or new_channel or inbox_ids or portal_id:
            raise click.UsageError("--migrate is for all portals and does nothing else: use it without other options.")
        migrate(runtime, as_json=as_json)
        return
    portal_id, missing = _portal_with_token(runtime, portal_id)
    with contextlib.closing(_Bar(hidden=as_json)) as bar:
        work = SetUp(
            services=runtime.services,
            portal_id=portal_id,
            inbox_ids=inbox_ids,
            take_over=take_over,
            new_channel=new_channel,
            patience=wait,
            on_plan=bar.on_plan,
            on_wait=bar.on_wait,
            on_done=lambda change: _done(change, as_json, bar),
        )
        with _plain_errors():
            plan = work.plan() if only_plan else work.run()
    report = None if only_plan or plan.refusals or missing else command.look(as_json=as_json)
    facts = _facts(plan, portal_id, is_done=not only_plan) | _ids(runtime, portal_id)
    facts["doctor"] = None if report is None else command.facts(report)
    lines = [f"Would {change}." for change in plan.changes] if only_plan else []
    if not plan.refusals and not plan.changes:
        lines.append("Nothing to change.")
    lines += [*plan.notes, *_by_hand(plan), *([] if only_plan else _where(facts))]
    say(facts, as_json, [*lines, *([] if report is None else _left(report))])
    _refuse(plan)
    if missing is not None:
        raise click.ClickException(f"Not finished: {missing}. Then run setup again.")
    if only_plan and check:
        _tell_drift(plan)
    if check and report is not None and not report.is_well:
        raise click.ClickException("HubSpot is set up, but see what doctor found.")


@click.command(cls=Command)
@click.option("--yes", is_flag=True, help="Do it; without this, what would be done is only told.")
@click.option("--channel", "archive", is_flag=True, help="The channel as well, unless another portal may use it.")
@_portal
@_json
@with_appcontext
def teardown(yes: bool, archive: bool, portal_id: str | None, as_json: bool) -> None:
    """Switch off what bears this installation's mark: the portal's accounts, and if asked the app's channel."""
    runtime = app_runtime()
    portal_id, _ = _portal_with_token(runtime, portal_id)
    work = SetUp(services=runtime.services, portal_id=portal_id, on_done=lambda change: _done(change, as_json))
    with _plain_errors():
        plan = (work.tear_down if yes else work.teardown_plan)(archive=archive)
    lines = [] if yes else [f"Would {change}." for change in plan.changes]
    if not plan.refusals and not plan.changes:
        lines.append("Nothing to take back.")
    if plan.changes and not yes:
        lines.append("Nothing was done yet: run it again with --yes.")
    say(_facts(plan, portal_id, is_done=yes), as_json, [*plan.notes, *lines])
    _refuse(plan)


@click.command(cls=Command)
@_portal
@_json
@with_appcontext
def inboxes(portal_id: str | None, as_json: bool) -> None:
    """List the portal's inboxes and help desks, and where our channel is connected."""
    runtime = app_runtime()
    with _plain_errors(), runtime.ledger.read() as tx:
        portal_id = portal_id or routing.default_portal(tx, runtime.settings)
        channel_id = routing.channel_of(tx, runtime.settings)
    with _plain_errors():
        client = runtime.services.client(portal_id)
        found = client.inboxes()
        accounts = client.channel_accounts(channel_id) if channel_id is not None else []
    facts = [
        {
            "inbox_id": str(one.get("id")),
            "type": one.get("type"),
            "name": one.get("name"),
            "accounts": [
                {
                    "account_id": str(account.get("id")),
                    "authorized": account.get("authorized"),
                    "active": account.get("active"),
                    "bears_our_mark": mark_of_account(account) == runtime.ledger.deployment_id,
                }
                for account in accounts
                if str(account.get("inboxId")) == str(one.get("id"))
            ],
        }
        for one in found
    ]
    headers = ("Inbox", "Type", "Name", "Our channel")
    rows = [(one["inbox_id"], one["type"], one["name"], _connected(one["accounts"])) for one in facts]
    say(facts, as_json, table(headers, rows, wraps=("Name",)) if rows else [f"Portal {portal_id} has no inbox."])


def _connected(accounts: Any) -> str:
    if not accounts:
        return "not connected"
    usable = next((one for one in accounts if one["authorized"] and one["active"] is not False), None)
    return f"account {(usable or accounts[0])['account_id']}" + ("" if usable else ", off")


# What the commands share ----------------------------------------------------------------------------------


def _portal_with_token(runtime: Runtime, asked: str | None) -> tuple[str | None, str | None]:
    """The portal to work on, or None and what is missing for it: the app's own part can be done without."""
    settings = runtime.settings
    with runtime.ledger.read() as tx:
        installed = routing.candidates(tx)
    chosen = asked or settings.portal_id or (installed[0] if len(installed) == 1 else None)
    if chosen is None and installed:
        raise click.UsageError(f"Say which portal, with --portal: {', '.join(installed)}.")
    if chosen is None:
        return None, "no portal has installed the app; make a link for it with 'flask hubspot-hitl install-url'"
    try:
        runtime.services.client(chosen)
    except NotConfigured as error:
        if asked is not None:
            raise click.ClickException(f"{error}.") from None
        return None, str(error)
    return chosen, None


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """HubSpot's no, or a missing setting, as a line that says what to do."""
    try:
        yield
    except NotConfigured as error:
        raise click.ClickException(f"{error}.") from None
    except HubSpotError as error:
        hints = {
            401: f" Check {PREFIX}DEVELOPER_API_KEY and {PREFIX}APP_ID.",
            403: " Either a scope is missing, or the portal has no Sales Hub or Service Hub Professional, which custom "
            "channels need.",
        }
        hint = "" if isinstance(error, TokenRevoked) else hints.get(error.status or 0, "")
        raise click.ClickException(f"{str(error).rstrip('.')}.{hint}") from None


class _Bar:
    """Show on stderr how many changes are done, while HubSpot is waited for, and only then."""

    def __init__(self, *, hidden: bool) -> None:
        self._hidden = hidden
        self._shown = contextlib.ExitStack()
        self._bar: Any = None
        self._total = self._done = 0

    def on_plan(self, changes: int) -> None:
        """There are so many changes in all."""
        self._total = changes

    def on_wait(self, waited: float) -> None:
        """So many seconds have gone by."""
        if self._hidden:
            return
        if self._bar is None:
            shown = click.progressbar(
                length=self._total or 1,
                label="Waiting until HubSpot shows the channel",
                show_pos=True,
                item_show_func=lambda seconds: None if seconds is None else f"{seconds:.0f} s",
                file=sys.stderr,
            )
            self._bar = self._shown.enter_context(shown)
            self._bar.update(self._done)
        self._bar.current_item = waited
        self._bar.render_progress()

    def on_done(self) -> None:
        """One change more; its words have the line."""
        self._done += 1
        self.close()

    def close(self) -> None:
        """The line is free for other words."""
        self._shown.close()
        self._bar = None


def _done(change: Change, as_json: bool, bar: _Bar | None = None) -> None:
    if bar is not None:
        bar.on_done()
    if not as_json:
        click.echo(f"Done: {change}.")


def _tell_drift(plan: SetupPlan) -> None:
    """Fail when HubSpot or the project's files are not as wanted."""
    if plan.changes:
        raise click.ClickException(f"HubSpot differs from what is wanted in {count(len(plan.changes), 'point')}.")
    if plan.files is not None and (plan.files.trouble or plan.files.differences):
        raise click.ClickException(f"The project's files in {plan.files.folder} are not as wanted.")


def _facts(plan: SetupPlan, portal_id: str | None, *, is_done: bool) -> dict[str, Any]:
    return {
        "portal_id": portal_id,
        "kind": plan.kind.value,
        "done": is_done and not plan.refusals,
        "changes": [change.facts() for change in plan.changes],
        "refusals": plan.refusals,
        "files": None if plan.files is None else plan.files.facts(),
        "by_hand": [{"why": one.why, "steps": list(one.steps)} for one in plan.by_hand],
        "notes": plan.notes,
    }


def _ids(runtime: Runtime, portal_id: str | None) -> dict[str, Any]:
    """What the app will use from now on."""
    with runtime.ledger.read() as tx:
        channel_id = routing.channel_of(tx, runtime.settings)
        accounts = [] if portal_id is None else tx.channels.accounts(portal_id)
    used = [one for one in accounts if one.channel_id == channel_id]
    return {"channel_id": channel_id, "accounts": {one.inbox_id: one.account_id for one in used if one.authorized}}


def _left(report: Report) -> list[str]:
    """Say that HubSpot is set up, and before that what ``doctor`` finds besides, such as that the app runs nowhere."""
    if not report.findings:
        return ["", *command.lines(report)]
    done = click.style("HubSpot is set up.", fg="green")
    left = count(len(report.findings), "finding")
    return ["", *command.findings(report), f"{done} Mind the {left} above, then run 'flask hubspot-hitl doctor'."]


def _where(facts: dict[str, Any]) -> list[str]:
    connected = "".join(f", inbox {inbox} by account {account}" for inbox, account in facts["accounts"].items())
    return [f"Channel {facts['channel_id']}{connected}."] if facts["channel_id"] else []


def _by_hand(plan: SetupPlan) -> list[str]:
    lines = []
    for one in plan.by_hand:
        lines += ["", f"By hand: {one.why}", *(f"  {number}. {step}" for number, step in enumerate(one.steps, 1))]
    return [*lines, ""] if lines else []


def _refuse(plan: SetupPlan) -> None:
    if plan.refusals:
        raise click.ClickException("Nothing was changed.\n" + "\n".join(f"- {one}" for one in plan.refusals))
