"""Another thread's stack, while it waits and while it runs."""

from __future__ import annotations

import threading

from flask_hubspot_hitl.dispatch.stacks import stack_of


def test_a_waiting_thread_is_found_where_it_waits() -> None:
    go = threading.Event()

    def waits_here() -> None:
        go.wait(60)

    thread = threading.Thread(target=waits_here)
    thread.start()
    try:
        stack = stack_of(thread.ident)
        assert "waits_here" in stack
        assert __file__ in stack
        assert "test_a_waiting_thread" not in stack, "that is ours"
    finally:
        go.set()
        thread.join()


def test_a_running_thread_can_be_looked_at_again_and_again() -> None:
    over = threading.Event()

    def deeper(depth: int) -> int:
        return 0 if depth == 0 else deeper(depth - 1) + 1

    def runs_here() -> None:
        while not over.is_set():
            deeper(20)

    thread = threading.Thread(target=runs_here)
    thread.start()
    try:
        assert all("runs_here" in stack_of(thread.ident) for _ in range(300))
    finally:
        over.set()
        thread.join()


def test_of_a_thread_that_is_gone_there_is_none() -> None:
    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    assert stack_of(thread.ident) == ""
    assert stack_of(None) == ""
