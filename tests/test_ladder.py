"""The ladder: every part of the package has a floor and imports only what is named for it; nothing goes in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "flask_hubspot_hitl"
MAX_ROOT = 10

BASE = {"errors", "domain", "clock", "process", "metrics"}
WIRE = BASE | {
    "config",
    "ledger",
    "hubspot",
    "hubspot.addresses",
    "hubspot.hours",
    "hubspot.project",
    "hubspot.scopes",
    "hubspot.setup",
}
APP = WIRE | {"signals", "dispatch", "portals", "handoffs", "runtime"}
SIMULATOR = {f"simulator.{layer}" for layer in ("model", "engine", "behaviour", "api", "desk", "app")}
MAY_IMPORT: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "domain": set(),
    "signals": set(),
    "clock": set(),
    "process": set(),
    "metrics": set(),
    "hubspot.addresses": set(),
    "hubspot.hours": set(),
    "hubspot.scopes": set(),
    "ledger.url": set(),
    "config": {"errors", "hubspot.addresses", "hubspot.hours", "hubspot.scopes", "ledger.url"},
    "ledger": {*BASE, "ledger.url"},
    "hubspot": {*BASE, "hubspot.addresses", "hubspot.hours", "hubspot.scopes"},
    "hubspot.project": {"hubspot", "hubspot.scopes"},
    "hubspot.setup": {"errors", "clock", "hubspot", "hubspot.project", "hubspot.scopes"},
    "alembic": {"ledger"},
    "dispatch": {"errors", "config", "ledger", "metrics", "process"},
    "portals": WIRE | {"_version"},
    "handoffs": WIRE | {"signals", "dispatch", "portals"},
    "runtime": APP - {"runtime", "signals"},
    "web.body": APP - {"runtime"},
    "web.hosts": set(),
    "web": {*APP, "_version", "web.body", "web.hosts"},
    "cli": APP | {"_version"},
    "extension": {"errors", "clock", "config", "domain", "dispatch", "handoffs", "metrics", "runtime", "web", "cli"},
    "__init__": {"_version", "domain", "errors", "extension", "signals"},
    "botpress": {*APP, "extension", "web.body", "web.hosts"},
    "adapters": {*APP, "extension", "_version"},
    "testing": {"config", "domain", "signals", "hubspot", "ledger", "runtime", "extension", *SIMULATOR},
    "simulator": set(),
    "simulator.model": set(),
    "simulator.engine": {"hubspot", "simulator.model"},
    "simulator.behaviour": {"simulator.model", "simulator.engine"},
    "simulator.api": {"hubspot", "simulator.model", "simulator.engine", "simulator.behaviour"},
    "simulator.desk": SIMULATOR - {"simulator.desk", "simulator.app"},
    "simulator.app": SIMULATOR - {"simulator.app"},
    "simulator.serving": set(),
    "simulator.__main__": {"simulator.serving", *SIMULATOR},
    "simulator.botpress": {"hubspot", "simulator.serving", *SIMULATOR},
}
"""What each part may import of the others, from the lowest floor to the highest; imports for types count too."""
INSIDE_FUNCTIONS = {
    "cli": {"simulator.__main__", "simulator.engine"},
}
"""What a part may import only when one of its functions is called."""
HUBSPOT_FOR_THE_SIMULATOR = {"hubspot.signature", "hubspot.strict_json"}
LIBRARIES = {
    "sqlalchemy": {"ledger"},
    "rich": {"cli"},
    "flask": {
        *(
            "dispatch",
            "web.body",
            "web.hosts",
            "portals",
            "handoffs",
            "runtime",
            "web",
            "cli",
            "extension",
            "adapters",
            "botpress",
            "testing",
        ),
        *(part for part in MAY_IMPORT if part.startswith("simulator")),
    },
    "requests": {
        *("hubspot", "portals", "cli", "botpress", "testing"),
        *(part for part in MAY_IMPORT if part.startswith("simulator")),
    },
}
"""Who may use a library that belongs to one part."""


def modules() -> dict[str, Path]:
    """Every module's dotted name inside the package (``__init__`` for the package itself) with its file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        dotted = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
        found[dotted if dotted == "__init__" else dotted.removesuffix(".__init__")] = path
    return found


MODULES = modules()


def part_of(module: str) -> str:
    """The part that a module belongs to: the longest name of the ladder that it begins with."""
    names = module.split(".")
    wanted = (".".join(names[:length]) for length in range(len(names), 0, -1))
    return next((name for name in wanted if name in MAY_IMPORT), module)


@cache
def imported(module: str) -> list[tuple[str, bool]]:
    """The dotted names a module imports, and whether it does so when it is itself imported."""
    return list(_imported(module))


def _imported(module: str) -> Iterator[tuple[str, bool]]:
    path = MODULES[module]
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = ["flask_hubspot_hitl", *path.relative_to(PACKAGE).parts[:-1]]
    later = {id(node) for top in ast.walk(tree) if isinstance(top, ast.FunctionDef) for node in ast.walk(top)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) not in later) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((f"{name}.{alias.name}", id(node) not in later) for alias in node.names)


def ours(name: str) -> str | None:
    """The module of ours that an imported name is, or stands in."""
    top, _, rest = name.partition(".")
    if top != "flask_hubspot_hitl":
        return None
    if rest in MODULES:
        return rest
    return rest.rpartition(".")[0] or "__init__"


def edges(module: str) -> Iterator[tuple[str, bool]]:
    """The modules of ours that a module imports."""
    for name, at_once in imported(module):
        other = ours(name)
        if other is not None and other != module:
            yield other, at_once


def test_every_part_has_a_floor() -> None:
    assert {part_of(module) for module in MODULES} == set(MAY_IMPORT)


def test_the_root_holds_few_modules() -> None:
    root = sorted(path.name for path in PACKAGE.glob("*.py"))
    assert len(root) <= MAX_ROOT, f"the root has {len(root)} modules, put the new one into a folder: {root}"


def test_the_floors_themselves_are_no_circle() -> None:
    done: set[str] = set()
    while len(done) < len(MAY_IMPORT):
        free = {part for part in MAY_IMPORT if part not in done and MAY_IMPORT[part] - {part} <= done}
        assert free, f"these stand on each other: {sorted(MAY_IMPORT.keys() - done)}"
        done |= free


def test_imports_only_point_down() -> None:
    wrong = []
    for module in MODULES:
        part = part_of(module)
        for other, at_once in edges(module):
            allowed = MAY_IMPORT.get(part, set()) | (set() if at_once else INSIDE_FUNCTIONS.get(part, set()))
            if part_of(other) != part and part_of(other) not in allowed:
                wrong.append(f"{module} ({part}) imports {other} ({part_of(other)})")
    assert not wrong, "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Imports for types and inside functions counted."""
    left = {module: {other for other, _ in edges(module)} for module in MODULES}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    while free := [module for module in left if not any(module in others for others in left.values())]:
        for module in free:
            del left[module]
    assert not left, f"a circle of imports: {sorted(left)}"


def test_the_stand_in_takes_two_modules_of_the_wire_only() -> None:
    """It must not be right because it is made of the same code."""
    taken = {
        other
        for module in MODULES
        if module.startswith("simulator")
        for other, _ in edges(module)
        if not other.startswith("simulator") and other != "hubspot"
    }
    assert taken == HUBSPOT_FOR_THE_SIMULATOR


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_part_knows_one_thing(library: str) -> None:
    users = {part_of(one) for one in MODULES for name, _ in imported(one) if name.split(".")[0] == library}
    assert users <= LIBRARIES[library]
