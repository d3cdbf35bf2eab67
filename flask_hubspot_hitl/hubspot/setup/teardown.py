"""Plan what ``teardown`` removes: what bears this database's mark.

Of ours it may import its neighbours here; calls nobody. ``apply`` does what a plan says.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..project import WEBHOOKS_FILE
from ..scopes import AppKind
from . import changes, wanted
from .plan import Found, SetupPlan, Want, inbox_of, refuse_other_portal
from .wanted import Json


def make_plan(found: Found, want: Want, *, archive: bool, users: Sequence[str]) -> SetupPlan:
    """Compare what HubSpot has with our mark.

    :param archive: whether the channel goes: it serves every portal of the app, also those that only another database
        knows.
    :param users: why other portals may need the channel, a sentence for each.
    """
    plan = SetupPlan(kind=want.kind.kind)
    refuse_other_portal(plan, found, want)
    channel = found.channel
    if channel is None:
        plan.notes.append("HubSpot shows no channel of this installation; there is nothing to take back.")
        plan.notes.append(_webhooks(want.kind.kind))
        return plan
    url, channel_id = channel.get("webhookUrl") or "", str(channel["id"])
    if url and url not in want.channel.webhook_urls:
        plan.refusals.append(
            f"The channel {channel_id} delivers to {url}, not to {want.channel.webhook_urls[0]}: it serves another "
            "installation, and so do its accounts."
        )
        return plan
    for account in found.accounts:
        _plan_account(plan, found, want, account)
    reasons = list(users)
    if wanted.mark_of_channel(channel) != want.channel.deployment_id:
        reasons.append("it does not bear the mark of this database")
    if not archive and not reasons:
        reasons.append("add --channel to archive it, when no other portal uses it")
    if reasons:
        plan.notes.append(f"The channel {channel_id} stays: {'; '.join(reasons)}.")
    else:
        plan.changes.append(changes.ArchiveChannel(channel_id, str(channel.get("name"))))
    plan.notes.append(_webhooks(want.kind.kind))
    return plan


def _webhooks(kind: AppKind) -> str:
    """Say how the app's webhooks end: they belong to the whole app, and are never taken back here."""
    stay = "The app's webhook target and its subscriptions belong to the whole app and stay"
    if kind is AppKind.PROJECT:
        return (
            f"{stay}: they go with the project. To end them delete it in HubSpot (Development, Projects), or delete "
            f"{WEBHOOKS_FILE} and run 'hs project upload'."
        )
    return f"{stay}; to end them, use the app's Webhooks page."


def _plan_account(plan: SetupPlan, found: Found, want: Want, account: Json) -> None:
    account_id, inbox = str(account["id"]), inbox_of(found, str(account.get("inboxId")))
    if wanted.mark_of_account(account) != want.channel.deployment_id:
        plan.notes.append(f"The account {account_id} in {inbox} stays: it does not bear the mark of this database.")
    elif account.get("authorized"):
        plan.changes.append(changes.DisableAccount(str(account["channelId"]), account_id, inbox))
