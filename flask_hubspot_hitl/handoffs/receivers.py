"""Call one receiver: with values of its own, in a context of its own, and a coroutine in a loop of its own.

Knows Flask and the values of ``domain``; knows nothing of events, retries and the ledger.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from blinker import Signal
from flask import Flask

from ..domain import Handoff, Message, Operator

Receiver = Callable[..., Any]


def call(app: Flask, receiver: Receiver, values: Mapping[str, Any]) -> None:
    """Call a receiver in a fresh app context; whatever it changes, the next receiver does not see.

    :param app: the signal's sender.
    :param receiver: a function, a coroutine function, or anything else that can be called.
    :param values: the signal's keywords; they stay as they are.
    :raises BaseException: what the receiver raised.
    """

    def run() -> None:
        with app.app_context():
            invoke(app, receiver, app, **own_copy(values))

    contextvars.copy_context().run(run)


def tell(app: Flask, signal: Signal, **values: Any) -> list[BaseException]:
    """Send a signal at once, in the caller's context, to each receiver in a copy of it.

    :returns: what receivers raised; none of them stops the next.
    """
    errors: list[BaseException] = []
    for receiver in list(signal.receivers_for(app)):
        try:
            contextvars.copy_context().run(invoke, app, receiver, app, **own_copy(values))
        except (Exception, asyncio.CancelledError) as error:
            errors.append(error)
    return errors


def invoke(app: Flask, function: Receiver, *arguments: Any, **values: Any) -> Any:
    """Call a function of the host's to its end, also a coroutine function, where a loop may be running too.

    :param app: its ``ensure_sync`` decides how a coroutine function is run.
    :returns: what the function returned.
    :raises BaseException: what the function raised.
    """
    if _is_async(function):
        return _where_no_loop_runs(lambda: app.ensure_sync(_plain(function))(*arguments, **values))
    result = function(*arguments, **values)
    if result is not None and inspect.isawaitable(result):  # of a function that is not async itself: a decorator's
        return _where_no_loop_runs(lambda: app.ensure_sync(_awaiting)(result))
    return result


def own_copy(value: Any) -> Any:
    """Return a copy of what a receiver could change; everything else is frozen already."""
    if isinstance(value, Handoff):
        return replace(value, attributes=own_copy(value.attributes))
    if isinstance(value, list):
        return [own_copy(one) for one in value]
    if isinstance(value, _FROZEN) or not isinstance(value, Mapping):
        return value
    return {key: own_copy(one) for key, one in value.items()}


_FROZEN = (str, int, type(None), Operator, Message)
"""What is seen at once to be frozen; to ask for a mapping takes longer."""


def _is_async(function: Receiver) -> bool:
    kind: Any = type(function)
    return inspect.iscoroutinefunction(function) or _has_async_call(kind)


@lru_cache(maxsize=128)
def _has_async_call(kind: type[Any]) -> bool:
    return inspect.iscoroutinefunction(kind.__call__)


def _plain(function: Receiver) -> Receiver:
    """Return the same as a coroutine function: Flask does not look at an object's ``__call__``."""
    if inspect.iscoroutinefunction(function):
        return function

    async def call_object(*arguments: Any, **values: Any) -> Any:
        return await function(*arguments, **values)

    return call_object


async def _awaiting(result: Any) -> Any:
    return await result


def _where_no_loop_runs(run: Callable[[], Any]) -> Any:
    """Call it here, or in a native thread of its own where this one may have a loop: no thread has two."""
    threadpool = _gevent_threadpool()
    if threadpool is None and not _is_in_a_loop():
        return run()
    results: list[Any] = []
    problems: list[BaseException] = []
    context = contextvars.copy_context()

    def guarded() -> None:
        try:
            results.append(context.run(run))
        except BaseException as error:
            problems.append(error)

    if threadpool is None:
        thread = threading.Thread(target=guarded, name="hubspot-hitl-receiver", daemon=True)
        thread.start()
        thread.join()
    else:
        pool = threadpool.ThreadPool(1)
        try:
            pool.apply(guarded)  # other greenlets go on meanwhile
        finally:
            pool.kill()
    if problems:
        raise problems.pop()  # not kept: its traceback holds this frame
    return results[0]


def _is_in_a_loop() -> bool:
    """Return True in a coroutine of the caller's, when the app dispatches inline."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _gevent_threadpool() -> Any:
    """Return gevent's module where it has replaced threads by greenlets, which share one native thread; else None."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return None
    from gevent import threadpool

    return threadpool
