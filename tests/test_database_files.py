"""A SQLite database's files: what becomes of what is accepted when somebody takes them away under the running app."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flask_hubspot_hitl import LedgerUnavailable
from flask_hubspot_hitl.clock import SystemClock
from flask_hubspot_hitl.ledger import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "hitl.sqlite3"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with contextlib.closing(opened(path)) as made:
        yield made


def opened(path: Path) -> Ledger:
    ledger = Ledger(f"sqlite:///{path}", SystemClock())
    ledger.create()
    return ledger


def put(ledger: Ledger, name: str) -> None:
    with ledger.write() as tx:
        tx.set_meta(name, "kept")


def kept(path: Path) -> set[str]:
    """What another process finds there."""
    with contextlib.closing(opened(path)) as other, other.read() as tx:
        return {name for name in NAMES if tx.get_meta(name) == "kept"}


NAMES = [f"n{number}" for number in range(8)]


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def removed_with_its_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def replaced_by_another_store(path: Path) -> None:
    opened(path.with_name("other")).close()
    os.replace(path.with_name("other"), path)


def replaced_by_nothing(path: Path) -> None:
    path.unlink()
    path.touch()


def copied_over_by_another_store(path: Path) -> None:
    opened(path.with_name("other")).close()
    shutil.copyfile(path.with_name("other"), path)


def copied_over_by_something_else(path: Path) -> None:
    path.write_bytes(b"no database at all" * 1000)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (moved, "is gone"),
        (removed_with_its_folder, "is gone|can't be opened"),
        (replaced_by_another_store, "another file"),
        (replaced_by_nothing, "another file"),
        (copied_over_by_another_store, "copied over"),
        (copied_over_by_something_else, "copied over"),
    ],
)
def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    ledger: Ledger, path: Path, harm: Callable[[Path], None], words: str
) -> None:
    put(ledger, "n0")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # as SQLite does by itself now and then
    with ledger.read() as tx:
        assert tx.get_meta("n0") == "kept"
    harm(path)
    there = path.exists()
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=words):
            put(ledger, "n1")
    with pytest.raises(LedgerUnavailable, match=words), ledger.read() as tx:
        tx.get_meta("n0")
    assert path.exists() == there, "no empty database was made in its place"


def test_a_file_that_goes_while_it_is_written_to_is_missed_before_anybody_is_told_otherwise(
    ledger: Ledger, path: Path
) -> None:
    with pytest.raises(LedgerUnavailable, match="is gone"), ledger.write():
        moved(path)


def test_it_goes_on_when_the_file_is_back(ledger: Ledger, path: Path) -> None:
    put(ledger, "n0")
    moved(path)
    with pytest.raises(LedgerUnavailable):
        put(ledger, "n1")
    path.with_name("elsewhere").rename(path)
    put(ledger, "n2")
    assert kept(path) == {"n0", "n2"}


def replaced_by_its_backup(path: Path) -> None:
    path.with_name("backup").rename(path)


@pytest.mark.parametrize("harm", [replaced_by_its_backup, moved])
def test_an_older_copy_of_the_same_store_is_used_only_after_a_restart(
    ledger: Ledger, path: Path, harm: Callable[[Path], None]
) -> None:
    put(ledger, "n0")
    backup = path.with_name("backup")
    with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(backup)) as copy:
        source.backup(copy)
    put(ledger, "n1")
    harm(path)
    if not path.exists():
        with pytest.raises(LedgerUnavailable, match="is gone"):
            put(ledger, "n2")
        replaced_by_its_backup(path)
    for _ in range(3):
        with pytest.raises(LedgerUnavailable, match=r"another file .* start it again"):
            put(ledger, "n2")
    ledger.close()
    assert kept(path) == {"n0"}
    with contextlib.closing(opened(path)) as restarted:
        put(restarted, "n3")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert kept(path) == {"n0", "n3"}


def linked(path: Path) -> None:
    """The file was moved to another place, and a link leads there."""
    moved(path)
    path.symlink_to("elsewhere")


def test_nothing_is_acknowledged_into_a_log_beside_a_link_that_took_the_files_place(ledger: Ledger, path: Path) -> None:
    acknowledged = set()
    with contextlib.closing(opened(path)) as other_process:
        for number, name in enumerate(NAMES[:6]):
            if number == 2:
                linked(path)
                with pytest.raises(LedgerUnavailable, match="stop every process"):
                    put(ledger, "n7")
            with contextlib.suppress(LedgerUnavailable):
                put((ledger, other_process)[number % 2], name)
                acknowledged.add(name)
        crashed = path.parent.with_name("crashed")  # as the disk looks after the power is cut
        shutil.copytree(path.parent, crashed, symlinks=True)
    assert kept(crashed / path.name) == acknowledged
    put(ledger, "n6")  # nobody uses the log beside the link any more
    assert kept(path) == acknowledged | {"n6"}


def test_the_files_beside_what_a_link_leads_to_are_watched(path: Path) -> None:
    path.parent.mkdir()
    target = path.with_name("elsewhere")
    target.touch()
    path.symlink_to(target.name)
    acknowledged = set()
    with contextlib.closing(opened(path)) as ledger:
        for number, name in enumerate(NAMES):
            with contextlib.suppress(LedgerUnavailable):
                put(ledger, name)
                acknowledged.add(name)
            if number == 3:
                target.with_name(f"{target.name}-wal").unlink()
        assert len(acknowledged) >= 5, "it goes on"
        crashed = path.parent.with_name("crashed")
        shutil.copytree(path.parent, crashed, symlinks=True)
    assert kept(crashed / path.name) >= acknowledged


def test_a_link_that_leads_elsewhere_is_missed(path: Path) -> None:
    path.parent.mkdir()
    for name in ("first", "second"):
        opened(path.with_name(name)).close()
    path.symlink_to("first")
    with contextlib.closing(opened(path)) as ledger:
        put(ledger, "n0")
        path.unlink()
        path.symlink_to("second")
        with pytest.raises(LedgerUnavailable):
            put(ledger, "n1")
        path.unlink()
        path.symlink_to("first")
        put(ledger, "n2")
    assert kept(path) == {"n0", "n2"}


@pytest.mark.parametrize("suffixes", [["-wal"], ["-shm"], ["-wal", "-shm"], [".lock"], ["-wal", "-shm", ".lock"]])
def test_what_was_acknowledged_survives_the_loss_of_the_files_beside_it(
    ledger: Ledger, path: Path, suffixes: list[str]
) -> None:
    acknowledged = set()
    for number, name in enumerate(NAMES):
        with contextlib.suppress(LedgerUnavailable):
            put(ledger, name)
            acknowledged.add(name)
        if number == 3:
            for suffix in suffixes:
                path.with_name(path.name + suffix).unlink()
    assert len(acknowledged) >= 5, "it goes on"
    crashed = path.parent.with_name("crashed")  # as the disk looks after the power is cut
    shutil.copytree(path.parent, crashed)
    assert kept(crashed / path.name) >= acknowledged
