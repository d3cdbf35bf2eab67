"""Install each client into an environment of its own, once: below the user's cache folder, outside the repository."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..peers.node import give_up
from .catalogue import NPM, Client

PROGRAMS = Path(__file__).parent
INSTALL_SECONDS = 200.0
NEWEST = os.environ.get("HITL_CLIENTS") == "newest"
"""Whether the newest versions are run instead of those in the catalogue (``make clients-newest``)."""

Wanted = Iterable[tuple[str, str]]
"""Names of packages with the versions wanted; no version is the newest."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a client is installed."""

    folder: Path
    command: tuple[str, ...]
    """What runs the client's program."""
    versions: dict[str, str]
    """The version that each of the catalogue's packages has here."""

    def trust_stores(self) -> list[Path]:
        """Return the files in it that say whom a Python client trusts, where that is not the system's."""
        return sorted(self.folder.glob("venv/lib/python*/site-packages/certifi/cacert.pem"))


def install(client: Client) -> Environment:
    """Install a client, unless it is there; test workers take turns. Skips where it can't be had, fails in CI.

    :param client: of the catalogue.
    :returns: where it is.
    """
    wanted = client.requirements(newest=NEWEST)
    mark = hashlib.sha256(repr((wanted, platform.python_version())).encode()).hexdigest()[:12]
    folder = _cache() / f"{client.package.strip('@').replace('/', '-')}-{mark}"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if NEWEST or not (folder / "installed").exists():
            if client.registry == NPM:
                _npm(folder, wanted)
            else:
                _pip(folder, wanted, client.extra)
            (folder / "installed").touch()
        if client.registry == NPM:  # Node looks for packages from where the program is
            program = shutil.copy(PROGRAMS / client.program, folder)
            versions = {name: _npm_version(folder, name) for name, _ in wanted}
            return Environment(folder, ("node", str(program)), versions)
    versions = {name: _pip_version(folder, name) for name, _ in wanted}
    python = folder / "venv" / "bin" / "python"
    return Environment(folder, (str(python), "-I", str(PROGRAMS / client.program)), versions)


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask-hubspot-hitl" / "clients"


def _npm(folder: Path, wanted: Wanted) -> None:
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        give_up("node and npm are not installed")
    manifest = {"private": True, "dependencies": {name: version or "latest" for name, version in wanted}}
    (folder / "package.json").write_text(json.dumps(manifest), encoding="utf-8")
    (folder / "package-lock.json").unlink(missing_ok=True)
    _run(str(npm), "install", "--ignore-scripts", "--no-audit", "--no-fund", cwd=folder)


def _npm_version(folder: Path, name: str) -> str:
    manifest = json.loads((folder / "node_modules" / name / "package.json").read_text(encoding="utf-8"))
    return str(manifest["version"])


def _pip(folder: Path, wanted: Wanted, extra: str) -> None:
    venv = folder / "venv"
    if not (venv / "bin" / "python").exists():
        _run(sys.executable, "-m", "venv", "--without-pip", str(venv))
    pip = [sys.executable, "-m", "pip", "--python", str(venv), "install", "--quiet", "--disable-pip-version-check"]
    newest = ["--upgrade", "--upgrade-strategy", "eager"] if NEWEST else []
    # compiled when it is first run: most of a client's modules never are
    packages = [f"{name}=={version}" if version else name for name, version in wanted]
    if extra:  # of the first, the client itself
        name, equals, version = packages[0].partition("==")
        packages[0] = f"{name}[{extra}]{equals}{version}"
    _run(*pip, "--no-compile", *newest, *packages)


def _pip_version(folder: Path, name: str) -> str:
    (found,) = (folder / "venv").glob(f"lib/python*/site-packages/{name.replace('-', '_')}-*.dist-info")
    return found.name.removesuffix(".dist-info").rpartition("-")[2]


def _run(*command: str, cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        give_up(f"{' '.join(command[:4])} … takes too long")
    if done.returncode != 0:
        give_up(f"{' '.join(command[:4])} … failed: {done.stderr[-300:]}")
