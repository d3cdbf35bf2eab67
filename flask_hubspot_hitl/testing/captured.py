"""Record every signal of one app, in the order it was sent."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal
from flask import Flask

from .. import signals
from .waiting import PATIENCE, wait_until

_SIGNALS = {name: value for name, value in vars(signals).items() if isinstance(value, NamedSignal)}


class CapturedSignals:
    """Keep every signal of an app from now on, as ``(name, keywords)`` in ``calls``. Thread-safe.

    It is a receiver like any other: with it, an event that no handler of the host's takes counts as taken.
    """

    def __init__(self, app: Flask) -> None:
        """Connect to every signal of an app.

        :param app: the app whose signals are kept.
        """
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._lock = threading.Lock()
        self._connected: list[tuple[NamedSignal, Callable[..., None]]] = []
        for name, signal in _SIGNALS.items():
            self._connect(name, signal, app)

    def _connect(self, name: str, signal: NamedSignal, app: Flask) -> None:
        def capture(sender: Flask, **keywords: Any) -> None:
            with self._lock:
                self.calls.append((name, keywords))

        signal.connect(capture, sender=app, weak=False)
        self._connected.append((signal, capture))

    def __repr__(self) -> str:
        return f"CapturedSignals({', '.join(self.names())})"

    def close(self) -> None:
        """Disconnect from all signals."""
        for signal, receiver in self._connected:
            signal.disconnect(receiver)
        self._connected.clear()

    def names(self) -> list[str]:
        """Return the names of the signals so far, in order."""
        with self._lock:
            return [name for name, _ in self.calls]

    def of(self, signal: NamedSignal | str) -> list[dict[str, Any]]:
        """Return the keywords of each signal of one kind, in order: ``captured_signals.of("operator_message")``.

        :param signal: the signal, or its name.
        :raises ValueError: there is no such signal.
        """
        wanted = _name(signal)
        with self._lock:
            return [keywords for name, keywords in self.calls if name == wanted]

    def wait_for(self, signal: NamedSignal | str, count: int = 1, *, timeout: float = PATIENCE) -> list[dict[str, Any]]:
        """Wait until signals of one kind have come.

        :param signal: the signal, or its name.
        :param count: how many of them.
        :param timeout: seconds.
        :returns: the keywords of each of them, in order.
        :raises AssertionError: they have not come in time.
        :raises ValueError: there is no such signal.
        """
        return wait_until(
            lambda: found if len(found := self.of(signal)) >= count else None,
            f"{count} × {_name(signal)}",
            timeout=timeout,
            explain=lambda: f"Signals so far: {', '.join(self.names()) or 'none'}",
        )


def _name(signal: NamedSignal | str) -> str:
    found = next((name for name, value in _SIGNALS.items() if signal is value or signal == name), None)
    if found is None:
        raise ValueError(f"there is no signal {signal!r}; there are {', '.join(_SIGNALS)}")
    return found
