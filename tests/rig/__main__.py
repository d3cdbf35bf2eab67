"""``python -m tests.rig --kills 100 --database sqlite|postgresql --seed N [--mutant NAME] [--json FILE]``."""

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

from .. import databases
from .campaign import Plan, run
from .mutants import MUTANTS
from .oracle import table

BAR = 30


def show(what: str, done: int, of: int) -> None:
    """A progress bar on standard error."""
    filled = BAR * done // max(of, 1)
    ends = "\n" if done >= of else ""
    if sys.stderr.isatty() or ends:
        print(f"\r{what:8} [{'#' * filled}{'.' * (BAR - filled)}] {done}/{of}", end=ends, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    found.add_argument("--kills", type=int, default=100, help="how often everything is killed (default: %(default)s)")
    found.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    found.add_argument("--seed", type=int, default=1, help="of every random choice (default: %(default)s)")
    found.add_argument("--workers", type=int, default=0, help="dispatch in so many worker processes, not in the server")
    found.add_argument("--mutant", choices=sorted(MUTANTS), help="break the product: the run must fail")
    found.add_argument("--json", type=Path, help="a file for machines to read")
    return found


def main() -> int:
    """Run it and print the table. 1 when there is a fault."""
    options = parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing we started stays behind
    folder = Path(tempfile.mkdtemp(prefix="hitl-rig-"))
    with contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder / 'database' / 'hitl.sqlite3'}"
        if options.database == "postgresql":
            url = stack.enter_context(databases.postgresql_database(stack.enter_context(databases.postgresql_server())))
        plan = Plan(
            database_url=url,
            folder=folder,
            kills=options.kills,
            seed=options.seed,
            workers=options.workers,
            mutant=options.mutant,
        )
        begun = time.monotonic()
        verdict = run(plan, show)
        seconds = round(time.monotonic() - begun)
    facts = {"database": options.database, "seed": options.seed, "workers": options.workers, "seconds": seconds}
    if options.mutant:
        facts["mutant"] = options.mutant
    print(table(verdict, facts), flush=True)
    if options.json:
        options.json.write_text(json.dumps({**facts, **verdict.as_json()}, indent=2) + "\n")
    if verdict.passed:
        shutil.rmtree(folder)
        return 0
    print(f"The witness and the server's log are in {folder}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
