"""Run ``setup`` and ``teardown``: look at HubSpot once, plan, carry the plan out, and store what was done.

The plans themselves are pure and live in ``hubspot.setup``; here they meet the settings and the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..config import PREFIX, Settings
from ..errors import HubSpotError, NotConfigured
from ..hubspot.admin import AppCalls
from ..hubspot.client import HubSpotClient
from ..hubspot.setup import changes, journal, teardown, wanted
from ..hubspot.setup import plan as plans
from ..hubspot.setup.apply import Worker
from ..hubspot.setup.plan import Found, SetupPlan, Want
from ..hubspot.setup.wanted import Json
from ..ledger import ChannelRecord, Ledger
from . import app_kind, project, routing
from .accounts import record_of
from .clients import Services

PATIENCE = 300.0
"""Seconds to wait for a new channel to be shown; HubSpot takes about a minute (docs/hubspot.rst: Propagation)."""
SETTLED_MS = 600_000
"""Milliseconds after which a channel whose POST got no answer counts as not made."""


@dataclass(kw_only=True)
class SetUp:
    """Bring HubSpot and the ledger to what the settings say, for the app and for one portal.

    ``portal_id`` is None while no portal has installed the app: then only the app's own part is done. ``inbox_ids`` are
    the inboxes asked for instead of the configured ones.
    """

    services: Services
    portal_id: str | None
    inbox_ids: Sequence[str] = ()
    take_over: bool = False
    new_channel: bool = False
    patience: float = PATIENCE
    on_plan: Callable[[int], None] = lambda changes: None
    """Told how many changes there are in all, before the first, and again once a new channel is there to be seen."""
    on_wait: Callable[[float], None] = lambda seconds: None
    on_done: Callable[[changes.Change], None] = lambda change: None
    _looked: tuple[Want, Found] = field(init=False, repr=False)
    """What the newest plan is made from."""

    def plan(self) -> SetupPlan:
        """Return what setup would do, without changing anything.

        :raises NotConfigured: when a setting or a token is missing.
        :raises HubSpotError: when HubSpot can't be read.
        """
        with self._calls() as (app, portal):
            return self._plan(app, portal)

    def run(self) -> SetupPlan:
        """Carry the plan out unless something is refused.

        :returns: the plan: what was done, or why nothing was.
        :raises NotShown: when HubSpot does not show a new channel in time; the next run goes on from there.
        """
        with self._calls() as (app, portal):
            plan = self._plan(app, portal)
            done = []
            if plan.changes and isinstance(plan.changes[0], changes.MakeChannel | changes.AwaitChannel):
                if plan.refusals:
                    return plan
                self.on_plan(len(plan.changes))
                done = plan.changes[:1]
                self._worker(app, portal).carry_out(done)
                self.new_channel = False
                plan = self._plan(app, portal)  # now that the channel is there to be seen
            if not plan.refusals:
                self._remember()
                self.on_plan(len(done) + len(plan.changes))
                self._worker(app, portal).carry_out(plan.changes)
                self._choose_inbox()
            plan.changes[:0] = done
            return plan

    def teardown_plan(self, *, archive: bool) -> SetupPlan:
        """Return what teardown would do, without changing anything; raises like :meth:`plan`.

        :param archive: whether the channel is to go as well.
        """
        with self._calls() as (app, portal):
            return self._teardown_plan(app, portal, archive)

    def tear_down(self, *, archive: bool) -> SetupPlan:
        """Take back what bears our mark.

        :param archive: whether the channel is to go as well.
        :returns: the plan: what was done, or why nothing was.
        """
        with self._calls() as (app, portal):
            plan = self._teardown_plan(app, portal, archive)
            if not plan.refusals:
                self._worker(app, portal).carry_out(plan.changes)
            return plan

    # ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def _calls(self) -> Iterator[tuple[AppCalls, HubSpotClient | None]]:
        if self.services.settings.app_id is None:
            raise NotConfigured(f"{PREFIX}APP_ID is missing: the number in the address of the app's page in HubSpot")
        if self.portal_id is not None:
            client = self.services.client(self.portal_id)
            yield client, client
            return
        if self.services.settings.developer_api_key is None:
            raise NotConfigured(f"no portal has installed the app, and {PREFIX}DEVELOPER_API_KEY is missing: set it")
        app = self.services.app_client()
        try:
            yield app, None
        finally:
            app.close()

    def _look(self, app: AppCalls, portal: HubSpotClient | None, *, webhooks: bool = True) -> tuple[Want, Found]:
        want = self._want()
        self._looked = want, plans.look(app, portal, want, webhooks=webhooks)
        return self._looked

    def _plan(self, app: AppCalls, portal: HubSpotClient | None) -> SetupPlan:
        want, found = self._look(app, portal)
        plan = plans.make_plan(found, want)
        if self.services.settings.journal:
            journal.extend(plan, self.services.journal())
        return plan

    def _teardown_plan(self, app: AppCalls, portal: HubSpotClient | None, archive: bool) -> SetupPlan:
        want, found = self._look(app, portal, webhooks=False)
        if found.channel is None:
            return teardown.make_plan(found, want, archive=archive, users=[])
        channel_id = str(found.channel["id"])
        plan = teardown.make_plan(found, want, archive=archive, users=list(self._users(channel_id)))
        with self.services.ledger.read() as tx:
            count = len(tx.records.open_with(str(self.portal_id), channel_id))
        if plan.changes and count:
            plan.notes.append(
                f"{count} {'conversation is' if count == 1 else 'conversations are'} with agents through this channel; "
                "when it is off, neither side can write. End them first: hitl.stop() gives them back to the bot."
            )
        return plan

    def _users(self, channel_id: str) -> Iterator[str]:
        """Return the other portals that have the channel, and those that can't be asked."""
        with self.services.ledger.read() as tx:
            others = {one.portal_id for one in tx.installations.all()} | {
                one.portal_id for one in tx.channels.accounts() if one.channel_id == channel_id and one.authorized
            }
        for portal_id in sorted(others - {self.portal_id}):
            try:
                accounts = self.services.client(portal_id).channel_accounts(channel_id)
            except (HubSpotError, NotConfigured):
                yield f"portal {portal_id} may use it, and can't be asked"
            else:
                if any(one.get("authorized") for one in accounts):
                    yield f"portal {portal_id} uses it"

    def _want(self) -> Want:
        settings, ledger = self.services.settings, self.services.ledger
        is_configured = self.portal_id is not None and self.portal_id == settings.portal_id
        with ledger.read() as tx:
            channel = tx.channels.get(settings.app_id)
            accounts = [] if self.portal_id is None else tx.channels.accounts(self.portal_id)
            chosen = () if self.portal_id is None else routing.chosen_inboxes(tx, settings, self.portal_id)
            default = None if self.portal_id is None else routing.default_inbox(tx, settings, self.portal_id)
            kind, folder = app_kind.known(tx, settings), project.at_hand(tx, settings)
        return Want(
            channel=wanted_channel(settings, ledger.deployment_id),
            kind=kind,
            files=None if folder is None else project.compared(folder, settings),
            portal_id=self.portal_id,
            inbox_ids=self.inbox_ids or chosen,
            default_inbox=default,
            configured_channel=settings.channel_id,
            stored_channel=None if channel is None else channel.channel_id,
            configured_account=settings.channel_account_id if is_configured else None,
            stored_accounts=frozenset(one.account_id for one in accounts),
            take_over=self.take_over,
            new_channel=self.new_channel,
        )

    def _remember(self) -> None:
        """Store what was found to be ours; forget the accounts that are gone."""
        want, found = self._looked
        self._learn_kind(want, found)
        if found.channel is None:
            return
        notebook, channel_id = self._notebook(), str(found.channel["id"])
        notebook.save_channel(channel_id, str(found.channel.get("webhookUrl") or ""))
        if self.portal_id is None:
            return
        for account in found.accounts:
            if want.owns(account):
                notebook.save_account(account)
        there = {str(one["id"]) for one in found.accounts}
        with self.services.ledger.write() as tx:
            for one in tx.channels.accounts(self.portal_id):
                if one.channel_id == channel_id and one.account_id not in there:
                    tx.channels.forget_account(self.portal_id, one.account_id)

    def _choose_inbox(self) -> None:
        """Store the portal's default inbox, now that it is connected, unless it is configured."""
        want, found = self._looked
        settings, default = self.services.settings, plans.default_inbox(found, want)
        if self.portal_id is None or default is None or (self.portal_id == settings.portal_id and settings.inbox_id):
            return
        with self.services.ledger.write() as tx:
            tx.installations.set_inbox(self.portal_id, default)

    def _learn_kind(self, want: Want, found: Found) -> None:
        """Store the kind that HubSpot's answer proves, where it was a guess."""
        if found.kind != want.kind and (found.kind.is_certain or want.files is not None):
            with self.services.ledger.write() as tx:
                app_kind.learn(tx, found.kind.kind)

    def _worker(self, app: AppCalls, portal: HubSpotClient | None) -> Worker:
        return Worker(
            app=app,
            portal=portal,
            journal=self.services.journal() if self.services.settings.journal else None,
            want=self._looked[0],
            notebook=self._notebook(),
            clock=self.services.clock,
            patience=self.patience,
            on_wait=self.on_wait,
            on_done=self.on_done,
        )

    def _notebook(self) -> LedgerNotebook:
        return LedgerNotebook(self.services.ledger, str(self.services.settings.app_id), self.portal_id)


class LedgerNotebook:
    """Implement :class:`.hubspot.setup.apply.Notebook` on the ledger."""

    def __init__(self, ledger: Ledger, app_id: str, portal_id: str | None) -> None:
        self._ledger = ledger
        self._app_id = app_id
        self._portal_id = portal_id
        self._key = f"channel:{app_id}"

    def begin_channel(self, instead_of: str | None) -> bool:
        now = self._ledger.now_ms()
        with self._ledger.write() as tx:
            if not tx.once.claim(self._key, expires_at=now + SETTLED_MS, now=now):
                return False
            found = tx.channels.get(self._app_id)
            if found is None or found.channel_id == instead_of:
                return True
            tx.once.consume(self._key, now=now)
            return False

    def no_channel(self) -> None:
        with self._ledger.write() as tx:
            tx.once.consume(self._key, now=self._ledger.now_ms())

    def save_channel(self, channel_id: str, webhook_url: str) -> None:
        now = self._ledger.now_ms()
        record = ChannelRecord(app_id=self._app_id, channel_id=channel_id, webhook_url=webhook_url or None)
        with self._ledger.write() as tx:
            tx.channels.save(record, now=now)
            tx.once.consume(self._key, now=now)

    def forget_channel(self) -> None:
        with self._ledger.write() as tx:
            gone = tx.channels.get(self._app_id)
            tx.channels.forget(self._app_id)
            for one in tx.channels.accounts():
                if gone is not None and one.channel_id == gone.channel_id:
                    tx.channels.forget_account(one.portal_id, one.account_id)

    def save_account(self, account: Json) -> None:
        with self._ledger.write() as tx:
            tx.channels.save_account(record_of(str(self._portal_id), account), now=self._ledger.now_ms())


def wanted_channel(settings: Settings, deployment_id: str) -> wanted.Channel:
    """Return the app's channel as this deployment wants it."""
    return wanted.Channel(
        deployment_id=deployment_id,
        webhook_urls=settings.webhook_urls(),
        redirect_url=settings.connect_url(),
        name=settings.channel_name,
        logo_url=settings.channel_logo_url,
        capabilities=wanted.capabilities_of(
            quick_replies=settings.quick_replies,
            inline_images=settings.inline_images,
            agents_may_start=settings.agents_may_start,
        ),
    )
