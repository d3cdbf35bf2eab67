"""Check a project app's files, what has arrived where HubSpot shows no subscriptions, and how many may install it."""

from __future__ import annotations

from collections.abc import Iterator

from ...hubspot.events import Kind
from ...hubspot.project.wanted import PRIVATE_LIMIT, UNLISTED_LIMIT
from ...hubspot.scopes import AppKind
from ...ledger import InstallationState
from ...portals import arrivals, project
from ...runtime import Runtime
from ..common import when
from .findings import Code, Finding

FEW_LEFT = {"private": (8, PRIVATE_LIMIT), "marketplace": (20, UNLISTED_LIMIT)}
"""By distribution: from how many accounts on it is told, and how many there may be."""


def check_files(runtime: Runtime) -> Iterator[Finding]:
    """Check the folder, where there is one here, and the number of accounts."""
    with runtime.ledger.read() as tx:
        folder = project.at_hand(tx, runtime.settings)
        count = sum(one.state is InstallationState.ACTIVE for one in tx.installations.all())
    found = None if folder is None else project.compared(folder, runtime.settings)
    if found is not None and found.trouble:
        yield Code.FILES_UNREADABLE.found(found.trouble)
    elif found is not None and found.differences:
        lines = [f"In {found.folder}:", *found.lines]
        fix = f"Run '{found.commands[0]}', then '{found.commands[1]}'."
        yield Code.FILES_DIFFER.found("\n      ".join(lines), fix=fix)
    kind = (found and found.distribution) or "private"
    warned, most = FEW_LEFT.get(kind, FEW_LEFT["private"])
    if warned <= count <= most:  # with more it is listed, or of another kind than its files say
        yield Code.INSTALL_CAP.found(f"{count} accounts have installed it; {most} may.")


def check_arrivals(runtime: Runtime) -> Iterator[Finding]:
    """Check that every webhook that an ordinary handoff brings has come once."""
    with runtime.ledger.read() as tx:
        seen = arrivals.last(tx)
    lacking = [kind for kind in arrivals.ORDINARY if kind not in seen]
    if not lacking:
        return
    words = [f"Not since the address or the files were changed last: {_names(lacking)}."]
    words += [f"Last {when(at)}: {_names([kind])}." for kind, at in seen.items()]
    rare = [kind for kind in arrivals.SUBSCRIBED if kind not in seen and kind not in arrivals.ORDINARY]
    words += [f"Not waited for, because they are rare: {_names(rare)}."] if rare else []
    upload = "flask hubspot-hitl project upload" if runtime.settings.is_stand_in else "hs project upload"
    last_words = f"run '{upload}', and wait five minutes."
    if runtime.services.app_kind() is not AppKind.PROJECT:
        last_words = "compare the app's Webhooks tab with: flask hubspot-hitl setup --plan"
    yield Code.UNPROVEN.found(" ".join(words), fix=f"{Code.UNPROVEN.fix} If they do not come: {last_words}")


def _names(kinds: list[Kind]) -> str:
    return ", ".join(arrivals.SUBSCRIBED[kind] for kind in kinds)
