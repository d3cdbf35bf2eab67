"""Show a page of the admin: facts, tables, buttons. Callers write what they say; all of it is text, never markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from werkzeug.wrappers import Response as AnyResponse

from ...runtime import Runtime
from ..pages import rendered
from ..visitors import with_cookie
from .access import form_for_browser

PLACES = (
    ("admin", "Overview"),
    ("admin/handoffs", "Handoffs"),
    ("admin/dead", "Dead letters"),
    ("admin/portals", "Portals"),
    ("admin/audit", "Audit"),
)
"""What every page leads to. Addresses are relative to where the extension is mounted."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a table, or the value of a fact."""

    text: str
    link: str = ""
    tone: str = ""
    """``good``, ``odd``, ``bad`` or none."""
    facts: tuple[tuple[str, str], ...] = ()
    """Names and values, one below the other, in place of a text."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table with a heading. ``empty`` is said when it has no rows."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    empty: str = "Nothing."


@dataclass(frozen=True, slots=True)
class Button:
    """A button that changes something; ``action`` is relative to where the extension is mounted."""

    action: str
    label: str
    fields: dict[str, str] = field(default_factory=dict)
    is_primary: bool = True


@dataclass(frozen=True, slots=True)
class Search:
    """The form to look for handoffs with."""

    text: str
    state: str
    states: Sequence[tuple[str, str]]


def show(
    runtime: Runtime,
    here: str,
    title: str,
    *,
    news: Cell | None = None,
    search: Search | None = None,
    facts: Sequence[tuple[str, Cell]] = (),
    tables: Sequence[Table] = (),
    buttons: Sequence[Button] = (),
    older: str = "",
) -> AnyResponse:
    """Render a page.

    :param here: which of :data:`PLACES` it belongs to.
    :param news: what has just been done.
    :param older: the address of what did not fit.
    :raises FlowRefused: when there are buttons, and no key to sign them with.
    """
    browser, token = form_for_browser(runtime) if buttons else ("", "")
    answer = rendered(
        "admin",
        title=title,
        here=here,
        places=PLACES,
        news=news,
        search=search,
        facts=facts,
        tables=tables,
        buttons=buttons,
        older=older,
        token=token,
    )
    return with_cookie(answer, runtime, browser) if buttons else answer
