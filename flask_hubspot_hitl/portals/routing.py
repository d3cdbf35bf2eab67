"""Choose the portal, the channel, the inbox and the account that a handoff goes to."""

from __future__ import annotations

from collections.abc import Sequence

from ..config import PREFIX, Settings
from ..errors import NotConfigured
from ..ledger import InstallationState, Transaction

# Which portal, which channel, which account --------------------------------------------------------------


def default_portal(tx: Transaction, settings: Settings) -> str:
    """Return the portal for ``start`` without ``portal_id``: the one configured, or the only one of ``candidates``.

    :raises NotConfigured: when there is none, or more than one.
    """
    if settings.portal_id is not None:
        return settings.portal_id
    found = candidates(tx)
    if len(found) == 1:
        return found[0]
    if found:
        raise NotConfigured(f"{len(found)} portals are installed: say which with start(portal_id=…)")
    raise NotConfigured(
        f"no portal is installed, and {PREFIX}PORTAL_ID is missing: install one, see 'flask hubspot-hitl install-url'"
    )


def candidates(tx: Transaction) -> list[str]:
    """Return the portals that have the app, the first installed first; while none has it, those that removed it."""
    found = tx.installations.all()
    active = [one.portal_id for one in found if one.state is InstallationState.ACTIVE]
    return active or [one.portal_id for one in found]


def default_inbox(tx: Transaction, settings: Settings, portal_id: str) -> str | None:
    """Return the inbox for ``start`` without ``inbox_id``: configured, chosen, or the only one connected."""
    chosen = chosen_inboxes(tx, settings, portal_id)
    if chosen:
        return chosen[0]
    inboxes = {one.inbox_id for one in tx.channels.accounts(portal_id) if one.authorized}
    return inboxes.pop() if len(inboxes) == 1 else None


def chosen_inboxes(tx: Transaction, settings: Settings, portal_id: str) -> Sequence[str]:
    """Return the inboxes that ``setup`` looks at without ``--inbox``: configured, or chosen before; the default first.

    None: the portal's only inbox.
    """
    if portal_id == settings.portal_id and settings.inbox_id:
        return settings.inbox_id
    found = tx.installations.get(portal_id)
    return () if found is None or found.inbox_id is None else (found.inbox_id,)


def channel_of(tx: Transaction, settings: Settings) -> str | None:
    """Return the app's channel: the one configured, or the one that ``setup`` has stored."""
    if settings.channel_id is not None:
        return settings.channel_id
    found = tx.channels.get(settings.app_id)
    return None if found is None else found.channel_id


def account_of(
    tx: Transaction, settings: Settings, portal_id: str, channel_id: str, inbox_id: str | None, *, is_default: bool
) -> str | None:
    """Return the channel account to publish through, as far as it is stored.

    :param inbox_id: where the handoff goes; None: to no inbox in particular.
    :param is_default: whether the inbox is the one for ``start`` without ``inbox_id``.
    :returns: None when HubSpot has to be asked.
    """
    if is_default and portal_id == settings.portal_id and settings.channel_account_id is not None:
        return settings.channel_account_id
    found = None if inbox_id is None else tx.channels.account_of_inbox(portal_id, channel_id, inbox_id)
    return None if found is None else found.account_id
