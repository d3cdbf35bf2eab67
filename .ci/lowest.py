"""Print the lowest version that ``setup.cfg`` allows of each run-time dependency, as constraints for pip."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

BOUND = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)")

setup = ConfigParser(interpolation=None)
setup.read(Path(__file__).parents[1] / "setup.cfg", encoding="utf-8")
extras = setup["options.extras_require"]
wanted = [setup["options"]["install_requires"], *(extras[name] for name in extras if name not in ("test", "docs"))]
for line in "\n".join(wanted).split("\n"):
    if line:
        bound = BOUND.fullmatch(line)
        if bound is None:
            raise SystemExit(f"setup.cfg: {line!r} has no lower bound, or more than one.")
        print(f"{bound[1]}=={bound[2]}")
