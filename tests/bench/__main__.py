"""``python -m tests.bench``: how fast it is, each figure beside a yardstick of the same run."""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from . import (
    against,
    dispatch,
    growth,
    imports,
    intake,
    latency,
    machine,
    memory,
    outbound,
    parts,
    seam,
    versions,
    waiting,
)
from .figures import Figure, table
from .stage import DATABASES, Stage

SUBJECTS: dict[str, Callable[[Stage], Iterator[Figure]]] = {
    "imports": imports.run,
    "intake": intake.run,
    "dispatch": dispatch.run,
    "latency": latency.run,
    "outbound": outbound.run,
    "growth": growth.run,
    "memory": memory.run,
}
ASKED_FOR: dict[str, Callable[[Stage], Iterator[Figure]]] = {"seam": seam.run, "waiting": waiting.run}
"""Take long, and answer questions of ours only: left out unless ``--only`` names them."""


def say(text: str) -> None:
    """What is going on, over the last such line when somebody looks, else below it."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    made.add_argument(
        "--only", action="append", choices={**SUBJECTS, **ASKED_FOR}, help="only this subject; may be given again"
    )
    made.add_argument("--database", action="append", choices=DATABASES, help="only on this one")
    made.add_argument("--rounds", type=int, help="how often each is measured (default: 5, with --quick 2)")
    made.add_argument("--quick", action="store_true", help="less of everything: all of it in a few minutes")
    made.add_argument(
        "--before", metavar="PATH", type=Path, help="an older version's files, measured in turn (waiting)"
    )
    made.add_argument(
        "--against", action="append", metavar="REV", help="measure git's REV beside this version; may be given again"
    )
    made.add_argument("--json", metavar="FILE", help="write the figures to a file as well, or to '-' instead")
    made.add_argument("--profile", choices=("intake", "dispatch"), help="show where the time goes, and measure nothing")
    made.add_argument("--instructions", action="store_true", help="count instructions, which are the same at any load")
    return made


def main() -> int:
    """Measure and print. It judges nothing: the exit status is 0."""
    options = parser().parse_args()
    chosen = tuple(options.database or DATABASES)
    rounds = options.rounds or (2 if options.quick else 5)
    figures: list[Figure] = []
    rows: list[against.Row] = []
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends what was started
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hitl-bench-")))
        stage = Stage(stack, folder, say=say, chosen=chosen, rounds=rounds, quick=options.quick, before=options.before)
        others = [versions.of_git(one, folder) for one in dict.fromkeys(options.against or ())]
        compared = [versions.at_hand(folder), *others]
        if options.profile:
            parts.profile(stage, compared, options.profile)
            return 0
        facts = machine.facts(folder)
        if options.instructions:
            rows = parts.instructions(stage, compared)
        elif options.against:
            rows = against.run(stage, compared, options.only or ())
        else:
            for name in options.only or SUBJECTS:
                stage.say(name)
                figures += {**SUBJECTS, **ASKED_FOR}[name](stage)
    say(f"{time.monotonic() - began:.0f} s\n")
    told = {"machine": facts, "rounds": rounds, "figures": [one.to_json() for one in (rows or figures)]}
    if options.json == "-":
        print(json.dumps(told, indent=2))
        return 0
    if options.json:
        Path(options.json).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(against.table(rows) if rows else table(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
