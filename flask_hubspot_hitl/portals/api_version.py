"""Know which version of HubSpot's API a store uses, and how long that lasts.

A new store uses the newest version. One that was in use before versions had dates stays on ``v3``, until the setting or
``setup --migrate`` says otherwise. See docs/rules.rst C7.
"""

from __future__ import annotations

from collections.abc import Iterator

from ..config import PREFIX, Settings
from ..hubspot.paths import API_ENDS, NEWEST, OAUTH_ENDS
from ..ledger import Transaction

_NAME = "api_version"
BEFORE = "v3"
"""What stores used that did not remember their version."""
HOW = "run 'flask hubspot-hitl setup --migrate', which tries the stored tokens first"


def remember(tx: Transaction) -> None:
    """Choose a store's version when it is opened for the first time; later calls change nothing."""
    if tx.get_meta(_NAME) is None:
        move(tx, BEFORE if tx.is_used() else NEWEST)


def move(tx: Transaction, version: str) -> None:
    """Have the store use another version from now on, where no setting says otherwise."""
    tx.set_meta(_NAME, version)


def api_version(tx: Transaction, settings: Settings) -> str:
    """Return the version whose paths are called: the setting's, else the store's."""
    return settings.api_version or tx.get_meta(_NAME) or NEWEST


def oauth_version(tx: Transaction, settings: Settings) -> str:
    """Return the version whose token endpoint is asked: the setting's, else the API's."""
    return settings.oauth_version or api_version(tx, settings)


def api_warning(tx: Transaction, settings: Settings) -> str | None:
    """Return in words that the API version in use ends, when, and what to do; None for one that is good for long."""
    version = api_version(tx, settings)
    end = API_ENDS.get(version)
    if end is None:
        return None
    return f"API version {version} {end} (HubSpot's newest is {NEWEST}): {_todo('API_VERSION', settings.api_version)}"


def oauth_warning(tx: Transaction, settings: Settings) -> str | None:
    """Return the same of the version of the token endpoint."""
    version = oauth_version(tx, settings)
    end = OAUTH_ENDS.get(version)
    if end is None:
        return None
    set_to = settings.oauth_version or settings.api_version
    name = "OAUTH_VERSION" if settings.oauth_version else "API_VERSION"
    return f"OAuth version {version} {end} (HubSpot's newest is {NEWEST}): {_todo(name, set_to)}"


def warnings(tx: Transaction, settings: Settings) -> Iterator[str]:
    """Return both warnings, as far as there is something to warn of."""
    yield from filter(None, (api_warning(tx, settings), oauth_warning(tx, settings)))


def _todo(name: str, set_to: str | None) -> str:
    return HOW if set_to is None else f"{HOW}, then take {PREFIX}{name} out of the settings"
