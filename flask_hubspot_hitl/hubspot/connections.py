"""Connect by our own parse of an address, and to the very IP address that was checked.

Of ours it may import :mod:`.addresses` only.
"""

from __future__ import annotations

import http.cookiejar
import ipaddress
import socket
from collections.abc import Collection
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import connection as sockets

from . import addresses
from .addresses import AddressRefused


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
                return sockets.create_connection((ip, self.port), self.timeout, self.source_address, options)
            except OSError as error:
                problem = error
        raise problem


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
