"""HubSpot's own names over TLS, for clients that have them built in: they lead to the stand-in, for one process only.

The front has a certificate for these names by an authority that is made with it and is never written down. A client's
process gets a view of this machine (a mount namespace of Linux) in which the names are in ``/etc/hosts``, and that
authority is trusted. Nothing of the client is changed, nor of the machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trustme

from ..peers.node import give_up
from ..relay import Relay
from .environments import Environment

NAMES = ("api.hubapi.com", "api.hubspot.com", "app.hubspot.com")
HTTPS = 443
RUN_SECONDS = 100.0
# its arguments: pairs of a file and what it stands in for, "--", the command
VIEW = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 97; shift 2; done; shift; exec "$@"'


class Front:
    """The names' server. ``with Front(port, folder) as front``: they lead to ``port`` of this machine.

    :param port: where the stand-in listens.
    :param folder: for the public certificate, the hosts' names and the clients' home folders.
    """

    def __init__(self, port: int, folder: Path) -> None:
        probe = ["unshare", "--mount", "true"]
        if shutil.which("unshare") is None or subprocess.run(probe, capture_output=True, check=False).returncode:
            give_up("HubSpot's names need a mount namespace: Linux's unshare, as root")
        self._folder = folder
        authority = trustme.CA()
        self._bundle = folder / "authority.pem"
        authority.cert_pem.write_to_path(self._bundle)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*NAMES).configure_cert(tls)
        address = free_address()
        self._relay = Relay(("127.0.0.1", port), host=address, port=HTTPS, tls=tls)
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost\n{address} {' '.join(NAMES)}\n", encoding="ascii")

    def __enter__(self) -> Front:
        return self

    def __exit__(self, *exc: object) -> None:
        self._relay.close()

    def command(self, environment: Environment) -> list[str]:
        """Return what runs a client's program with the names leading here.

        :param environment: where the client is.
        """
        view = [str(self._hosts), "/etc/hosts"]
        for store in environment.trust_stores():
            view += [str(self._bundle), str(store)]
        alone = ["unshare", "--mount", "--propagation", "private"]
        return [*alone, "sh", "-c", VIEW, "view", *view, "--", *environment.command]

    def environ(self, **more: str) -> dict[str, str]:
        """Return the environment variables of a client's process: hardly any, and a home folder of its own."""
        home = self._folder / "home"
        home.mkdir(exist_ok=True)
        trust = dict.fromkeys(("SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"), str(self._bundle))
        return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", **trust, **more}

    def run(self, environment: Environment, given: Any, **more: str) -> Any:
        """Run a client's program to its end, and return what it reports.

        :param environment: where the client is.
        :param given: JSON for its standard input.
        :param more: environment variables.
        :returns: the JSON of its last line.
        """
        done = subprocess.run(
            self.command(environment),
            input=json.dumps(given),
            env=self.environ(**more),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    @contextlib.contextmanager
    def serving(self, environment: Environment, given: Any) -> Iterator[Any]:
        """Run a client's program that serves until it is ended.

        :param environment: where the client is.
        :param given: JSON for its standard input.
        :returns: the JSON of its first line.
        """
        with (
            (self._folder / "said").open("w+") as said,
            subprocess.Popen(
                self.command(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                env=self.environ(),
                text=True,
            ) as process,
        ):
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(given) + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                said.seek(0)
                assert line, said.read()[-3000:]
                yield json.loads(line)
            finally:
                process.terminate()


def free_address() -> str:
    """Return an address of this machine's own whose port 443 nobody has, or skip; fails in CI."""
    for _ in range(20):
        address = f"127.{random.randint(2, 254)}.{random.randint(2, 254)}.{random.randint(2, 254)}"
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((address, HTTPS))
            return address
    return give_up("HubSpot's names need port 443 of an address of this machine: root")
