"""Read what HubSpot has, compare it with what is wanted, and plan the changes.

Of ours it may import ``errors`` and its neighbours here; no Flask, no database. Nothing is changed here: ``apply`` does
what a plan says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ...errors import HubSpotNotFound, HubSpotRejected
from ..admin import AppCalls
from ..client import HubSpotClient
from ..scopes import AppKind
from . import changes, files, wanted
from .files import Files
from .kind import HOW_TO_SEE, SAY_IT, UNKNOWN, KnownKind, contradiction
from .wanted import Json

TAKE_OVER = "If it is yours and shall serve this installation, run the command again with --take-over."


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """Describe what this deployment wants at HubSpot and what is known to be its own.

    ``portal_id`` is None while no portal has installed the app. No ``inbox_ids``: the only inbox there is.
    """

    channel: wanted.Channel
    kind: KnownKind
    files: Files | None = None
    """Of a project app, as far as they are here."""
    portal_id: str | None = None
    inbox_ids: Sequence[str] = ()
    default_inbox: str | None = None
    """Where ``start`` without ``inbox_id`` has gone so far."""
    configured_channel: str | None = None
    """``HUBSPOT_HITL_CHANNEL_ID``."""
    stored_channel: str | None = None
    """Of the channel that an earlier run has made or found."""
    configured_account: str | None = None
    """``HUBSPOT_HITL_CHANNEL_ACCOUNT_ID``."""
    stored_accounts: frozenset[str] = frozenset()
    take_over: bool = False
    new_channel: bool = False
    """Whether the stored channel is gone for good, so that another one is made."""

    @property
    def account_name(self) -> str:
        """What agents see in the inbox."""
        return self.channel.name or wanted.NAME

    def owns(self, account: Json) -> bool:
        """Return whether an account is ours: it bears our mark, or it is known to be."""
        mine = {*self.stored_accounts, self.configured_account}
        return wanted.mark_of_account(account) == self.channel.deployment_id or str(account.get("id")) in mine


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Describe what HubSpot has; lists that were not read are empty."""

    channels: Sequence[Json]
    channel: Json | None
    portal_id: str | None = None
    """Whose token it is."""
    inboxes: Sequence[Json] = ()
    accounts: Sequence[Json] = ()
    """The channel's, in the portal; of all inboxes."""
    webhooks: Json | None = None
    """``SettingsResponse``; None when they were never set."""
    subscriptions: Sequence[Json] = ()
    webhooks_refused: str | None = None
    """Why the app's webhooks can't be set by API, when HubSpot was asked for them."""
    kind: KnownKind
    """What kind of app it is, HubSpot's answer taken into account."""


@dataclass(frozen=True, slots=True)
class ByHand:
    """Describe a step that only a person can do.

    Each of ``steps`` is a sentence or a command.
    """

    why: str
    steps: Sequence[str]


@dataclass(slots=True)
class SetupPlan:
    """Hold what ``setup`` or ``teardown`` does. With any ``refusals`` nothing is done."""

    changes: list[changes.Change] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    by_hand: list[ByHand] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is left as it is, and why."""
    kind: AppKind = AppKind.PROJECT
    files: Files | None = None
    """Of a project app, as far as they are here: the half that goes by file."""


def look(app: AppCalls, portal: HubSpotClient | None, want: Want, *, webhooks: bool = True) -> Found:
    """Read everything that a plan needs, the app's ``webhooks`` if wished. Raises like the calls of ``client``."""
    channels = app.list_channels()
    channel = _choose(channels, want)
    accounts = portal.channel_accounts(str(channel["id"])) if portal is not None and channel is not None else []
    settings, subscriptions, refused, kind = _webhooks(app, want.kind) if webhooks else (None, (), None, want.kind)
    return Found(
        kind=kind,
        channels=channels,
        channel=channel,
        portal_id=None if portal is None else _owner(portal, want),
        inboxes=portal.inboxes() if portal is not None else [],
        accounts=accounts,
        webhooks=settings,
        subscriptions=subscriptions,
        webhooks_refused=refused,
    )


def _owner(portal: HubSpotClient, want: Want) -> str | None:
    """Return the portal of the token; HubSpot may keep it from a token without the scope ``oauth``."""
    try:
        return str(portal.account_info().get("portalId"))
    except HubSpotRejected as error:
        if error.status == 403:
            return want.portal_id
        raise


def _choose(channels: Sequence[Json], want: Want) -> Json | None:
    """Choose our channel: the configured, else the stored, else the one that delivers to us.

    :returns: None when several could be it.
    """
    by_id = {str(one.get("id")): one for one in channels}
    if want.configured_channel is not None:
        return by_id.get(want.configured_channel)
    if want.stored_channel in by_id:
        return by_id[want.stored_channel]
    ours = delivering(channels, want)
    return ours[0] if len(ours) == 1 else None


def delivering(channels: Sequence[Json], want: Want) -> list[Json]:
    """Return the channels that deliver to us; of several those with our mark, if any have it."""
    ours = [one for one in channels if one.get("webhookUrl") in want.channel.webhook_urls]
    marked = [one for one in ours if wanted.mark_of_channel(one) == want.channel.deployment_id]
    return marked or ours


def _webhooks(app: AppCalls, kind: KnownKind) -> tuple[Json | None, Sequence[Json], str | None, KnownKind]:
    """Read the app's webhooks, where there is an API for them; what HubSpot answers tells the kind of app."""
    if not kind.has_webhooks_api:
        return None, (), None, kind
    if app.options.developer_api_key is None:
        why = "The app's webhooks can be set with a developer API key only (HUBSPOT_HITL_DEVELOPER_API_KEY)."
        return None, (), why, kind
    try:
        subscriptions = app.webhook_subscriptions()
        try:
            return app.webhook_settings(), subscriptions, None, kind.after(True)
        except HubSpotNotFound:
            return None, subscriptions, None, kind.after(True)
    except HubSpotRejected as error:
        why = f"HubSpot does not let this app's webhooks be set by API ({error})."
        if error.status == 401:
            return None, (), why, kind
        told = f" {contradiction(kind.kind)}" if kind.is_certain else ""
        return None, (), why + told, kind.after(False)


# The plan -------------------------------------------------------------------------------------------------


def make_plan(found: Found, want: Want) -> SetupPlan:
    """Compare what HubSpot has with what is wanted; calls nobody."""
    plan = SetupPlan()
    refuse_other_portal(plan, found, want)
    _plan_channel(plan, found, want)
    if want.portal_id is not None:
        _plan_accounts(plan, found, want)
    _plan_webhooks(plan, found, want)
    return plan


def refuse_other_portal(plan: SetupPlan, found: Found, want: Want) -> None:
    """Refuse the plan when the token belongs to another portal than the configured one."""
    if found.portal_id != want.portal_id:
        plan.refusals.append(
            f"The token is portal {found.portal_id}'s, not portal {want.portal_id}'s. Correct HUBSPOT_HITL_PORTAL_ID "
            "or the token."
        )


def _plan_channel(plan: SetupPlan, found: Found, want: Want) -> None:
    if found.channel is None:
        _plan_missing_channel(plan, found, want)
        return
    have, channel_id = found.channel, str(found.channel["id"])
    url, mark = have.get("webhookUrl") or "", wanted.mark_of_channel(have)
    after = wanted.channel_drift(have, want.channel)
    if not want.take_over:
        if url and url not in want.channel.webhook_urls:
            plan.refusals.append(
                f"The channel {channel_id} delivers to {url}, not to {want.channel.webhook_urls[0]}: another "
                f"installation may live by it. {TAKE_OVER}"
            )
        elif mark not in (None, want.channel.deployment_id):
            plan.refusals.append(
                f"The channel {channel_id} bears the mark of another database ({mark}), as it does when yours was "
                f"lost. {TAKE_OVER}"
            )
    if after:
        before = {name: have.get(name) for name in after}
        plan.changes.append(changes.ChangeChannel(channel_id, before, after))


def _plan_missing_channel(plan: SetupPlan, found: Found, want: Want) -> None:
    """Plan for a channel that is not shown: none exists, or not yet, or more than one could be it."""
    ours = [str(one["id"]) for one in delivering(found.channels, want)]
    if want.configured_channel is not None:
        instead = f"; {ours[0]} delivers to you" if ours else ", and setup will make one"
        plan.refusals.append(
            f"HubSpot shows no channel {want.configured_channel} of this app. Unset HUBSPOT_HITL_CHANNEL_ID{instead}."
        )
    elif ours:
        plan.refusals.append(
            f"The channels {' and '.join(ours)} all deliver to {want.channel.webhook_urls[0]}. Set "
            "HUBSPOT_HITL_CHANNEL_ID to the one to keep."
        )
    elif want.stored_channel is not None and not want.new_channel:
        plan.changes.append(changes.AwaitChannel(want.stored_channel))
    else:
        plan.changes.append(changes.MakeChannel(want.channel.body()))


def _plan_accounts(plan: SetupPlan, found: Found, want: Want) -> None:
    inboxes = {str(one.get("id")): one for one in found.inboxes}
    listed = ", ".join(f"{_inbox(one)}" for one in inboxes.values()) or "none"
    if not want.inbox_ids and len(inboxes) != 1:
        plan.refusals.append(
            f"Say which inbox or help desk takes the conversations, with HUBSPOT_HITL_INBOX_ID or --inbox: {listed}."
        )
    if want.configured_account and found.channel and want.configured_account not in _ids(found.accounts):
        plan.refusals.append(
            f"The channel {found.channel['id']} has no account {want.configured_account} in portal {want.portal_id}. "
            "Unset HUBSPOT_HITL_CHANNEL_ACCOUNT_ID; setup finds or makes the account."
        )
    for inbox_id in chosen_inboxes(found, want):
        if inbox_id in inboxes:
            _plan_account(plan, found, want, inbox_id, _inbox(inboxes[inbox_id]))
        else:
            plan.refusals.append(f"Portal {want.portal_id} has no inbox {inbox_id}; there are: {listed}.")
    default = default_inbox(found, want)
    if default is not None and want.inbox_ids and default != want.inbox_ids[0]:
        plan.notes.append(
            f"start() without inbox_id goes on to {inbox_of(found, default)}; to the other one goes "
            f'start(…, inbox_id="{want.inbox_ids[0]}").'
        )


def chosen_inboxes(found: Found, want: Want) -> Sequence[str]:
    """Return the ids of the inboxes to connect: those asked for, or the only one."""
    if want.inbox_ids or len(found.inboxes) != 1:
        return want.inbox_ids
    return [str(found.inboxes[0]["id"])]


def default_inbox(found: Found, want: Want) -> str | None:
    """Return the inbox for ``start`` without ``inbox_id``: that of before while it exists, else the first chosen."""
    if want.default_inbox in _ids(found.inboxes):
        return want.default_inbox
    return next(iter(chosen_inboxes(found, want)), None)


def _plan_account(plan: SetupPlan, found: Found, want: Want, inbox_id: str, inbox: str) -> None:
    there = [one for one in found.accounts if str(one.get("inboxId")) == inbox_id]
    mine = sorted((one for one in there if want.owns(one)), key=lambda one: one.get("authorized") is not True)
    if not there:
        channel_id = None if found.channel is None else str(found.channel["id"])
        plan.changes.append(changes.ConnectInbox(channel_id, inbox_id, inbox, want.account_name))
        return
    account = (mine or there)[0]
    channel_id, account_id = str(account["channelId"]), str(account["id"])
    if not mine:
        identifier = (account.get("deliveryIdentifier") or {}).get("value") or "no identifier"
        if not want.take_over:
            plan.refusals.append(
                f"The account {account_id} in {inbox} does not bear the mark of this database (its identifier is "
                f"“{identifier}”). {TAKE_OVER}"
            )
        plan.changes.append(changes.TakeOverAccount(channel_id, account_id, inbox, identifier))
    if wanted.account_drift(account):
        plan.changes.append(changes.AuthorizeAccount(channel_id, account_id, inbox))
    if account.get("active") is False:
        why = f"The account {account_id} in {inbox} is switched off in HubSpot, where only a person can switch it on."
        step = f"In HubSpot's settings open Inboxes or Help Desk, then {inbox}, Channels, and turn it on."
        plan.by_hand.append(ByHand(why, [step]))


def _plan_webhooks(plan: SetupPlan, found: Found, want: Want) -> None:
    """Plan by API for a legacy public app, by file for a project app, and by hand for any other."""
    plan.kind = found.kind.kind
    target = want.channel.webhook_urls[0]
    if plan.kind is AppKind.PROJECT:
        _plan_files(plan, found, want, target)
    elif plan.kind is AppKind.LEGACY_PRIVATE:
        plan.by_hand.append(_clicks("No API sets the webhooks of a private app.", target))
    elif found.webhooks_refused is not None:
        plan.by_hand.append(_clicks(found.webhooks_refused, target))
    else:
        _plan_subscriptions(plan, found, want, target)


def _plan_files(plan: SetupPlan, found: Found, want: Want, target: str) -> None:
    plan.files = want.files
    if not found.kind.is_certain and want.files is None:
        plan.by_hand.append(ByHand(UNKNOWN, [HOW_TO_SEE, SAY_IT]))
    todo = files.steps(want.files, target)
    if todo is not None:
        plan.by_hand.append(ByHand(*todo))
    elif want.files is not None:
        plan.notes.append(
            f"The project's files in {want.files.folder} are as wanted; HubSpot has them as they were at the last "
            f"'{want.files.upload}'."
        )


def _plan_subscriptions(plan: SetupPlan, found: Found, want: Want, target: str) -> None:
    before = (found.webhooks or {}).get("targetUrl") or ""
    if before and before not in want.channel.webhook_urls and not want.take_over:
        plan.refusals.append(
            f"The app's webhooks go to {before}, not to {target}: another installation may live by them. {TAKE_OVER}"
        )
    if before != target:
        plan.changes.append(changes.SetTarget(before, wanted.webhook_settings(target, found.webhooks)))
    drift = wanted.subscription_drift(found.subscriptions)
    plan.changes.extend(changes.Subscribe(one) for one in drift.missing)
    plan.changes.extend(changes.ActivateSubscription(number, one) for number, one in drift.paused)


def _clicks(why: str, target: str) -> ByHand:
    """Return the clicks for a legacy app."""
    subscriptions = "".join(f"\n     {one}" for one in wanted.SUBSCRIPTIONS)
    return ByHand(
        why,
        [
            "In the HubSpot developer account open the app, then Webhooks. In a private app: its Webhooks tab.",
            f"Target URL: {target}",
            f"Create these subscriptions, and activate each, because HubSpot makes them paused:{subscriptions}",
        ],
    )


def inbox_of(found: Found, inbox_id: str) -> str:
    """Return what a person calls an inbox."""
    return next((_inbox(one) for one in found.inboxes if str(one.get("id")) == inbox_id), f"the inbox {inbox_id}")


def _inbox(inbox: Json) -> str:
    kind = "help desk" if inbox.get("type") == "HELP_DESK" else "inbox"
    return f"the {kind} {inbox.get('id')} “{inbox.get('name')}”"


def _ids(items: Sequence[Json]) -> set[str]:
    return {str(one.get("id")) for one in items}
