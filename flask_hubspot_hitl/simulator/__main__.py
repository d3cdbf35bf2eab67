"""``python -m flask_hubspot_hitl.simulator --port N``: serve the stand-in until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import ipaddress
import json
import logging
import re
import secrets
import sys

from .app import create_app
from .behaviour import people
from .engine.chaos import MEANINGS, Chaos
from .engine.recording import Recording
from .engine.simulation import Simulation
from .model import preset
from .model.errors import ApiError
from .serving import listening, port, serve_until_told, server_on

PORT = 8200
"""Where the stand-in listens, unless somebody else does."""
PUBLIC_URL = "http://localhost:5000"
"""Where ``flask run`` serves an app."""


def is_loopback(host: str) -> bool:
    """Return True when an address to listen on can only be reached from this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def contact(text: str) -> dict[str, str]:
    """Read a contact from the command line: ``KEY=VALUE,…``."""
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", key, re.ASCII) and value.strip() for key, _, value in pairs):
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE,… such as email=ana@example.com,firstname=Ana")
    return {key: value.strip() for key, _, value in pairs}


def checked(given: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the contacts of the command line. Raises ApiError for an address that is none, or that another has."""
    trial = Simulation()
    for one in given:
        people.make_contact(trial, preset.PORTAL_ID, dict(one))
    return [one | {"email": one["email"].lower()} if "email" in one else one for one in given]


def settings_lines(sim: Simulation, public_url: str) -> list[str]:
    """The preset app's settings as lines for a ``.env`` file, under the names that Flask reads, and a secret key."""
    made = sim.world.installs[preset.APP_ID, preset.PORTAL_ID]
    values = {**preset.env(sim.world, made, sim.base_url), "HUBSPOT_HITL_PUBLIC_URL": public_url}
    return [f"FLASK_{name}={value}" for name, value in {"SECRET_KEY": secrets.token_urlsafe(32), **values}.items()]


def main(arguments: list[str] | None = None, *, prog: str = "python -m flask_hubspot_hitl.simulator") -> int:
    """Parse the command line, and serve until SIGTERM.

    :param arguments: what follows the command's name; by default the process's own.
    :param prog: the command's name, for its help.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog=prog, description="The stand-in for HubSpot: serves until SIGTERM or Ctrl-C.")
    parser.add_argument(
        "--port", type=port, help=f"the port to listen on; 0 takes a free one (default: {PORT}, if nobody has it)"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--control-token", help="asked for on /_sim/*; needed with an address others can reach")
    parser.add_argument("--allow-host", action="append", default=[], help="a further name it is reached by")
    parser.add_argument(
        "--env",
        nargs="?",
        const=PUBLIC_URL,
        metavar="PUBLIC_URL",
        help="print the settings of an app that is served at PUBLIC_URL (default: %(const)s), as lines for .env",
    )
    parser.add_argument(
        "--contact",
        action="append",
        default=[],
        type=contact,
        metavar="KEY=VALUE,…",
        help="a further contact: email, phone, firstname, lastname, …; may be given more than once",
    )
    parser.add_argument(
        "--chaos",
        action="append",
        default=[],
        metavar="KEY=VALUE,…",
        help="switches to begin with and to go back to on a reset; `--chaos help` lists them",
    )
    parser.add_argument(
        "--deliver",
        action="append",
        default=[],
        metavar="FROM=TO",
        help="connect to TO for webhook URLs that begin with FROM; what is signed stays the registered URL",
    )
    parser.add_argument("--record", metavar="FILE", help="write every API call and delivery, without secrets")
    parser.add_argument("--redact-text", action="store_true", help="with --record: without what people wrote, too")
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    if options.chaos == ["help"]:
        print(
            "\n".join(f"{name}={json.dumps(value)}\n    {MEANINGS[name]}" for name, value in Chaos().values().items())
        )
        return 0
    if not is_loopback(options.host) and not options.control_token:
        parser.error("--host other than loopback needs --control-token")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        sim = Simulation(
            control_token=options.control_token,
            chaos=options.chaos,
            deliver=options.deliver,
            contacts=checked(options.contact),
        )
    except (ApiError, ValueError) as problem:
        parser.error(str(problem))
    sim.allowed_hosts = frozenset(name.lower() for name in options.allow_host)
    if options.record:
        try:
            sim.recording = Recording(options.record, redact_text=options.redact_text)
        except OSError as problem:
            parser.error(f"--record {options.record}: {problem.strerror}")
    try:
        listener = listening(options.host, options.port, PORT)
    except OSError as problem:
        parser.error(f"can't listen on {options.host} port {options.port or PORT}: {problem.strerror}")
    server = server_on(listener, options.host, create_app(sim))
    name = options.allow_host[0] if options.allow_host else options.host
    shown = f"[{name}]" if ":" in name else name
    sim.base_url = f"http://{shown}:{server.port}"

    lines = [f"HubSpot stand-in: {sim.base_url}/  (settings: {sim.base_url}/_sim/env)"]
    if options.env:
        lines = [f"# {lines[0]}", *settings_lines(sim, options.env)]
    serve_until_told(server, "\n".join(lines), with_stdin=options.stop_with_stdin)
    if sim.recording is not None:
        with sim.lock:
            sim.recording.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
