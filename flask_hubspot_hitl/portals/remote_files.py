"""Fetch the files that a host names by their URL, from hosts on a list only.

For a host that is not on the list, a redirect to one, plain http, an IP address that is not public, or too many bytes
the agent gets the link instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from urllib.parse import unquote

import requests
import urllib3

from ..clock import uptime_ms
from ..domain import Attachment
from ..errors import CallPostponed, HubSpotUnavailable
from ..hubspot import addresses, connections, transport
from ..hubspot.addresses import Address, AddressRefused
from ..hubspot.bulkhead import Bulkhead
from ..hubspot.text import clean_name, guess_content_type
from ..hubspot.transport import Availability
from ..process import Process

REDIRECTS = 3
SECONDS = 20.0
"""Seconds that one file may take, in all."""
HOSTS = 200
"""Hosts that are remembered at once, with how they answer."""
_CHUNK = 65_536


class NotFetched(Exception):
    """Say why a file is not fetched: its host is not on the list or does not answer, or the file is too large.

    ``later`` is True when trying again may help.
    """

    def __init__(self, why: str, *, later: bool = False) -> None:
        super().__init__(why)
        self.later = later


class Fetcher:
    """Fetch files from hosts on a list, and their subdomains. Thread-safe.

    :param limit: bytes of the largest file.
    :param proxy: URL of an HTTP proxy.
    :param private_hosts: hosts that may be in a private network.
    :param seconds: the longest that one file may take, in all.
    :param share: tells how many files are fetched from one host at once; None: any number.
    :param now_ms: tells the time in epoch ms.
    """

    def __init__(
        self,
        hosts: Iterable[str] = (),
        *,
        limit: int,
        proxy: str | None = None,
        private_hosts: Collection[str] = (),
        seconds: float = SECONDS,
        share: Callable[[], int] | None = None,
        now_ms: Callable[[], int] = uptime_ms,
    ) -> None:
        self._hosts: tuple[str, ...] = ()
        self.allow(*hosts)
        self._share = share
        self._now_ms = now_ms
        self._bulkheads: dict[str, Bulkhead] = {}
        self._lock = threading.Lock()
        self._limit = limit
        self._seconds = seconds
        self._private_hosts = private_hosts
        self._proxy = proxy
        self._session = self._new_session()
        self._process = Process(self._begin_anew)

    def _new_session(self) -> requests.Session:
        size = self._share() if self._share else 10
        return connections.session(private_hosts=self._private_hosts, proxy=self._proxy, size=size)

    def _begin_anew(self) -> None:
        # The parent's connections are kept: closing them in the child would end them at the other side.
        self._inherited, self._session = self._session, self._new_session()
        self._bulkheads, self._lock = {}, threading.Lock()

    def allow(self, *hosts: str) -> None:
        """Put more hosts on the list."""
        self._hosts += hosts

    def close(self) -> None:
        """Close the idle connections to the hosts."""
        self._process.check()
        self._session.close()

    def allows(self, address: Address) -> bool:
        """Return True for https (on this machine also http) to a host on the list, at the scheme's own port."""
        if not any(address.host == one or address.host.endswith(f".{one}") for one in self._hosts):
            return False
        return address.is_loopback or (address.scheme, address.port) == ("https", 443)

    def fetch(self, wanted: Attachment) -> tuple[Attachment, bytes]:
        """Fetch the file at ``wanted.url``.

        Where threads get no time, the looking up of names is not bounded.

        :returns: the file's name, type and size, and its bytes.
        :raises NotFetched: when it can't be had.
        :raises CallPostponed: when its host has its share of the threads, or answers slowly.
        """
        self._process.check()
        try:
            with transport.deadline(self._seconds):
                return transport.bounded(lambda: self._fetch(wanted), doing="fetching a file", safe=True)
        except CallPostponed:
            raise
        except HubSpotUnavailable as error:
            is_left_alone = error.retry_after is not None
            raise NotFetched("its host does not answer" if is_left_alone else "it takes too long", later=True) from None

    def _fetch(self, wanted: Attachment) -> tuple[Attachment, bytes]:
        try:
            address = addresses.parse(addresses.spell(wanted.url or ""))
            with connections.attempt(self._seconds):
                for _ in range(REDIRECTS + 1):
                    if not self.allows(address):
                        raise NotFetched("its host is not on the list")
                    found = self._ask(wanted, address)
                    if not isinstance(found, Address):
                        return found
                    address = found
        except AddressRefused as refused:
            raise NotFetched(f"its address {refused}") from None
        raise NotFetched("it is redirected too often")

    def _ask(self, wanted: Attachment, address: Address) -> tuple[Attachment, bytes] | Address:
        """Ask one host; return the file, or the address that leads on."""
        bulkhead = self._bulkhead(address.origin.partition("://")[2])
        passage = bulkhead.enter("fetching a file")
        shown = Availability.DOWN
        try:
            with self._session.get(address.url, stream=True, allow_redirects=False, timeout=(3.05, 10.0)) as answer:
                found = self._taken(wanted, address, answer)
            shown = Availability.UP
            return found
        except (NotFetched, AddressRefused) as error:
            is_down = isinstance(error, NotFetched) and error.later
            shown = Availability.DOWN if is_down else Availability.UP
            raise
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
            is_late = connections.attempt.left() <= 0
            raise NotFetched("it takes too long" if is_late else "its host does not answer", later=True) from None
        finally:
            bulkhead.leave(passage, shown, None)

    def _bulkhead(self, host: str) -> Bulkhead:
        with self._lock:
            if host not in self._bulkheads:
                if len(self._bulkheads) >= HOSTS:
                    self._bulkheads = {name: one for name, one in self._bulkheads.items() if not one.is_idle}
                self._bulkheads[host] = Bulkhead(host, self._now_ms, self._share)
            return self._bulkheads[host]

    def _taken(
        self, wanted: Attachment, address: Address, answer: requests.Response
    ) -> tuple[Attachment, bytes] | Address:
        if answer.status_code in (301, 302, 303, 307, 308):
            return addresses.follow(address, answer.headers.get("Location", ""))
        if answer.status_code != 200:
            raise NotFetched("its host refuses it", later=answer.status_code >= 500)
        return self._read(wanted, address, answer)

    def _read(self, wanted: Attachment, address: Address, answer: requests.Response) -> tuple[Attachment, bytes]:
        chunks: list[bytes] = []
        size = 0
        while chunk := answer.raw.read1(_CHUNK, decode_content=True):
            size += len(chunk)
            if size > self._limit:
                raise NotFetched("it is too large")
            if connections.attempt.left() <= 0:
                raise NotFetched("it takes too long", later=True)
            chunks.append(chunk)
        kind = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower() or None
        name = clean_name(wanted.name or unquote(address.target.partition("?")[0]), content_type=kind)
        if kind in (None, "application/octet-stream", "binary/octet-stream"):
            kind = guess_content_type(name) or kind
        return Attachment(name=name, content_type=kind, size=size), b"".join(chunks)


def as_line(attachment: Attachment) -> str:
    """Return a file that can't be fetched as a line of text with its link."""
    kind = (attachment.content_type or "").partition("/")[0]
    label = kind.capitalize() if kind in ("image", "audio", "video") else "File"
    return f"[ {label} - {attachment.name}: {attachment.url} ]" if attachment.name else f"[ {label}: {attachment.url} ]"
