"""Tell where other threads are at this moment.

Other threads' frames are not walked, because CPython may hand out frames that no longer exist; ``faulthandler`` writes
all stacks at once. Imports nothing of ours.
"""

from __future__ import annotations

import faulthandler
import re
import tempfile

_HEAD = re.compile(r"(?:Current thread|Thread) 0x([0-9a-f]+)")


def stack_of(ident: int | None) -> str:
    """Return a thread's stack, newest call first, a line each: file, line and function.

    :param ident: the thread's ``ident``.
    :returns: "" when the thread is gone, or is one of more than a hundred.
    """
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
