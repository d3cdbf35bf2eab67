"""Versions of the project, each in a folder of its own: the one at hand, and any that git knows.

``git archive`` writes an older one: it has the files of a work tree, and leaves nothing behind in the repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from .stage import ROOT

NOW = "now"
MODULE = "bench_app"
"""What ``public.py`` is called where it is run, beside a version's package."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version's files, in ``folder``; its processes are run in ``place``, where nothing else is."""

    name: str
    folder: Path
    place: Path

    def environment(self) -> dict[str, str]:
        """What makes a process run this version's package, with the packages that are installed here.

        Modules are compiled once, as in an installed package, even where the environment forbids that.
        """
        return {
            "PYTHONPATH": f"{self.folder}:{self.place}",
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.place / "compiled"),
            "BENCH_FOLDER": str(self.folder),
        }

    def run(self, arguments: list[str], settings: dict[str, str], *, before: tuple[str, ...] = ()) -> str:
        """Run Python to its end.

        :param before: a command that Python is run by.
        :returns: what it printed.
        :raises RuntimeError: when it failed.
        """
        command: list[Any] = [*before, sys.executable, *arguments]
        environment = {**os.environ, **self.environment(), **settings}
        done = subprocess.run(command, env=environment, cwd=self.place, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {arguments} ended with {done.returncode}:\n{done.stderr[-3000:]}")
        return done.stdout


def at_hand(folder: Path) -> Version:
    """Return the files of this work tree, as they are."""
    return Version(NOW, ROOT, _place(folder, NOW))


def of_git(revision: str, folder: Path) -> Version:
    """Write the files of a revision below a folder.

    :raises SystemExit: when git knows no such revision.
    """
    shown = subprocess.run(["git", "archive", "--format=tar", revision], cwd=ROOT, capture_output=True)
    if shown.returncode != 0:
        raise SystemExit(f"git has no revision {revision!r}: {shown.stderr.decode().strip()}")
    name = revision.replace("/", "-")
    with tarfile.open(fileobj=BytesIO(shown.stdout)) as files:
        files.extractall(folder / f"files-{name}", filter="data")
    return Version(revision, folder / f"files-{name}", _place(folder, name))


def _place(folder: Path, name: str) -> Path:
    place = folder / f"run-{name}"
    place.mkdir()
    shutil.copy(Path(__file__).with_name("public.py"), place / f"{MODULE}.py")
    return place
