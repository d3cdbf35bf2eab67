"""Know where the files of a project app are, and what they shall hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import Settings
from ..hubspot import scopes
from ..ledger import Transaction
from . import installations

if TYPE_CHECKING:
    from ..hubspot.project import Wanted
    from ..hubspot.setup.files import Files

META = "project_dir"
"""Where the database remembers the folder."""


def remembered(tx: Transaction, settings: Settings) -> Path | None:
    """Return the project's folder: the setting's, else the one that ``project init`` wrote last."""
    found = settings.project_dir or tx.get_meta(META)
    return None if found is None else Path(found).absolute()


def at_hand(tx: Transaction, settings: Settings) -> Path | None:
    """Return the same folder; None when it was written on another machine, or is gone, and no setting names it."""
    found = remembered(tx, settings)
    return found if found is not None and (settings.project_dir or found.is_dir()) else None


def wanted_of(settings: Settings, **more: Any) -> Wanted:
    """Return what a project's files shall hold for an app with these settings; ``more`` are fields of ``Wanted``."""
    from ..hubspot.project import Wanted  # a process that serves never looks at files

    return Wanted(
        base_urls=tuple(f"{url}{settings.url_prefix}" for url in settings.public_url),
        scopes=installations.wanted_scopes(settings, scopes.AppKind.PROJECT),
        new_name=settings.channel_name or "Assistant",
        **more,
    )


def compared(folder: Path, settings: Settings) -> Files:
    """Compare a project's folder with what this app needs of it."""
    from ..hubspot.setup.files import compare

    return compare(folder, wanted_of(settings), for_stand_in=settings.is_stand_in)
