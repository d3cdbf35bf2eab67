"""Know which kind of app this is at HubSpot: a project app, or one of the legacy kinds that can't be made any more."""

from __future__ import annotations

from ..config import Settings
from ..hubspot.scopes import AppKind
from ..ledger import Transaction

_NAME = "app_kind"


def remember(tx: Transaction) -> None:
    """Guess the kind when a store is opened for the first time; later calls change nothing.

    A store that is in use already was made when there were legacy apps; who starts today can only make a project app.
    """
    if tx.get_meta(_NAME) is None:
        learn(tx, AppKind.LEGACY_PUBLIC if tx.is_used() else AppKind.PROJECT)


def learn(tx: Transaction, kind: AppKind) -> None:
    """Store the kind, for apps whose settings do not say it."""
    tx.set_meta(_NAME, kind.value)


def app_kind(tx: Transaction, settings: Settings) -> AppKind:
    """Return the app's kind: the setting's, else what the store remembers."""
    return AppKind(settings.app_kind or tx.get_meta(_NAME) or AppKind.PROJECT)
