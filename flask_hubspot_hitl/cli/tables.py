"""Print tables and lines for people, as wide as their terminal and never broken within a word.

``rich`` draws the tables; it is loaded when there is one to draw. What goes elsewhere is as wide as it is.
"""

from __future__ import annotations

import io
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

import click

NOTHING = "–"
ROOM = 24
"""Characters that the columns of free text must have left; with less, rows are written one below the other."""
GAP = 2


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, wraps: Collection[str] = ()) -> list[str]:
    """Draw a table.

    :param rows: a cell each for ``headers``; None is nothing.
    :param wraps: the headers of columns with free text, which take what room is left.
    :returns: its lines.
    """
    cells = [[NOTHING if cell is None or cell == "" else str(cell) for cell in row] for row in rows]
    width = _width()
    fixed = [index for index, header in enumerate(headers) if header not in wraps]
    needed = sum(max(len(line[index]) for line in [headers, *cells]) + GAP for index in fixed) + ROOM * bool(wraps)
    if width is not None and needed > width:
        size = max(map(len, headers))
        blocks = [[f"{head:<{size}}  {cell}" for head, cell in zip(headers, row, strict=True)] for row in cells]
        return [fitted(line, indent=size + GAP) for block in blocks for line in (*block, "")][:-1]
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=io.StringIO(), force_terminal=width is not None, width=width or 100_000)
    drawn = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for header in headers:
        drawn.add_column(header, no_wrap=header not in wraps)
    for row in cells:
        drawn.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(drawn)
    return [line.rstrip() for line in captured.get().splitlines()]


def fitted(line: str, *, indent: int = 0) -> str:
    """Return a line that is broken between words where the terminal ends.

    :param indent: spaces before what follows, beside those that the line begins with.
    """
    width = _width()
    if width is None or len(click.unstyle(line)) <= width:
        return line
    margin = " " * (len(line) - len(line.lstrip()) + indent)
    return textwrap.fill(
        line, width, subsequent_indent=margin, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def _width() -> int | None:
    """Return the terminal's width in characters; None when nobody looks at one."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None
