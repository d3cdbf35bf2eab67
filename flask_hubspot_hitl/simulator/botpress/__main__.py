"""``python -m flask_hubspot_hitl.simulator.botpress --port N``: serve the stand-in until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import sys

from ..serving import listening, port, serve_until_told, server_on
from .app import create_app
from .world import BotpressWorld

PORT = 8300
"""Where the stand-in listens, unless somebody else does."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, and serve on loopback until SIGTERM.

    :param arguments: what follows the command's name; by default the process's own.
    :returns: the exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m flask_hubspot_hitl.simulator.botpress", description=__doc__)
    parser.add_argument(
        "--port", type=port, help=f"the port to listen on; 0 takes a free one (default: {PORT}, if nobody has it)"
    )
    parser.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    world = BotpressWorld()
    try:
        listener = listening("127.0.0.1", options.port, PORT)
    except OSError as problem:
        parser.error(f"can't listen on port {options.port or PORT}: {problem.strerror}")
    server = server_on(listener, "127.0.0.1", create_app(world))
    world.base_url = f"http://127.0.0.1:{server.port}"

    first_line = f"Botpress stand-in: {world.base_url}/  (settings: {world.base_url}/_sim/env)"
    serve_until_told(server, first_line, with_stdin=options.stop_with_stdin)
    return 0


if __name__ == "__main__":
    sys.exit(main())
