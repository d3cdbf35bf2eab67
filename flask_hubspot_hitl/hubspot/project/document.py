"""Read JSON with the place of every value, and change single values so that all other bytes stay. Pure.

Imports nothing of ours. It reads what JavaScript's ``JSON.parse`` reads, because that is what HubSpot's tools use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

NESTING = 100
"""No project file is nested deeper."""
_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder(parse_constant=lambda word: _no_constant(word))

Path = tuple[str | int, ...]
"""The way to a value: keys of objects and indexes of lists."""


class Unreadable(ValueError):
    """A file is not what HubSpot could read; the text completes "the file …"."""


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON")


@dataclass(slots=True)
class Node:
    """A value and its place: characters from ``start`` to ``end``. Lists and objects have ``parts``, by index or key.

    ``begin`` is where the key begins, or the value when it has none.
    """

    begin: int
    start: int
    end: int
    value: Any
    parts: dict[str | int, Node] = field(default_factory=dict)


class Document:
    """Hold a JSON text, its value, and where each part of it stands."""

    def __init__(self, text: str) -> None:
        """Parse ``text``.

        :raises Unreadable: when it is no JSON; a byte order mark and comments are none.
        """
        self.text = text
        self.twice: list[str] = []
        """Keys that an object has twice; JSON.parse takes the last."""
        self.root = self._parse()

    @classmethod
    def of(cls, raw: bytes) -> Document:
        """Parse the content of a file.

        :raises Unreadable: also when it is not UTF-8.
        """
        if raw.startswith(b"\xef\xbb\xbf"):
            raise Unreadable("has a byte order mark at its beginning, which is no JSON: save it as UTF-8 without one")
        try:
            return cls(raw.decode())
        except UnicodeDecodeError:
            raise Unreadable("is not UTF-8: save it as UTF-8") from None

    @property
    def value(self) -> Any:
        """Return the whole as Python has it."""
        return self.root.value

    def at(self, path: Path) -> Node | None:
        """Return the place of a value; None when there is none."""
        node: Node | None = self.root
        for step in path:
            node = None if node is None else node.parts.get(step)
        return node

    def put(self, path: Path, value: Any) -> None:
        """Give the value at ``path`` another one; a key that is not there is added at the object's end.

        Objects on the way have to be there.
        """
        node = self.at(path)
        if node is None:
            self._add(self._place(path[:-1]), f"{json.dumps(path[-1], ensure_ascii=False)}: ", value)
        elif node.value != value or type(node.value) is not type(value):
            self._replace(node.start, node.end, self._written(value, node.start))

    def append(self, path: Path, value: Any) -> None:
        """Add a value at the end of the list at ``path``."""
        self._add(self._place(path), "", value)

    def remove(self, path: Path) -> None:
        """Take an item out of a list, with the comma that parted it from its neighbour."""
        *above, index = path
        items = list(self._place(tuple(above)).parts.values())
        gone = items[int(index)]
        if int(index) > 0:
            self._replace(items[int(index) - 1].end, gone.end, "")
        else:
            self._replace(gone.start, items[1].start if len(items) > 1 else gone.end, "")

    # Changing --------------------------------------------------------------------------------------------

    def _place(self, path: Path) -> Node:
        node = self.at(path)
        if node is None:
            raise KeyError(path)
        return node

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        self.twice = []
        self.root = self._parse()

    def _add(self, parent: Node, key: str, value: Any) -> None:
        if not parent.parts:
            inner = self._margin(parent.start) + self._indent()
            line = self._line_end()
            written = f"{line}{inner}{key}{self._written(value, parent.start, inner)}{line}{self._margin(parent.start)}"
            self._replace(parent.start + 1, parent.end - 1, written)
            return
        last = max(parent.parts.values(), key=lambda part: part.start)
        above = self.text[: last.begin]
        before = above[len(above.rstrip(" \t\n\r")) :]
        inner = before.rpartition("\n")[2] if "\n" in before else self._margin(parent.start)
        blanks = before or ("" if len(parent.parts) > 1 else " ")
        written = f",{blanks}{key}{self._written(value, last.start, inner)}"
        self._replace(last.end, last.end, written)

    def _written(self, value: Any, at: int, margin: str | None = None) -> str:
        text = json.dumps(value, indent=self._indent(), ensure_ascii=False)
        return text.replace("\n", self._line_end() + (self._margin(at) if margin is None else margin))

    def _margin(self, at: int) -> str:
        """Return the blanks at the beginning of the line."""
        line = self.text[self.text.rfind("\n", 0, at) + 1 : at]
        return line[: len(line) - len(line.lstrip(" \t"))]

    def _indent(self) -> str:
        found = re.search(r"\n([ \t]+)\S", self.text)
        return found[1] if found else "  "

    def _line_end(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    # Reading ---------------------------------------------------------------------------------------------

    def _parse(self) -> Node:
        at = self._skip(0)
        if at == len(self.text):
            raise Unreadable("is empty")
        root = self._value(at, 0)
        if self._skip(root.end) != len(self.text):
            self._fail(self._skip(root.end))
        return root

    def _value(self, at: int, depth: int) -> Node:
        first = self.text[at : at + 1]
        if depth > NESTING:
            raise Unreadable("is nested too deeply")
        if first == "{":
            return self._object(at, depth)
        if first == "[":
            return self._list(at, depth)
        return self._plain(at)

    def _plain(self, at: int) -> Node:
        try:
            value, end = _DECODER.raw_decode(self.text, at)
        except json.JSONDecodeError as error:
            self._fail(error.pos)
        except ValueError:
            self._fail(at)
        return Node(at, at, end, value)

    def _object(self, start: int, depth: int) -> Node:
        node = Node(start, start, start, {})
        for at in self._parts(node, "}"):
            key = self._plain(at) if self.text[at : at + 1] == '"' else self._fail(at)
            colon = self._skip(key.end)
            if self.text[colon : colon + 1] != ":":
                self._fail(colon)
            part = self._value(self._skip(colon + 1), depth + 1)
            part.begin = at
            if key.value in node.parts:
                self.twice.append(key.value)
            node.parts[key.value], node.value[key.value], node.end = part, part.value, part.end
        return node

    def _list(self, start: int, depth: int) -> Node:
        node = Node(start, start, start, [])
        for at in self._parts(node, "]"):
            part = self._value(at, depth + 1)
            node.parts[len(node.value)] = part
            node.value.append(part.value)
            node.end = part.end
        return node

    def _parts(self, node: Node, bracket: str) -> Iterator[int]:
        """Yield where each part begins; whoever takes it tells by ``node.end`` where it ends."""
        at = self._skip(node.start + 1)
        if self.text[at : at + 1] != bracket:
            yield at
            at = self._skip(node.end)
            while self.text[at : at + 1] == ",":
                yield self._skip(at + 1)
                at = self._skip(node.end)
            if self.text[at : at + 1] != bracket:
                self._fail(at)
        node.end = at + 1

    def _skip(self, at: int) -> int:
        found = _BLANKS.match(self.text, at)
        return found.end() if found else at

    def _fail(self, at: int) -> NoReturn:
        line = self.text.count("\n", 0, at) + 1
        column = at - self.text.rfind("\n", 0, at)
        if self.text.startswith("\ufeff"):
            raise Unreadable("has a byte order mark at its beginning, which is no JSON: save it as UTF-8 without one")
        if self.text.startswith(("//", "/*", "#"), at):
            raise Unreadable(f"has a comment in line {line}, and JSON has none: take it out")
        raise Unreadable(f"is not JSON: see line {line}, column {column}")
