"""``python -m example_app --port N``: serve the app on this machine with waitress, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from types import FrameType

import click
import waitress

from .app import create_app


def _stop(_number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


@click.command()
@click.option("--port", default=0, type=click.IntRange(0, 65535), help="The port to listen on; 0 takes a free one.")
@click.option("--settings-from-stdin", is_flag=True, help="Wait for more of the environment, a line of JSON.")
def main(port: int, settings_from_stdin: bool) -> None:
    """Serve the example app on this machine; its address is the first line printed."""
    signal.signal(signal.SIGTERM, _stop)
    if settings_from_stdin:
        os.environ.update(json.loads(sys.stdin.readline() or sys.exit(1)))
    listener = socket.socket()
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        raise click.ClickException(f"Port {port} can't be used: {error.strerror}.") from None
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    os.environ.setdefault("HUBSPOT_HITL_PUBLIC_URL", address)
    app = create_app()
    click.echo(f"Chat: {address}/")
    sys.stdout.flush()
    waitress.serve(app, sockets=[listener], threads=8)


if __name__ == "__main__":
    main()
