"""Where other threads are just now.

Their frames are not walked: while a thread runs, CPython may hand out what has ceased to be one. The fault handler
writes them all down in one go. Imports nothing of ours.
"""

from __future__ import annotations

import faulthandler
import re
import tempfile

_HEAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")


def stack_of(ident: int | None) -> str:
    """A thread's stack by its ``ident``, newest call first, a line each: file, line and function. Empty when it is
    gone, or one of more than a hundred."""
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        sections = file.read().decode(errors="replace").split("\n\n")
    for section in sections:
        head, _, stack = section.partition("\n")
        found = _HEAD.match(head)
        if found is not None and int(found[1], 16) == ident:
            return stack.rstrip()
    return ""
