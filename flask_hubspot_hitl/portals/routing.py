"""Choose the portal, the channel, the inbox and the account that a handoff goes to."""

from __future__ import annotations

from ..config import PREFIX, Settings
from ..errors import NotConfigured
from ..ledger import Transaction

# Which portal, which channel, which account --------------------------------------------------------------


def default_portal(tx: Transaction, settings: Settings) -> str:
    """Return the portal for ``start`` without ``portal_id``: the one configured, or the only one that is installed.

    :raises NotConfigured: when there is none, or more than one.
    """
    if settings.portal_id is not None:
        return settings.portal_id
    found = tx.installations.all()
    if len(found) == 1:
        return found[0].portal_id
    if found:
        raise NotConfigured(f"{len(found)} portals are installed: say which with start(portal_id=…)")
    raise NotConfigured(
        f"no portal is installed, and {PREFIX}PORTAL_ID is missing: install one, see 'flask hubspot-hitl install-url'"
    )


def default_inbox(tx: Transaction, settings: Settings, portal_id: str) -> str | None:
    """Return the inbox for ``start`` without ``inbox_id``: configured, chosen, or the only one connected."""
    if portal_id == settings.portal_id and settings.inbox_id:
        return settings.inbox_id[0]
    found = tx.installations.get(portal_id)
    if found is not None and found.inbox_id is not None:
        return found.inbox_id
    inboxes = {one.inbox_id for one in tx.channels.accounts(portal_id) if one.authorized}
    return inboxes.pop() if len(inboxes) == 1 else None


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
