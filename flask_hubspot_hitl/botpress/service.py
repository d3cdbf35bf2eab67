"""Call a service of Botpress's: bounded, without redirects, its failures in two kinds."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..clock import Clock
from ..errors import DeliveryDelayed, HITLError, HubSpotUnavailable
from ..hubspot import addresses
from ..hubspot.bulkhead import Bulkhead
from ..hubspot.options import ConnectionOptions
from ..hubspot.transport import Transport, deadline
from ..portals.throttle import is_in_lane
from ..runtime import Runtime
from .keys import Key, Verdict

LATER = frozenset({401, 408, 425, 429})
"""HTTP statuses that say: try again later. A 401 only where it can't be told whether the key is wrong."""
LATER_KINDS = frozenset({"QuotaExceeded", "PaymentRequired"})
"""Botpress's words for what is no message's fault, and passes: docs/botpress.rst (Runtime basics)."""
REFUSED = "The bot's platform refused this message."
"""What the agent reads below a message that Botpress does not take."""
PROBE_SECONDS = 5.0
"""Seconds that a probe of the key may take."""


class BotpressUnavailable(DeliveryDelayed):
    """The call may work later; raised in a receiver it delays the delivery without counting an attempt."""

    def __init__(self, message: str, *, ambiguous: bool = False, retry_after: float | None = None) -> None:
        """Make the error.

        :param message: what was tried, and how it failed.
        :param ambiguous: True when Botpress may have carried the call out all the same.
        :param retry_after: seconds until Botpress wants to be asked again, if it said so.
        """
        super().__init__(message, retry_after=retry_after)
        self.ambiguous = ambiguous


class BotpressPostponed(BotpressUnavailable):
    """The call was not made: Botpress does not answer or answers slowly, or has its share of the threads."""

    is_failure = False


class BotpressRejected(HITLError):
    """Botpress refuses the call; repeating it would not help."""

    def __init__(self, message: str, *, status: int, kind: str = "") -> None:
        """Make the error.

        :param message: what was tried, and how it failed.
        :param status: the HTTP status.
        :param kind: Botpress's own word for the kind of error; "" without.
        """
        super().__init__(message)
        self.status = status
        self.kind = kind


class Service:
    """Call a base URL with fixed headers. Thread-safe; keeps connections open.

    The path of the URL is a secret where it names a webhook; it is kept out of urllib3's log.

    :param base_url: without a slash at the end.
    :param clock: tells the time.
    :param headers: sent with every call.
    :param timeout: seconds to connect, and seconds to read.
    :param proxy: the URL of an HTTP proxy.
    :param private_hosts: host names that may be on a private address.
    :param share: tells how many calls may be under way at once; None: any number.
    :param key: what is known of the key, where there is one.
    """

    def __init__(
        self,
        base_url: str,
        *,
        clock: Clock,
        headers: Mapping[str, str] | None = None,
        timeout: tuple[float, float] = (3.05, 10.0),
        proxy: str | None = None,
        private_hosts: Collection[str] = (),
        share: Callable[[], int] | None = None,
        key: Key | None = None,
    ) -> None:
        self._headers = dict(headers or {})
        self._key = key
        self._transport = Transport(
            base_url,
            ConnectionOptions(clock=clock, timeout=timeout, proxy=proxy, private_hosts=private_hosts),
            gate=Bulkhead("Botpress", clock.now_ms, share, holds=is_in_lane),
            service="Botpress",
            secrets=addresses.parse(base_url).target.split("/"),
        )

    @classmethod
    def of(
        cls, runtime: Runtime, base_url: str, *, headers: Mapping[str, str] | None = None, key: Key | None = None
    ) -> Service:
        """Make a service with an app's proxy, private hosts and clock, which is closed with the app."""
        settings, services = runtime.settings, runtime.services
        made = cls(
            base_url,
            clock=services.clock,
            headers=headers,
            proxy=settings.proxy,
            private_hosts=settings.private_hosts,
            share=services.share,
            key=key,
        )
        runtime.on_close.append(made.close)
        return made

    def close(self) -> None:
        """Close the idle connections to Botpress."""
        self._transport.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        doing: str,
        body: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Make one attempt.

        A 2xx that holds an error object counts as that error: Botpress's bridge answers so (its own client's rule).

        :param method: the HTTP method.
        :param path: what follows the base URL.
        :param doing: what is being done, for errors.
        :param body: what JSON can hold; None: no body.
        :param params: the query.
        :param headers: further headers.
        :returns: the answer's JSON object; {} for an empty or other body.
        :raises BotpressUnavailable: no connection, no answer, 408, 425, 429 or 5xx; a 401 and the like when the key is
            wrong, or may be.
        :raises BotpressPostponed: not asked; this is no failure.
        :raises BotpressRejected: any other answer that is not 2xx.
        """
        try:
            answer = self._transport.send(
                method, path, doing=doing, headers={**self._headers, **(headers or {})}, params=params, json_body=body
            )
        except HubSpotUnavailable as error:
            made = BotpressUnavailable if error.retry_after is None else BotpressPostponed
            raise made(str(error), ambiguous=error.ambiguous, retry_after=error.retry_after) from None
        found = answer.json() or {}
        status = answer.status
        code = found.get("code")
        if 200 <= status < 300 and isinstance(code, int) and 400 <= code < 600:
            status = code
        if 200 <= status < 300:
            if self._key is not None:
                self._key.works()
            return found
        kind = found.get("type")
        word = kind if isinstance(kind, str) and kind.isidentifier() else ""
        text = f"{doing}: Botpress answered {status} {word}".rstrip()
        if status >= 500 or word in LATER_KINDS or (status in LATER and status != 401):
            wait = self._transport.retry_after(answer.headers)
            raise BotpressUnavailable(text, ambiguous=status >= 500 and method != "GET", retry_after=wait)
        if self._may_be_the_key(status, text):
            raise BotpressUnavailable(text)
        raise BotpressRejected(text, status=status, kind=word)

    def _may_be_the_key(self, status: int, text: str) -> bool:
        """Return True unless a refusal is surely that of this one call."""
        if self._key is None or status not in self._key.probe.refusals:
            return status == 401
        return self._key.judge(text, self._ask) is not Verdict.RIGHT

    def _ask(self) -> int | None:
        """Make the probe of the key; return its status, None without an answer."""
        probe = self._key.probe if self._key is not None else None
        if probe is None:
            return None
        try:
            with deadline(PROBE_SECONDS):
                headers = {**self._headers, **probe.headers}
                status = self._transport.send("GET", probe.path, doing="trying Botpress's key", headers=headers).status
        except HubSpotUnavailable:
            return None
        return status if status < 500 and status not in LATER - {401} else None
