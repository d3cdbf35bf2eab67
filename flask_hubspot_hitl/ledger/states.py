"""Define what is kept of an event between its runs: one dataclass for each kind of task, JSON in the database.

The ledger knows no more of a state than :class:`State` has, and asks it three questions; the states of the tasks are
dataclasses derived from it. Only the methods here turn states into JSON and back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Self

_KEY = "stored as"


@dataclass(frozen=True, slots=True)
class Codec:
    """Turn a field's value into JSON, and back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


_PLAIN = Codec(lambda value: value, lambda value: value)


def stored(key: str, codec: Codec = _PLAIN) -> dict[str, Any]:
    """Return the metadata of a dataclass field that is stored, unless its value is the default.

    :param key: its key in the JSON; stores of older versions hold it, so that it never changes.
    :param codec: turns a value into JSON and back, where it is not JSON itself.
    """
    return {_KEY: (key, codec)}


@dataclass(slots=True, kw_only=True, eq=False)
class State:
    """Hold what is known of an event; fields that are not :func:`stored` belong to one run."""

    unknown: dict[str, Any] = field(default_factory=dict, repr=False)
    """What another version has put there; it is stored again as it was."""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return the state that :meth:`to_json` gave; keys that this version does not know are kept."""
        state = cls()
        if value and isinstance(value, Mapping):
            known = _table_of(cls)[1]
            for key, one in value.items():
                if key in known:
                    name, codec = known[key]
                    setattr(state, name, codec.decode(one))
                else:
                    state.unknown[key] = one
        return state

    def to_json(self) -> dict[str, Any]:
        """Return the state as it is stored: only what is not as it was at first."""
        found = dict(self.unknown)
        for name, key, first, codec in _table_of(type(self))[0]:
            value = getattr(self, name)
            if value != first:
                found[key] = codec.encode(value)
        return found

    # What the ledger asks --------------------------------------------------------------------------------

    @property
    def may_have_happened(self) -> bool:
        """True when an unfinished run may have done outside what the event is there for: don't cancel it."""
        return False

    def forget_verdicts(self) -> None:
        """Forget why the event was given up, so that it can be tried again; by default there is nothing to forget."""

    def verdicts(self) -> list[dict[str, Any]]:
        """Return what each receiver said, as ``dead show`` prints it; by default there are no receivers."""
        return []


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold what one kind of event tells its task; its fields are the keys of the JSON."""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Return what :meth:`to_json` gave; other keys are passed over.

        :raises TypeError: when a field without a default is missing, as in a payload that was erased.
        """
        given: Mapping[str, Any] = value if isinstance(value, Mapping) else {}
        return cls(**{one.name: given[one.name] for one in fields(cls) if one.name in given})

    def to_json(self) -> dict[str, Any]:
        """Return the facts as they are stored: without what is as by default."""
        given = ((one.name, getattr(self, one.name), _first(one)) for one in fields(self))
        return {name: value for name, value, default in given if value != default}


KindOf = Callable[[str], type[State]]
"""Which state the events of a topic have; the ledger is given it."""


def no_kind(topic: str) -> type[State]:
    """Return the state of a topic of which nothing is known: everything in it is kept."""
    return State


def _first(one: Field[Any]) -> Any:
    return one.default if one.default_factory is MISSING else one.default_factory()


_Table = tuple[tuple[tuple[str, str, Any, Codec], ...], dict[str, tuple[str, Codec]]]
_tables: dict[type[State], _Table] = {}


def _table_of(kind: type[State]) -> _Table:
    """Return the stored fields of a kind of state: name, key, default, codec in order; and name and codec by key."""
    found = _tables.get(kind)
    if found is None:
        given = [(one, *one.metadata[_KEY]) for one in fields(kind) if _KEY in one.metadata]
        in_order = tuple((one.name, key, _first(one), codec) for one, key, codec in given)
        _tables[kind] = found = in_order, {key: (one.name, codec) for one, key, codec in given}
    return found
