"""Addresses: one strict grammar, and a connection goes to the very IP address that was checked, and nowhere else."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_hubspot_hitl import Attachment, HubSpotUnavailable
from flask_hubspot_hitl.clock import ManualClock
from flask_hubspot_hitl.hubspot import addresses, connections
from flask_hubspot_hitl.hubspot.addresses import Address, AddressRefused
from flask_hubspot_hitl.hubspot.options import ConnectionOptions
from flask_hubspot_hitl.hubspot.transport import Transport
from flask_hubspot_hitl.portals.remote_files import Fetcher, NotFetched

from .conftest import MakeApp, Record
from .helpers import HubSpot
from .story import Story

NAME = "files.example.com"

# The grammar ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("https://files.example.com", Address("https", NAME, 443, "/")),
        ("HTTPS://Files.Example.COM:8443/A.png?b=C", Address("https", NAME, 8443, "/A.png?b=C")),
        ("http://127.0.0.1:5000?x", Address("http", "127.0.0.1", 5000, "/?x")),
        ("https://[2001:DB8:0::1]/a", Address("https", "2001:db8::1", 443, "/a")),
        ("https://files.example.com/a.png#page=2", Address("https", NAME, 443, "/a.png")),
        ("https://xn--bcher-kva.example/", Address("https", "xn--bcher-kva.example", 443, "/")),
    ],
)
def test_an_address_in_its_parts(text: str, parts: Address) -> None:
    found = addresses.parse(text)
    assert found == parts
    assert addresses.parse(found.url) == parts


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with"),
        ("files.example.com/a.png", "does not begin with"),
        ("ftp://files.example.com/a.png", "does not begin with"),
        ("https://", "has no host"),
        ("https:///a.png", "has no host"),
        ("https://user@files.example.com/", "has a user name"),
        ("https://user:word@files.example.com/", "has a user name"),
        ("https://files.example.com:/", "not written plainly"),
        ("https://files.example.com:0/", "not written plainly"),
        ("https://files.example.com:65536/", "no number from 1 to 65535"),
        ("https://files_example.com/", "not written plainly"),
        ("https://files%2eexample.com/", "not written plainly"),
        ("https://files..example.com/", "no name of letters"),
        ("https://files.example.com./", "no name of letters"),
        ("https://-files.example.com/", "no name of letters"),
        ("https://" + "a" * 64 + ".example/", "no name of letters"),
        ("https://b\u00fccher.example/", "letters beyond ASCII"),
        ("https://files.example.com/a b", "spaces"),
        ("https://files.example.com/a\n", "control characters"),
        ("https://1.2.3/", "no IPv4 address"),
        ("https://256.1.1.1/", "no IPv4 address"),
        ("https://[1.2.3.4]/", "no IPv6 address"),
        ("https://[::1", "not written plainly"),
        ("https://files.example.com/" + "x" * 8_000, "longer than 8000 characters"),
    ],
)
def test_what_is_no_address(text: str, why: str) -> None:
    with pytest.raises(AddressRefused, match=why) as raised:
        addresses.parse(text)
    assert len(str(raised.value)) < 100  # and nothing of the address, which may be a secret


LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIGITS = "0123456789"


def fits(text: str) -> bool:
    """The grammar once more, in words instead of patterns."""
    if any(not "!" <= letter <= "~" for letter in text):
        return False
    scheme, separator, rest = text.partition("://")
    end = min((rest.index(mark) for mark in "/?" if mark in rest), default=len(rest))
    authority = rest[:end]
    if scheme.lower() not in ("http", "https") or not separator:
        return False
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        if not bracket or not _is(ipaddress.IPv6Address, host) or "%" in host:
            return False
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = authority.partition(":")
        if not _is_name(host):
            return False
    if not colon:
        return not port
    is_number = port != "" and set(port) <= set(DIGITS) and not port.startswith("0")
    return colon == ":" and is_number and len(port) <= 5 and int(port) <= 65_535


def _is_name(host: str) -> bool:
    labels = host.split(".")
    for label in labels:
        if not 1 <= len(label) <= 63 or not set(label) <= {*LETTERS, *DIGITS, "-"} or "-" in (label[0], label[-1]):
            return False
    last = labels[-1].lower()
    looks_like_number = set(last) <= set(DIGITS) or (last[:2] == "0x" and set(last[2:]) <= {*DIGITS, *"abcdef"})
    return len(host) <= 253 and (not looks_like_number or _is(ipaddress.IPv4Address, host))


def _is(kind: Callable[[str], object], text: str) -> bool:
    try:
        kind(text)
    except ValueError:
        return False
    return True


_names = st.lists(st.text("abcXYZ019-", min_size=1, max_size=6), min_size=1, max_size=4).map(".".join)
_hosts = st.one_of(_names, st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(lambda ip: f"[{ip}]"))
_ports = st.one_of(st.just(""), st.integers(0, 70_000).map(lambda number: f":{number}"))
_targets = st.one_of(
    st.just(""), st.text(st.characters(min_codepoint=33, max_codepoint=126)).map(lambda rest: f"/{rest}")
)
_addresses = st.tuples(st.sampled_from(["http://", "https://", "HTTPS://", "ftp://"]), _hosts, _ports, _targets)


# A busy machine may take seconds to make the first input, with its tables of Unicode.
patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def _nearly(draw: Callable[[Any], Any]) -> str:
    """An address, with one character of any kind put in somewhere."""
    text = "".join(draw(_addresses))
    at = draw(st.integers(0, len(text)))
    more: str = draw(st.characters())
    return text[:at] + more + text[at:]


@patient
@given(st.one_of(st.text(), _addresses.map("".join), _nearly()))
def test_exactly_what_fits_the_grammar_is_taken(text: str) -> None:
    try:
        found = addresses.parse(text)
    except AddressRefused:
        assert not fits(text)
        return
    assert fits(text)
    assert fits(found.url)
    assert addresses.parse(found.url) == found
    assert f"://{found.host}" in found.url or f"://[{found.host}]" in found.url
    assert found.host in text.lower() or _is(ipaddress.IPv6Address, found.host)


@patient
@given(_addresses.map("".join).filter(fits), st.text(st.characters(codec="ascii")))
def test_a_redirect_has_to_fit_the_grammar_too(text: str, location: str) -> None:
    with contextlib.suppress(AddressRefused):
        assert fits(addresses.follow(addresses.parse(text), location).url)


def test_where_a_redirect_leads_to() -> None:
    here = addresses.parse("https://files.example.com/a/b?c")
    found = {to: addresses.follow(here, to).url for to in ("/d", "d?e", "//other.example/f", "http://other.example")}
    assert list(found.values()) == [
        "https://files.example.com/d",
        "https://files.example.com/a/d?e",
        "https://other.example/f",
        "http://other.example/",
    ]
    for to in ("", "https://user@other.example/", "ftp://other.example/", "/a b"):
        with pytest.raises(AddressRefused):
            addresses.follow(here, to)


def test_what_browsers_spell_out_is_spelled_out() -> None:
    assert addresses.spell("https://files.example.com/f\u00fcr uns.png?a=%20") == (
        "https://files.example.com/f%C3%BCr%20uns.png?a=%20"
    )
    for text in ("https://b\u00fccher.example/", "https://files.example.com/\n", " https://files.example.com/"):
        with pytest.raises(AddressRefused):
            addresses.parse(addresses.spell(text))


# Which IP addresses ---------------------------------------------------------------------------------------

PUBLIC = ["93.184.216.34", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
PRIVATE = ["10.0.0.1", "172.16.3.4", "192.168.1.1", "100.64.0.1", "fd00::1", "127.0.0.1", "::1", "::ffff:10.0.0.1"]
NEVER = ["169.254.169.254", "fe80::1", "224.0.0.1", "ff0e::1", "0.0.0.0", "::", "::ffff:169.254.169.254"]
NOT_PUBLIC = ["198.18.0.1", "192.0.2.1", "240.0.0.1", "255.255.255.255", "2001:db8::1", "fec0::1", "::10.0.0.1"]
RESERVED = [
    "64:ff9b:1::808:808",
    "::ffff:0:808:808",
    "5f00::1",
    "192.0.0.8",
    "192.0.0.170",
    "64:ff9b::c000:8",
    "3fff::1",
]
WRAPPED = ["64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::1", "64:ff9b::7f00:1"]


@pytest.mark.parametrize("ip", [*PUBLIC, *PRIVATE, *NEVER, *NOT_PUBLIC, *RESERVED, *WRAPPED])
def test_which_ip_addresses_a_name_may_lead_to(ip: str) -> None:
    found = ipaddress.ip_address(ip)
    assert addresses.may_connect(NAME, found, ()) == (ip in PUBLIC)
    assert not addresses.may_connect(NAME, found, {"example.com", f"x.{NAME}"}) or ip in PUBLIC
    assert addresses.may_connect("localhost", found, ()) == (ip in ("127.0.0.1", "::1"))
    if ip in PUBLIC + PRIVATE + NEVER:
        assert addresses.may_connect(NAME, found, {NAME}) == (ip not in NEVER)


# What is connected to -------------------------------------------------------------------------------------


@dataclass
class Listener:
    """Takes connections on one IP address; keeps what was said first, and the names that TLS asked for."""

    ip: str
    port: int = 0
    context: ssl.SSLContext | None = None
    heard: list[bytes] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    answer: bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

    def __post_init__(self) -> None:
        self._socket = socket.create_server((self.ip, self.port))
        self.port = self._socket.getsockname()[1]
        if self.context is not None:
            self.context.sni_callback = lambda _socket, name, _context: self.names.append(name)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                one, _ = self._socket.accept()
            except OSError:  # closed: the test is over
                return
            one.settimeout(10)
            try:
                if self.context is not None:
                    one = self.context.wrap_socket(one, server_side=True)
                self.heard.append(one.recv(65_536))
                one.sendall(self.answer)
            except OSError as error:
                self.heard.append(type(error).__name__.encode())
            finally:
                one.close()

    def close(self) -> None:
        self._socket.close()


Listen = Callable[..., Listener]


@pytest.fixture
def listen() -> Iterator[Listen]:
    made: list[Listener] = []

    def start(ip: str, port: int = 0, context: ssl.SSLContext | None = None) -> Listener:
        made.append(Listener(ip, port, context))
        return made[-1]

    yield start
    for one in made:
        one.close()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """A server's, with a certificate that nobody trusts."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encodings = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "pem").write_bytes(key.private_bytes(*encodings) + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    return context


@dataclass
class Names:
    """What a resolver answers, look-up after look-up; the last answer stays. ``asked`` counts."""

    answers: dict[str, list[list[str]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Takes the place of the system's resolver for the names that a test gives answers for."""
    found, real = Names(), socket.getaddrinfo

    def look_up(host: Any, port: Any, *more: Any, **options: Any) -> Any:
        if host not in found.answers:
            return real(host, port, *more, **options)
        found.asked.append(host)
        answers = found.answers[host]
        ips = answers.pop(0) if len(answers) > 1 else answers[0]
        return [row for ip in ips for row in real(ip, port, *more, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return found


def test_a_name_is_looked_up_once_and_what_was_checked_is_connected_to(listen: Listen, names: Names) -> None:
    checked = listen("127.0.0.2")
    other = listen("127.0.0.3", checked.port)
    names.answers[NAME] = [["127.0.0.2"], ["127.0.0.3"]]
    with connections.session(private_hosts=[NAME]) as http:
        assert http.get(f"http://{NAME}:{checked.port}/a?b", timeout=10).text == "{}"
    assert names.asked == [NAME]
    assert re.match(rb"GET /a\?b HTTP/1.1\r\nHost: files.example.com:[0-9]+\r\n", checked.heard[0])
    assert other.heard == []


def test_tls_goes_by_the_name(listen: Listen, names: Names, tls: ssl.SSLContext) -> None:
    server = listen("127.0.0.2", context=tls)
    names.answers[NAME] = [["127.0.0.2"]]
    with connections.session(private_hosts=[NAME]) as http, pytest.raises(requests.exceptions.SSLError):
        http.get(f"https://{NAME}:{server.port}/", timeout=10)
    assert server.names == [NAME]


def test_the_next_answer_is_tried_when_one_does_not_listen(listen: Listen, names: Names) -> None:
    server = listen("127.0.0.3")
    names.answers[NAME] = [["127.0.0.2", "127.0.0.3"]]
    with connections.session(private_hosts=[NAME]) as http:
        assert http.get(f"http://{NAME}:{server.port}/", timeout=10).text == "{}"


@pytest.mark.parametrize("answers", [["127.0.0.2"], ["10.0.0.1"], ["93.184.216.34", "127.0.0.2"]])
def test_nothing_is_connected_to_when_one_answer_is_private(listen: Listen, names: Names, answers: list[str]) -> None:
    server = listen("127.0.0.2")
    names.answers[NAME] = [answers]
    refused = pytest.raises(AddressRefused, match="HUBSPOT_HITL_PRIVATE_HOSTS")
    with connections.session(private_hosts=["example.com"]) as http, refused:
        http.get(f"http://{NAME}:{server.port}/", timeout=10)
    assert server.heard == []


def test_an_ip_address_is_checked_as_well(listen: Listen) -> None:
    with connections.session() as http, pytest.raises(AddressRefused):
        http.get("https://169.254.169.254/latest/meta-data", timeout=10)


def test_a_service_in_a_private_network_has_to_be_named(names: Names, listen: Listen, tls: ssl.SSLContext) -> None:
    server = listen("127.0.0.2", context=tls)
    names.answers["botpress.internal"] = [["127.0.0.2"]]
    told = []
    for private_hosts in ((), ("botpress.internal",)):
        url = f"https://botpress.internal:{server.port}"
        transport = Transport(
            url, ConnectionOptions(clock=ManualClock(), private_hosts=private_hosts), service="Botpress"
        )
        with pytest.raises(HubSpotUnavailable) as raised:
            transport.send("POST", "/x", doing="telling")
        assert not raised.value.ambiguous
        told.append(str(raised.value))
        transport.close()
    assert told[0] == (
        "telling: the address of Botpress leads into a private network; if it should, put its host into "
        "HUBSPOT_HITL_PRIVATE_HOSTS"
    )
    assert told[1] == "telling: Botpress's certificate is not trusted"
    assert server.names == ["botpress.internal"]


@pytest.mark.parametrize("base", ["http://127.0.0.1:{port}", "http://localhost:{port}/"])
def test_a_service_on_this_machine_needs_no_setting(listen: Listen, base: str) -> None:
    server = listen("127.0.0.1")
    transport = Transport(base.format(port=server.port), ConnectionOptions(clock=ManualClock()))
    assert transport.send("GET", "/x?y=1", doing="asking").status == 200
    transport.close()


def test_a_file_is_not_fetched_out_of_a_private_network(listen: Listen, names: Names, tls: ssl.SSLContext) -> None:
    """A subdomain that nobody but a user named, too, though its parent may be in one."""
    inside = listen("127.0.0.2", context=tls)
    for name in (NAME, f"x.{NAME}"):
        names.answers[name] = [["127.0.0.2"]]
    fetcher = Fetcher([NAME], limit=10)
    assert _why(fetcher, f"https://{NAME}/a.png").startswith("its address leads into a private network")
    named = Fetcher([NAME], limit=10, private_hosts=[NAME])
    assert _why(named, f"https://x.{NAME}/a.png").startswith("its address leads into a private network")
    assert _why(named, f"https://{NAME}/a.png") == "its host does not answer"  # nobody listens on port 443
    assert names.asked == [NAME, f"x.{NAME}", NAME]
    assert inside.names == []
    fetcher.close()
    named.close()


def test_a_redirect_is_checked_as_the_first_address_is(listen: Listen, names: Names) -> None:
    names.answers[NAME] = [["10.0.0.1"]]
    first = listen("127.0.0.1")
    first.answer = f"HTTP/1.1 302 Found\r\nLocation: https://{NAME}/a.png\r\nContent-Length: 0\r\n\r\n".encode()
    fetcher = Fetcher(["127.0.0.1", NAME], limit=10)
    assert _why(fetcher, f"http://127.0.0.1:{first.port}/a.png").startswith("its address leads into a private network")
    first.answer = b"HTTP/1.1 302 Found\r\nLocation: https://user@127.0.0.1/\r\nContent-Length: 0\r\n\r\n"
    assert _why(fetcher, f"http://127.0.0.1:{first.port}/a.png") == "its address has a user name before its host"
    fetcher.close()


def test_behind_a_proxy_the_proxy_looks_names_up(listen: Listen, names: Names) -> None:
    proxy = listen("127.0.0.1")
    names.answers[NAME] = [["10.0.0.1"]]
    fetcher = Fetcher([NAME], limit=10, proxy=f"http://127.0.0.1:{proxy.port}")
    assert _why(fetcher, "https://user@files.example.com/a.png") == "its address has a user name before its host"
    assert _why(fetcher, f"https://{NAME}/a.png") == "its host does not answer"  # our proxy speaks no TLS
    assert proxy.heard[0].startswith(b"CONNECT files.example.com:443 HTTP/1.")
    assert names.asked == []
    fetcher.close()


def _why(fetcher: Fetcher, url: str) -> str:
    with pytest.raises(NotFetched) as raised:
        fetcher.fetch(Attachment(url=url))
    return str(raised.value)


def test_a_picture_in_a_private_network_reaches_the_agent_as_a_link(
    names: Names, make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    names.answers[NAME] = [["10.0.0.1"]]
    app = make_app(clock=clock, dispatcher="inline", attachment_hosts=NAME)
    story = Story(app, hubspot, clock, record(app))
    thread = story.start().thread_id
    assert story.send("look", attachments=[Attachment(url=f"https://{NAME}/a.png")])
    story.run(5)
    assert hubspot.thread(thread)["messages"][-1]["text"] == f"look\n[ File: https://{NAME}/a.png ]"
    assert names.asked == [NAME]
