"""The crash rig in its bounded form, and proof that it bites: its oracle, and four mutants that must fail it."""

from __future__ import annotations

import dataclasses
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from flask_hubspot_hitl.simulator.engine.chaos import MEANINGS, Chaos
from flask_hubspot_hitl.simulator.engine.switches import chance

from .rig import journal
from .rig.campaign import Plan, run
from .rig.mutants import MUTANTS
from .rig.oracle import Chat, Emission, Evidence, Told, Verdict, judge, line, table, total
from .rig.weather import ANSWERS, STORM

KILL = (10.0, 10.1)


# --- the oracle ------------------------------------------------------------------------------------------


def told(number: int, acked_at: float) -> Told:
    return Told(key=f"message:m{number}", thread="t1", time=number, acked_at=acked_at)


def heard(number: int, at: float, *, life: str = "a") -> Emission:
    return Emission(at=at, life=life, kind="message", thread="t1", conversation="c1", time=number, key=f"m{number}")


def fate(kind: str, key: str, at: float = 1.0, *, life: str = "a") -> Emission:
    return Emission(at=at, life=life, kind=kind, thread="t1", conversation="c1", time=None, key=key)


def judged(**evidence: Any) -> Verdict:
    given: dict[str, Any] = {"told": [], "emissions": [], "chats": [], "kills": [KILL], "at_once": 8}
    verdict = judge(Evidence(**{**given, "pending": 0, "dead": 0, **evidence}))
    assert ("FAULT" in table(verdict, {})) is not verdict.passed
    return verdict


def test_the_oracle_passes_what_was_heard_once_and_in_order() -> None:
    verdict = judged(told=[told(1, 1.0), told(2, 2.0)], emissions=[heard(1, 3.0), heard(2, 4.0)])
    assert verdict.passed
    assert (verdict.acknowledged, verdict.delivered, verdict.late, verdict.close_calls) == (2, 2, 0, 0)


def test_the_oracle_finds_a_message_that_was_lost() -> None:
    verdict = judged(told=[told(1, 1.0), told(2, 2.0)], emissions=[heard(2, 4.0)])
    assert (verdict.passed, verdict.lost) == (False, 1)


@pytest.mark.parametrize(
    ("heard_time", "heard_at", "actor", "lost"),
    [(1, 2.0, "A-1", 1), (3, 1.2, "A-3", 0), (3, 2.0, "A-3", 1), (3, 10.2, "A-3", 1), (1, 2.0, "A-2", 0)],
    ids=["no newer one", "a newer one before", "a newer one afterwards", "a newer one after a kill", "no change"],
)
def test_the_oracle_finds_an_assignment_that_was_lost(heard_time: int, heard_at: float, actor: str, lost: int) -> None:
    assignment = Told(key="assigned:t1:2", thread="t1", time=2, acked_at=1.0, actor="A-2")
    other = Emission(
        at=heard_at, life="a", kind="assigned", thread="t1", conversation="c1", time=heard_time, key="", actor=actor
    )
    verdict = judged(told=[assignment], emissions=[other])
    assert (verdict.lost, verdict.superseded) == (lost, 1 - lost)


def test_the_oracle_allows_for_a_newer_assignment_that_was_applied_but_not_heard_before_a_kill() -> None:
    assignment = Told(key="assigned:t1:2", thread="t1", time=2, acked_at=9.8, actor="A-2")
    newer = Emission(at=11.0, life="b", kind="assigned", thread="t1", conversation="c1", time=3, key="", actor="A-3")
    assert judged(told=[assignment], emissions=[newer]).superseded == 1


@pytest.mark.parametrize(
    ("acked_at", "found"),
    [
        (2.5, "out_of_order"),  # before the head of 3 was read: that is after 2's line
        (3.05, "close_calls"),  # between 2's line and 3's
        (3.5, "late"),
    ],
)
def test_the_oracle_tells_disorder_from_what_came_in_late(acked_at: float, found: str) -> None:
    lines = [heard(2, 3.0), heard(3, 3.1), heard(1, 4.0)]
    verdict = judged(told=[told(1, acked_at), told(2, 1.0), told(3, 2.0)], emissions=lines)
    counts = {name: getattr(verdict, name) for name in ("out_of_order", "close_calls", "late")}
    assert counts == {**dict.fromkeys(counts, 0), found: 1}
    assert verdict.passed == (found != "out_of_order")


def test_the_oracle_knows_no_close_call_long_before_a_line() -> None:
    verdict = judged(told=[told(1, 1.0), told(2, 0.5)], emissions=[heard(2, 3.0), heard(1, 4.0)])
    assert verdict.out_of_order == 1


@pytest.mark.parametrize(
    ("again", "between", "doubled"),
    [
        (heard(1, 11.0, life="b"), [], 0),
        (heard(1, 9.5, life="b"), [], 1),
        (heard(1, 11.0, life="a"), [], 1),
        (heard(1, 11.0, life="b"), [heard(2, 10.9, life="b")], 1),
        (heard(1, 11.0, life="b"), [heard(0, 10.9, life="b")], 0),
    ],
    ids=["after a kill", "without a kill", "by a process that lived on", "after a newer one", "after an older one"],
)
def test_the_oracle_allows_a_repeat_only_after_a_kill(again: Emission, between: list[Emission], doubled: int) -> None:
    verdict = judged(told=[told(1, 1.0), told(2, 10.8), told(0, 10.8)], emissions=[heard(1, 9.0), *between, again])
    assert (verdict.doubled, verdict.repeated) == (doubled, 1 - doubled)


def test_the_oracle_allows_only_so_many_repeats() -> None:
    lines = [*(heard(one, 9.0) for one in range(9)), *(heard(one, 11.0, life="b") for one in range(8, -1, -1))]
    lines = [dataclasses.replace(one, thread=f"t{one.time}") for one in lines]
    verdict = judged(emissions=lines)
    assert (verdict.repeated, verdict.repeats_allowed, verdict.passed) == (9, 8, False)


@pytest.mark.parametrize(
    ("published", "refused", "fates", "fault"),
    [
        (["a", "b"], [], [("delivered", "a"), ("delivered", "b")], None),
        (["a"], [], [("delivered", "a"), ("failed", "b")], None),
        (["a"], [], [("delivered", "a")], "user_lost"),
        (["a", "b", "b"], [], [("delivered", "a"), ("delivered", "b")], "user_doubled"),
        (["b", "a"], [], [("delivered", "a"), ("delivered", "b")], "user_out_of_order"),
        (["a", "b"], [], [("delivered", "a"), ("delivered", "b"), ("failed", "b")], "on_both_sides"),
        (["a", "b", "c"], ["c"], [("delivered", "a"), ("delivered", "b")], "on_both_sides"),
        (["a", "b"], [], [("delivered", "a")], "untold"),
    ],
)
def test_the_oracle_follows_each_message_of_a_user(
    published: list[str], refused: list[str], fates: list[tuple[str, str]], fault: str | None
) -> None:
    chat = Chat(id="c1", accepted=["a", "b"], published=published, refused=refused)
    verdict = judged(chats=[chat], emissions=[fate(kind, key) for kind, key in fates])
    names = ("user_lost", "user_doubled", "user_out_of_order", "on_both_sides", "untold")
    assert {name: getattr(verdict, name) for name in names} == {name: int(name == fault) for name in names}
    assert verdict.passed == (fault is None)


def test_the_oracle_compares_how_a_chat_ended() -> None:
    same = Chat(id="c1", here=(False, "A-1"), there=(False, None))
    assert judged(chats=[same]).passed
    for chat in (
        Chat(id="c1", here=(True, "A-1"), there=(True, "A-2")),
        Chat(id="c1", here=(True, None), there=(False, None)),
        Chat(id="c1", here=(False, None), there=None),
    ):
        assert judged(chats=[chat]).disagree == 1
    assert judged(chats=[Chat(id="c1", threads=2)]).user_doubled == 1


def test_the_oracle_is_content_only_when_all_is_done() -> None:
    assert not judged(pending=1).passed
    assert not judged(dead=1).passed
    assert not judged(broken=["no server"]).passed


def test_many_verdicts_are_told_one_a_line_and_in_all() -> None:
    good = judged(told=[told(1, 1.0)], emissions=[heard(1, 3.0)])
    bad = judged(told=[told(1, 1.0), told(2, 2.0)], emissions=[heard(2, 4.0)])
    assert line(good, 3).startswith("seed  3: 1 kills,     1 from and    0 to HubSpot, lost 0/0")
    assert line(good, 3).endswith("passed")
    assert line(bad, 4).endswith(f"FAILED: {bad.faults[0]}")
    both = total([good, bad])
    assert (both.kills, both.acknowledged, both.delivered, both.lost, both.passed) == (2, 3, 2, 1, False)


# --- the rig ---------------------------------------------------------------------------------------------


def plan(database_url: str, folder: Path, **more: Any) -> Plan:
    return Plan(database_url=database_url, folder=folder, **more)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_e_killed_ten_times_under_load_nothing_is_lost_doubled_or_out_of_order(
    database_url: str, tmp_path: Path
) -> None:
    verdict = run(plan(database_url, tmp_path, kills=10))
    assert verdict.passed, table(verdict, {})
    assert verdict.acknowledged > 100
    assert verdict.published > 20


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_e_holds_under_all_of_hubspots_troubles_at_once(database_url: str, tmp_path: Path) -> None:
    verdict = run(plan(database_url, tmp_path, kills=2, storm=True, chats=3, threads=8))
    assert verdict.passed, table(verdict, {})
    assert verdict.acknowledged > 50
    assert verdict.published > 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_e_holds_with_all_that_is_off_by_default(database_url: str, tmp_path: Path) -> None:
    """In full: ``python -m tests.rig --kills 100 --all-on``."""
    verdict = run(plan(database_url, tmp_path, kills=5, chats=4, threads=8, all_on=True))
    assert verdict.passed, table(verdict, {})
    assert verdict.noted > 3
    assert verdict.read > 3
    assert verdict.notes_at_users == 0


def test_the_oracle_finds_a_note_that_users_are_told() -> None:
    said = dataclasses.replace(heard(1, 3.0), text="note chat-1-1.4")
    verdict = judged(told=[told(1, 1.0)], emissions=[said])
    assert (verdict.passed, verdict.notes_at_users) == (False, 1)
    assert not judged(chats=[chat_with(noted=["note chat-1-1.4"])]).passed, "nobody wrote it"
    assert judged(chats=[chat_with(noted=["note chat-1-1.4"], notes=["note chat-1-1.4"])]).passed


def test_the_oracle_finds_what_was_shown_and_is_not_read() -> None:
    verdict = judged(chats=[chat_with(read=["m1", "m2"], seen=["m1"])])
    assert (verdict.passed, verdict.read, verdict.unseen) == (False, 2, 1)


def chat_with(**facts: Any) -> Chat:
    return Chat(id="chat-1-1", **facts)


def test_a_storm_has_every_trouble_that_the_stand_in_can_make() -> None:
    weather = {*STORM, *ANSWERS, "revoked"}
    assert not weather - set(MEANINGS)
    with_a_chance = {one.name for one in fields(Chaos) if one.metadata["check"] is chance}
    assert with_a_chance <= weather


BITES: dict[str, tuple[str, dict[str, Any]]] = {
    "ack-before-commit": ("lost", {"kills": 3}),
    "done-before-emit": ("lost", {"kills": 4, "work_seconds": 0.4, "batches_per_second": 8.0}),
    "no-lease": ("doubled", {"kills": 1}),
    "prefetch": (
        "out_of_order",
        {"kills": 1, "work_seconds": 0.15, "life": (6.0, 7.0), "held_back": 0.5, "batches_per_second": 20.0},
    ),
}
"""What each mutant does wrong, and under which load it is seen for certain."""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_mutant_fails_the_rig(sqlite_url: str, tmp_path: Path, mutant: str) -> None:
    fault, load = BITES[mutant]
    few: dict[str, Any] = {"chats": 1, "threads": 8, "life": (0.5, 1.0), **load}
    verdict = run(plan(sqlite_url, tmp_path, mutant=mutant, **few))
    assert getattr(verdict, fault) > 0, table(verdict, {"mutant": mutant})
    assert not verdict.passed


# --- whoever reads the journal ---------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_f1_each_portal_is_told_of_once_however_often_the_reader_is_killed(database_url: str, tmp_path: Path) -> None:
    """In full: ``python -m tests.rig --journal --kills 200``."""
    verdict = journal.run(database_url, tmp_path, kills=15)
    assert verdict.passed, verdict.text({})
    assert verdict.told > 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_place_that_is_stored_before_what_was_read_fails_it(tmp_path: Path) -> None:
    """Only a kill between the two shows it, so there are more kills until one falls there."""
    verdicts = []
    for number in range(6):
        folder = tmp_path / str(number)
        folder.mkdir()
        verdicts.append(journal.run(f"sqlite:///{folder}/hitl.sqlite3", folder, kills=8, mutant=True))
        if not verdicts[-1].passed:
            return
    raise AssertionError("\n".join(one.text({}) for one in verdicts))
