"""Look, without running anything, whether the package fits Pythons that are newer than the one at hand.

For each: the types as that Python's standard library has them, with what is gone or deprecated there; whether every
dependency at run time allows it; and whether pip finds wheels for it. What could not be looked at is said.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from configparser import ConfigParser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

NEWER = ("3.12", "3.13", "3.14")
EXTRAS = ("postgresql", "prometheus", "opentelemetry", "demo")
CHECKED = ("flask_hubspot_hitl", "example_app")
ROOT = Path(__file__).parents[1]


def wanted() -> list[str]:
    """What ``setup.cfg`` asks for at run time."""
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = setup["options.extras_require"]
    lines = "\n".join([setup["options"]["install_requires"], *(extras[name] for name in EXTRAS)]).split("\n")
    return [line for line in lines if line]


def closure(lines: list[str]) -> dict[str, str]:
    """Each distribution that comes along, and the Pythons that it allows."""
    found: dict[str, str] = {}
    waiting = [Requirement(line) for line in lines]
    while waiting:
        one = waiting.pop()
        if one.name in found:
            continue
        held = distribution(one.name)
        found[one.name] = held.metadata.get("Requires-Python") or ""
        for line in held.requires or ():
            more = Requirement(line)
            if more.marker is None or any(more.marker.evaluate({"extra": extra}) for extra in (one.extras or {""})):
                waiting.append(more)
    return found


def told(*command: str) -> str:
    """What a command complains of; empty when it does not."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - ours, below
    return "" if done.returncode == 0 else done.stdout + done.stderr


def troubles(python: str, allowed: dict[str, str]) -> list[str]:
    """What keeps the package from this Python."""
    mypy = (sys.executable, "-m", "mypy", "--python-version", python, "--enable-error-code", "deprecated")
    found = [told(*mypy, *(part for name in CHECKED for part in ("-p", name)))]
    found += [
        f"{name} wants Python {pythons}" for name, pythons in allowed.items() if python not in SpecifierSet(pythons)
    ]
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--target", folder)
        found.append(told(*pip, "--python-version", python, "--only-binary=:all:", *wanted()))
    return [one for one in found if one]


def main() -> int:
    """Look at each, say what was found, and exit with 1 if that was anything."""
    allowed = closure(wanted())
    bad = 0
    for python in NEWER:
        print(f"Python {python}: types, deprecations, {len(allowed)} distributions and their wheels ...", flush=True)
        for trouble in troubles(python, allowed):
            bad += 1
            print(f"Python {python}: {trouble}")
    print(
        f"Nothing was run on {', '.join(NEWER)}: 'make test PYTHON=python{NEWER[-1]}' in a fresh clone runs the tests."
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
