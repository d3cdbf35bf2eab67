"""Connect by our own parse of an address, to the very IP address that was checked, and for a bounded time.

Of ours it may import ``clock`` and :mod:`.addresses` only.
"""

from __future__ import annotations

import http.cookiejar
import io
import ipaddress
import socket
from collections.abc import Collection
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import connection as sockets

from ..clock import Deadline
from . import addresses
from .addresses import AddressRefused

attempt = Deadline("hubspot_attempt")
"""Bounds what a session does in a block, in seconds, from the connection to the last byte.

A session's own time-outs bound each wait for the next bytes: who sends or takes one now and then is never late.
"""
_CHUNK = 65_536


def session(
    *, private_hosts: Collection[str] = (), proxy: str | None = None, retries: int | urllib3.Retry = 0, size: int = 10
) -> requests.Session:
    """Make a session that takes nothing from the environment, keeps no cookies, and checks what it connects to.

    :param private_hosts: the hosts that may be in a private network.
    :param proxy: an HTTP proxy's URL. It looks up the names then, so that nothing can be checked but their grammar.
    :param retries: urllib3's; none by default.
    :param size: how many connections to one host are kept open.
    """
    made = requests.Session()
    made.trust_env = False  # no proxies, .netrc or CA bundles from the environment
    made.cookies.set_policy(http.cookiejar.DefaultCookiePolicy(allowed_domains=[]))
    if proxy:
        made.proxies = {"http": proxy, "https": proxy}
    adapter = _Adapter(frozenset(private_hosts), max_retries=retries, pool_maxsize=size)
    made.mount("https://", adapter)
    made.mount("http://", adapter)
    return made


class _Adapter(HTTPAdapter):
    def __init__(self, private_hosts: frozenset[str], **options: Any) -> None:
        self._private_hosts = private_hosts
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = _pools(self._private_hosts)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Read the host with our own parser; Requests would use another one."""
        _, options = super().build_connection_pool_key_attributes(request, verify, cert)
        address = addresses.parse(request.url or "")
        return {"scheme": address.scheme, "host": address.host, "port": address.port}, options


class _Connection(urllib3.connection.HTTPConnection):
    """Look a host up once, check every answer, and connect to them; ``Host`` header and TLS go by the name."""

    private_hosts: frozenset[str] = frozenset()

    def connect(self) -> None:
        super().connect()
        self.sock = _Bounded(self.sock)

    def _new_conn(self) -> socket.socket:
        try:
            return self._connect(self._look_up())
        except socket.gaierror as error:
            raise urllib3.exceptions.NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            raise urllib3.exceptions.ConnectTimeoutError(self, f"Connection to {self.host} timed out") from error
        except OSError as error:
            raise urllib3.exceptions.NewConnectionError(self, f"No connection to {self.host}: {error}") from error

    def _look_up(self) -> list[str]:
        family = sockets.allowed_gai_family()
        found = socket.getaddrinfo(self.host, self.port, family, socket.SOCK_STREAM)
        ips = list(dict.fromkeys(str(one[4][0]) for one in found))
        for ip in ips:
            if not addresses.may_connect(self.host, ipaddress.ip_address(ip), self.private_hosts):
                raise AddressRefused(
                    "leads into a private network; if it should, put its host into HUBSPOT_HITL_PRIVATE_HOSTS"
                )
        return ips

    def _connect(self, ips: list[str]) -> socket.socket:
        problem = OSError("no address")
        options = self.socket_options
        for ip in ips:
            try:
                timeout = _left(self.timeout)
                return sockets.create_connection((ip, self.port), timeout, self.source_address, options)
            except OSError as error:
                problem = error
        raise problem


class _Bounded:
    """Be a connection's socket, whose every wait ends with the attempt."""

    def __init__(self, of: socket.socket) -> None:
        self._of = of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._of, name)

    def sendall(self, data: Any) -> None:
        """Send all of it, at the pace of the other side."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _CHUNK):
            with _Wait(self._of):
                self._of.sendall(view[start : start + _CHUNK])

    def makefile(self, mode: str, *_: Any) -> io.BufferedReader:
        """Return what answers are read from."""
        return io.BufferedReader(_Received(self._of))


class _Received(io.RawIOBase):
    """Read from a socket until the attempt's end."""

    def __init__(self, of: socket.socket) -> None:
        self._of = of
        self._raw = of.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        with _Wait(self._of):
            return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Wait:
    """Bound one wait of a socket's by what is left of the attempt."""

    __slots__ = ("_of", "_usual")

    def __init__(self, of: socket.socket) -> None:
        self._of = of

    def __enter__(self) -> None:
        self._usual = self._of.gettimeout()
        bound = _left(self._usual)
        if bound != self._usual:
            self._of.settimeout(bound)

    def __exit__(self, *_: object) -> None:
        if self._of.gettimeout() != self._usual and self._of.fileno() != -1:
            self._of.settimeout(self._usual)


def _left(usual: float | None) -> float:
    """Return the seconds to wait: a connection's own time-out, at most what is left of the attempt.

    :raises TimeoutError: when nothing is left.
    """
    left = attempt.left()
    if left <= 0:
        raise TimeoutError("the time for this attempt is over")
    return left if usual is None else min(usual, left)


class _TLSConnection(_Connection, urllib3.connection.HTTPSConnection):
    pass


def _pools(private_hosts: frozenset[str]) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """Make the pools of one adapter: their classes carry what is allowed, because a pool hands no option of ours on."""
    known = {"private_hosts": private_hosts}
    plain = type("CheckedConnection", (_Connection,), known)
    tls = type("CheckedTLSConnection", (_TLSConnection,), known)
    return {
        "http": type("CheckedPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("CheckedTLSPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }
