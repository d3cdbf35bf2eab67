"""Know which kind of app this is at HubSpot: a project app, or one of the legacy kinds that can't be made any more."""

from __future__ import annotations

from ..config import Settings
from ..hubspot.scopes import AppKind
from ..hubspot.setup.kind import KnownKind
from ..ledger import Transaction
from . import project

_NAME, _LEARNED = "app_kind", "app_kind_learned"


def remember(tx: Transaction) -> None:
    """Guess the kind when a store is opened for the first time; later calls change nothing.

    A store that is in use already was made when there were legacy apps; who starts today can only make a project app.
    """
    if tx.get_meta(_NAME) is None:
        tx.set_meta(_NAME, (AppKind.LEGACY_PUBLIC if tx.is_used() else AppKind.PROJECT).value)


def learn(tx: Transaction, kind: AppKind) -> None:
    """Store the kind that HubSpot has told, for apps whose settings do not say it."""
    tx.set_meta(_NAME, kind.value)
    tx.set_meta(_LEARNED, kind.value)


def app_kind(tx: Transaction, settings: Settings) -> AppKind:
    """Return the app's kind: the setting's, else what the store remembers."""
    return AppKind(settings.app_kind or tx.get_meta(_NAME) or AppKind.PROJECT)


def known(tx: Transaction, settings: Settings) -> KnownKind:
    """Return the app's kind, and whether it is more than a guess: a setting, HubSpot or a project's folder says it."""
    kind = app_kind(tx, settings)
    is_learned = settings.app_kind is not None or tx.get_meta(_LEARNED) == kind.value
    is_kept = kind is AppKind.PROJECT and project.remembered(tx, settings) is not None
    return KnownKind(kind, is_learned or is_kept)
