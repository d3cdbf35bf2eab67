"""One strict grammar for the addresses that this extension connects to, and which IP addresses they may lead to.

Pure functions; imports nothing of ours. What is connected to is built from :class:`Address`, and from nothing else: two
parsers of one text may disagree about its host.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin

#: Characters of a whole address.
LENGTH_LIMIT = 8_000

_PORTS = {"http": 80, "https": 443}
_ADDRESS = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:(?P<name>[a-z0-9.-]{1,253})|\[(?P<ipv6>[0-9a-f:.]{2,45})\])"
    r"(?::(?P<port>[1-9][0-9]{0,4}))?"
    r"(?P<target>[/?][!-~]*)?",
    re.ASCII | re.IGNORECASE,
)
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_NUMERIC = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
_PROTOCOLS = ipaddress.IPv4Network("192.0.0.0/24")
_MAPPED, _COMPATIBLE = ipaddress.IPv6Network("::ffff:0:0/96"), ipaddress.IPv6Network("::/96")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class AddressRefused(ValueError):
    """An address is not one that we connect to; the text completes "the address …" and holds nothing of it."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address in its parts, in one spelling.

    ``scheme`` is ``http`` or ``https``; ``host`` is a name in lower case or an IP address without brackets; ``port`` is
    a number from 1 to 65535; ``target`` is path and query, and begins with a slash.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> str:
        """Scheme, host, and the port if it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _PORTS[self.scheme] else f":{self.port}")

    @property
    def url(self) -> str:
        """Return the whole address."""
        return self.origin + self.target

    @property
    def is_loopback(self) -> bool:
        """Return True when the host is this machine by its very spelling: ``localhost``, ``127.x.y.z`` or ``::1``."""
        return is_loopback(self.host)


def parse(text: str) -> Address:
    """Read an address: scheme, host, perhaps a port, then path and query in printable ASCII, without a fragment.

    :param text: of the form ``https://files.example.com:8443/a.png?b=c``. A fragment is dropped.
    :raises AddressRefused: for everything else, such as a user name before the host.
    """
    if len(text) > LENGTH_LIMIT:
        raise AddressRefused(f"is longer than {LENGTH_LIMIT} characters")
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise AddressRefused(_why(text))
    scheme = found["scheme"].lower()
    port = int(found["port"] or _PORTS[scheme])
    if port > 65_535:
        raise AddressRefused("has a port that is no number from 1 to 65535")
    target = (found["target"] or "").partition("#")[0]
    host = host_of(found["name"] or f"[{found['ipv6']}]")
    return Address(scheme, host, port, target if target.startswith("/") else f"/{target}")


def _why(text: str) -> str:
    """Return what is wrong with an address that does not fit the grammar."""
    if not re.fullmatch("[!-~]*", text):
        return "has spaces, control characters or letters beyond ASCII"
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in _PORTS:
        return "does not begin with https:// or http://"
    host = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in host:
        return "has a user name before its host"
    if not host:
        return "has no host"
    return "has a host or port that is not written plainly"


def host_of(text: str) -> str:
    """Read a host: a name of letters, digits, dots and hyphens, an IPv4 address, or an IPv6 address in brackets.

    :returns: in lower case, an IPv6 address in its shortest form and without brackets.
    :raises AddressRefused: for everything else, such as a number that some take for an IPv4 address.
    """
    host = text.lower()
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            raise AddressRefused("has a host in brackets that is no IPv6 address") from None
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressRefused("has a host that is no name of letters, digits, dots and hyphens")
    if _NUMERIC.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            raise AddressRefused("has a number for a host that is no IPv4 address") from None
    return host


def literal(host: str) -> IPAddress | None:
    """Return the IP address that a host of :func:`parse` is; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def spell(text: str) -> str:
    """Percent-encode spaces and letters beyond ASCII, as browsers do with what is pasted into them."""
    return re.sub("[^!-~]+", lambda found: quote(found[0]) if found[0].isprintable() else found[0], text)


def follow(address: Address, location: str) -> Address:
    """Return where a redirect leads to.

    :param location: the ``Location`` header, whole or relative to ``address``.
    :raises AddressRefused: as :func:`parse`, whose grammar the result has to fit.
    """
    if not re.fullmatch("[!-~]+", location):
        raise AddressRefused("is a redirect without a readable target")
    return parse(urljoin(address.url, location))


def is_loopback(host: str) -> bool:
    """Return True when a host is this machine by its very spelling: ``localhost``, ``127.x.y.z`` or ``::1``."""
    ip = literal(host)
    return host == "localhost" if ip is None else ip.is_loopback


def may_connect(host: str, ip: IPAddress, private_hosts: Collection[str]) -> bool:
    """Return True when ``ip``, to which ``host`` resolved, may be connected to.

    A host that is this machine by its spelling leads to this machine; one of ``private_hosts`` leads into any network
    but link-local ones (where clouds keep credentials) and multicast; every other leads to the public Internet.
    """
    if is_loopback(host):
        return ip.is_loopback
    meant = _meant(ip)
    if host in private_hosts:
        return not any(one.is_multicast or one.is_unspecified or one.is_link_local for one in meant)
    return all(map(_is_public, meant))


def _is_public(ip: IPAddress) -> bool:
    """Return True for the public Internet.

    ``is_global`` alone also holds for multicast, and on some Pythons for what IANA keeps for protocols (RFC 6890),
    for documentation's newer addresses (RFC 9637), and for IPv6 addresses that nobody on the Internet can have: those
    outside 2000::/3, such as NAT64's of a private network (RFC 8215) and translated ones (RFC 2765).
    """
    if ip.version == 6:
        return ip.is_global and ip in _GLOBAL_UNICAST and ip not in _DOCUMENTATION
    return ip.is_global and not ip.is_multicast and ip not in _PROTOCOLS


def _meant(ip: IPAddress) -> Sequence[IPAddress]:
    """Where packets to ``ip`` may end: the IPv4 addresses wrapped in an IPv6 address, else the address itself.

    Mapped and compatible addresses: RFC 4291; NAT64: RFC 6052; 6to4: RFC 3056; Teredo: RFC 4380.
    """
    if isinstance(ip, ipaddress.IPv4Address):
        return [ip]
    if ip in _NAT64 or ip in _MAPPED or ip in _COMPATIBLE:
        return [ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)]
    if ip.sixtofour is not None:
        return [ip.sixtofour]
    return [ip] if ip.teredo is None else ip.teredo
