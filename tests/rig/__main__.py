"""``python -m tests.rig --kills 100 --database sqlite|postgresql --seed N [--mutant NAME] [--json FILE]``.

``--seeds 20``: as many short runs, each with the next seed and with all of HubSpot's troubles at once.
``--journal``: another rig, which kills whoever reads HubSpot's journal; see ``journal.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .. import databases
from . import journal
from .campaign import Plan, run
from .mutants import MUTANTS
from .oracle import Verdict, line, table, total

BAR = 30
KILLS, STORM_KILLS = 100, 4
IN_A_STORM: dict[str, Any] = {"storm": True, "chats": 6, "threads": 12}


def show(what: str, done: int, of: int) -> None:
    """A progress bar on standard error."""
    filled = BAR * done // max(of, 1)
    ends = "\n" if done >= of else ""
    if sys.stderr.isatty() or ends:
        print(f"\r{what:8} [{'#' * filled}{'.' * (BAR - filled)}] {done}/{of}", end=ends, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    found.add_argument("--kills", type=int, help=f"how often everything is killed ({KILLS}; {STORM_KILLS} a seed)")
    found.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    found.add_argument("--seed", type=int, default=1, help="of every random choice (default: %(default)s)")
    found.add_argument("--seeds", type=int, help="so many runs, with all of HubSpot's troubles at once")
    found.add_argument("--workers", type=int, default=0, help="dispatch in so many worker processes, not in the server")
    found.add_argument("--mutant", choices=sorted(MUTANTS), help="break the product: the run must fail")
    found.add_argument("--all-on", action="store_true", help="with all that is off by default: notes, READ, timers …")
    found.add_argument("--journal", action="store_true", help="kill the reader of HubSpot's journal, and no more")
    found.add_argument("--json", type=Path, help="a file for machines to read")
    return found


def main() -> int:
    """Run it and print the table. 1 when there is a fault."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing we started stays behind
    if options.journal:
        return read_the_journal(options)
    seeds = range(options.seed, options.seed + (options.seeds or 1))
    facts = {"database": options.database, "seed": options.seed, "workers": options.workers}
    if options.seeds:
        facts["seeds"] = options.seeds
    if options.mutant:
        facts["mutant"] = options.mutant
    begun = time.monotonic()
    verdicts = []
    with contextlib.ExitStack() as stack:
        server: str | None = None
        if options.database == "postgresql":
            server = stack.enter_context(databases.postgresql_server())
        for seed in seeds:
            verdicts.append(campaign(options, seed, server))
            if options.seeds:
                print(line(verdicts[-1], seed), flush=True)
    verdict = total(verdicts)
    facts["seconds"] = round(time.monotonic() - begun)
    print(table(verdict, facts), flush=True)
    if options.json:
        options.json.write_text(json.dumps({**facts, **verdict.as_json()}, indent=2) + "\n")
    return 0 if verdict.passed else 1


def read_the_journal(options: argparse.Namespace) -> int:
    """One run of ``journal.py``. 1 when there is a fault."""
    folder, begun = Path(tempfile.mkdtemp(prefix="hitl-rig-")), time.monotonic()
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder / 'database' / 'hitl.sqlite3'}"
        if options.database == "postgresql":
            server = stack.enter_context(databases.postgresql_server())
            url = stack.enter_context(databases.postgresql_database(server))
        kills = KILLS if options.kills is None else options.kills
        verdict = journal.run(url, folder, kills=kills, seed=options.seed, progress=show)
    facts = {"database": options.database, "seed": options.seed, "seconds": round(time.monotonic() - begun)}
    print(verdict.text(facts), flush=True)
    if verdict.passed:
        shutil.rmtree(folder)
    else:
        print(f"the witness and the worker's log are in {folder}", flush=True)
    return 0 if verdict.passed else 1


def campaign(options: argparse.Namespace, seed: int, server: str | None) -> Verdict:
    """One run with a database of its own. What it leaves on disk stays when there is a fault."""
    folder = Path(tempfile.mkdtemp(prefix="hitl-rig-"))
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder / 'database' / 'hitl.sqlite3'}"
        if server is not None:
            url = stack.enter_context(databases.postgresql_database(server))
        plan = Plan(
            database_url=url,
            folder=folder,
            kills=options.kills if options.kills is not None else STORM_KILLS if options.seeds else KILLS,
            seed=seed,
            workers=options.workers,
            mutant=options.mutant,
            all_on=options.all_on,
            **(IN_A_STORM if options.seeds else {}),
        )
        verdict = run(plan, show)
    if verdict.passed:
        shutil.rmtree(folder)
    else:
        print(f"seed {seed}: the witness and the server's log are in {folder}", flush=True)
    return verdict


if __name__ == "__main__":
    sys.exit(main())
