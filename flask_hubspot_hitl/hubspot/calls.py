"""Call HubSpot: with the right credential, repeated with another after a 401 or a new installation, list after list.

Of ours it may import ``errors`` and its neighbours here; no Flask, no database. Nothing here knows an operation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from ..errors import HubSpotRejected, HubSpotUnavailable, TokenRevoked
from .options import ClientOptions
from .paths import Paths
from .tokens import RefreshingToken, TokenProvider
from .transport import Answer, Gate, Transport, bounded, deadline

#: The most pages that a list is followed for.
MAX_PAGES = 500


@dataclass(slots=True)
class SoFar:
    """Hold how far a list was read: its items, and the cursor of the page after them (None: from the beginning)."""

    items: list[dict[str, Any]] = field(default_factory=list)
    after: str | None = None


class Caller:
    """Make calls for one portal. Thread-safe; keeps connections open.

    :param tokens: gives the bearer token of the portal.
    :param gate: asked before every request.
    """

    def __init__(self, options: ClientOptions, *, tokens: TokenProvider, gate: Gate | None = None) -> None:
        self.options = options
        self.tokens = tokens
        self.paths = Paths(options.api_version)
        self._transport = Transport(options.base_url, options.connection, gate=gate)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options.base_url!r}, {self.options.api_version!r})"

    def close(self) -> None:
        """Close the idle connections to HubSpot."""
        self._transport.close()

    def deadline(self, seconds: float) -> AbstractContextManager[None]:
        """Limit all calls of this thread within the block to ``seconds`` in all: ``with client.deadline(5): …``."""
        return deadline(seconds)

    def skew_seconds(self) -> float | None:
        """Return the seconds by which this clock is ahead of HubSpot's (negative: behind), by HubSpot's newest answer.

        :returns: None without an answer.
        """
        return self._transport.skew_seconds()

    def read_list(
        self,
        path: str,
        *,
        doing: str,
        params: Mapping[str, Any] | None = None,
        developer: bool = False,
        so_far: SoFar | None = None,
    ) -> list[dict[str, Any]]:
        """Return every item of a list, page after page by the cursor.

        The ``link`` that HubSpot gives is not followed.

        :param so_far: how far the list was read before; it holds that, too, when a page can't be read.
        """

        def page(after: str | None) -> dict[str, Any]:
            query = dict(params or {}) | ({"after": after} if after else {})
            return self.call("GET", path, doing=doing, params=query, developer=developer)

        so_far = so_far or SoFar()
        for item in read_pages(page, doing, so_far):
            so_far.items.append(item)
        return so_far.items

    def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        files: Mapping[str, Any] | None = None,
        developer: bool = False,
        answer: bool = True,
        reads: bool = False,
    ) -> dict[str, Any]:
        """Carry out one operation.

        :param path: from ``self.paths``.
        :param doing: names the operation in errors ("publishing a message").
        :param developer: a call on the app's channels, with the developer key, if there is one, instead of the portal's
            token.
        :param answer: False: ignore the body of a 2xx.
        :param reads: changes nothing though it is a POST, so it is never ambiguous.
        :returns: the answer's JSON object; {} if it has none and ``answer`` is False.
        """

        def attempt() -> dict[str, Any]:
            return self._call(method, path, doing, body, params, files, developer, answer, safe)

        safe = reads or method == "GET"
        try:
            return bounded(attempt, doing=doing, safe=safe)
        except HubSpotUnavailable as error:
            if safe:
                error.ambiguous = False
            raise

    def _call(
        self,
        method: str,
        path: str,
        doing: str,
        body: Any,
        params: Mapping[str, Any] | None,
        files: Mapping[str, Any] | None,
        developer: bool,
        answer: bool,
        safe: bool,
    ) -> dict[str, Any]:
        query = dict(params or {})
        bearer: str | None = None
        if developer and self.options.app_id:
            query["appId"] = self.options.app_id
        if developer and self.options.developer_api_key:
            query["hapikey"] = self.options.developer_api_key
        else:
            bearer = self.tokens.token()

        def send() -> Answer:
            headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
            return self._transport.send(
                method, path, doing=doing, headers=headers, params=query, json_body=body, files=files
            )

        got = send()
        if bearer and (other := self._with_more_scopes(bearer, got)):
            bearer = other
            got = send()
        if bearer and got.status == 401:
            bearer = self.tokens.refresh(bearer)
            got = send()
            if got.status == 401:
                raise _refused_twice(doing, developer)
        if 200 <= got.status < 300:
            found = got.json()
            if found is not None or not answer or got.status == 204:
                return found or {}
            raise HubSpotUnavailable(f"{doing}: HubSpot's answer is not JSON", status=got.status, ambiguous=not safe)
        secrets = (bearer or "", self.options.developer_api_key or "")
        error = self._transport.error(got, method, doing=doing, secrets=secrets)
        if 300 <= got.status < 400:
            raise HubSpotRejected(f"{doing}: HubSpot answered with a redirect", status=got.status)
        raise error

    def _with_more_scopes(self, bearer: str, got: Answer) -> str | None:
        """Return the token that another process stored since, when HubSpot says that ``bearer`` lacks scopes.

        Scopes reach an account only with an installation (docs/hubspot.rst: Scopes), and that is another process's.
        """
        if got.status != 403 or not isinstance(self.tokens, RefreshingToken):
            return None
        lacks = (got.json() or {}).get("category") == "MISSING_SCOPES"
        return self.tokens.stored_instead(bearer) if lacks else None


def _refused_twice(doing: str, developer: bool) -> HubSpotRejected | TokenRevoked:
    if developer:  # docs/hubspot.rst (Developer key and product tier)
        return HubSpotRejected(
            f"{doing}: HubSpot takes no portal's token for this call; set HUBSPOT_HITL_DEVELOPER_API_KEY",
            status=401,
        )
    return TokenRevoked(
        f"{doing}: HubSpot refuses the access token, a new one too; connect the portal again",
        status=401,
    )


def read_pages(
    page: Callable[[str | None], Mapping[str, Any]], doing: str, so_far: SoFar | None = None
) -> Iterator[dict[str, Any]]:
    """Return the items of all pages.

    :param page: reads the page after a cursor; None: the first one.
    :param so_far: where to begin; its cursor moves on with each page.
    """
    so_far = so_far or SoFar()
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        items, so_far.after = page_of(page(so_far.after))
        yield from items
        if so_far.after is None:
            return
        if so_far.after in seen:
            break
        seen.add(so_far.after)
    raise HubSpotUnavailable(f"{doing}: HubSpot's list does not end")


def page_of(found: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the items of one page, and the cursor of the next; None on the last page."""
    results, paging = found.get("results"), found.get("paging")
    following = paging.get("next") if isinstance(paging, dict) else None
    cursor = following.get("after") if isinstance(following, dict) else None
    items = [item for item in (results if isinstance(results, list) else []) if isinstance(item, dict)]
    return items, str(cursor) if isinstance(cursor, str | int) and cursor != "" else None
