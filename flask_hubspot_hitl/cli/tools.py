"""``flask hubspot-hitl sign|simulate|replay``: for a developer's own machine; ``queue`` has what an operator needs."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from collections import Counter
from pathlib import Path
from typing import IO

import click
from flask.cli import with_appcontext

from ..hubspot import signature
from .common import app_runtime


def _http_url(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(r"https?://[!-~]+", value):
        raise click.BadParameter("must be a whole address, such as http://127.0.0.1:5000/hubspot/webhook")
    return value


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@click.option("--url", callback=_http_url, help="The URL to sign; by default the configured webhook URL.")
@click.option("--to", callback=_http_url, help="With --curl: where to send it, when that is not the URL signed.")
@click.option("--version", type=click.Choice(["v3", "v1"]), default="v3", show_default=True)
@click.option("--timestamp", type=click.IntRange(0, 10**15 - 1), help="Epoch milliseconds; by default now.")
@click.option("--curl", is_flag=True, help="Print a whole curl command.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@with_appcontext
def sign(
    file: IO[bytes], url: str | None, to: str | None, version: str, timestamp: int | None, curl: bool, as_json: bool
) -> None:
    """Print the headers with which HubSpot would send the body in FILE, or on standard input.

    A signature is good for five minutes: 'sign body.json | curl -H @- --data-binary @body.json URL'.
    """
    settings = app_runtime().settings
    signed = url or settings.webhook_urls()[0]
    body = file.read()
    stamp = app_runtime().ledger.wall_ms() if timestamp is None else timestamp
    headers = {"Content-Type": "application/json"} | signature.headers(
        version, secret=settings.client_secret[0], uri=signed, body=body, timestamp=stamp
    )
    if version not in settings.signature_versions:
        click.echo(f"This app refuses {version}: see HUBSPOT_HITL_SIGNATURE_VERSIONS.", err=True)
    elif version == "v1" and not body.lstrip().startswith(b"["):
        click.echo("This app takes v1 for arrays only: an object would be refused.", err=True)
    if curl:
        click.echo(_curl(headers, to or signed, getattr(file, "name", "-"), body))
    elif as_json:
        click.echo(json.dumps(headers))
    else:
        click.echo("\n".join(f"{name}: {value}" for name, value in headers.items()))


def _curl(headers: dict[str, str], url: str, name: str, body: bytes) -> str:
    """A command line that sends ``body``: from its file, or, when it came on standard input, spelled out."""
    if Path(name).is_file():
        data = f"@{name}"
    else:
        try:
            data = body.decode()
        except UnicodeDecodeError:
            raise click.ClickException("This body is no text: put it into a file, and name the file.") from None
        if data.startswith("@") or "\0" in data:
            raise click.ClickException("curl would misread this body: put it into a file, and name the file.")
    words = ["curl", "-i", *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}"))]
    return shlex.join([*words, "--data-binary", data, url])


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def simulate(arguments: tuple[str, ...]) -> None:
    """Run the stand-in for HubSpot on this machine; needs no app. See 'simulate --help'."""
    from ..simulator.__main__ import main

    raise SystemExit(main(list(arguments), prog="flask hubspot-hitl simulate"))


@click.command()
@click.argument("file", type=click.File("r", encoding="utf-8"))
@click.option("--shuffle", is_flag=True, help="In any order.")
@click.option("--duplicate", is_flag=True, help="Each of them twice.")
@click.option("--seed", type=int, help="Of --shuffle: the same seed is the same order.")
@click.option("--to", callback=_http_url, help="Where to send them, when that is not the configured webhook URL.")
@click.option("--json", "as_json", is_flag=True, help="For machines: one object a line.")
@with_appcontext
def replay(file: IO[str], shuffle: bool, duplicate: bool, seed: int | None, to: str | None, as_json: bool) -> None:
    """Deliver to this app what 'simulate --record FILE' recorded, signed afresh.

    Fails when a delivery is not answered with a 2xx.
    """
    from ..simulator.engine import replay as recorded

    settings = app_runtime().settings
    try:
        found = recorded.read(file)
    except ValueError as error:
        raise click.ClickException(f"{file.name}: {error}.") from None
    if not found:
        raise click.ClickException(f"{file.name} holds no delivery.")
    if shuffle:
        seed = secrets.randbelow(10**6) if seed is None else seed
        click.echo(f"Shuffled with --seed {seed}.", err=True)
    url = settings.webhook_urls()[0]
    statuses: Counter[str] = Counter()
    chosen = recorded.arrange(found, shuffle=shuffle, duplicate=duplicate, seed=seed or 0)
    sent = recorded.deliver(chosen, url=url, to=to or url, secret=settings.client_secret[0])
    for number, (one, status) in enumerate(sent, start=1):
        statuses[str(status or "no answer")] += 1
        facts = {"number": number, "status": status, "feed": one.feed, "title": recorded.title(one.body)}
        line = f"{number:>5}  {status or 'no answer'}  {one.feed:<7}  {facts['title']}"
        click.echo(json.dumps(facts) if as_json else line)
    click.echo(f"{len(chosen)} sent: {', '.join(f'{count} × {name}' for name, count in statuses.items())}.", err=True)
    bad = sum(count for name, count in statuses.items() if not name.startswith("2"))
    if bad:
        raise click.ClickException(f"{bad} of {len(chosen)} were not accepted.")
