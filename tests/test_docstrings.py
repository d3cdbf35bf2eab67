"""Whatever a host can import tells its parameters, what it returns, and what it raises.

The sources are read, not the objects: fixtures, dataclasses and signals all look alike there. What a function raises is
followed through the functions of the package that it calls by name, down to those that tell themselves what they raise.
What a method of some other object raises is not found.
"""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import flask_hubspot_hitl

ROOT = Path(flask_hubspot_hitl.__file__).parent
PUBLIC = [
    "flask_hubspot_hitl",
    "flask_hubspot_hitl.alembic",
    "flask_hubspot_hitl.botpress",
    "flask_hubspot_hitl.botpress.chat",
    "flask_hubspot_hitl.botpress.hitl_api",
    "flask_hubspot_hitl.botpress.studio",
    "flask_hubspot_hitl.hubspot.signature",
    "flask_hubspot_hitl.simulator",
    "flask_hubspot_hitl.simulator.botpress",
    "flask_hubspot_hitl.testing",
    *(f"flask_hubspot_hitl.testing.{path.stem}" for path in sorted((ROOT / "testing").glob("[!_]*.py"))),
]
ENTRIES = {
    "flask_hubspot_hitl.simulator.__main__": ["main"],
    "flask_hubspot_hitl.simulator.app": ["create_app"],
    "flask_hubspot_hitl.simulator.botpress.__main__": ["main"],
    "flask_hubspot_hitl.simulator.botpress.app": ["create_app"],
}
"""By which the stand-ins are started; the rest of them is not for hosts."""
SPECIAL = {"__init__", "__call__"}
NO_VERBS = {
    *("A", "An", "All", "Another", "Any", "As", "Back", "By", "Every", "Everything", "For", "How", "In", "It"),
    *("No", "Nobody", "None", "Nothing", "On", "One", "Only", "Our", "Some", "Somebody", "The", "These", "They"),
    *("This", "To", "True", "False", "What", "Whatever", "When", "Where", "Whether", "Which", "Who", "Why", "With"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Thing:
    """A function, class or constant of the package."""

    module: str
    name: str
    node: ast.AST
    doc: str
    owner: ast.ClassDef | None = None

    def __str__(self) -> str:
        return f"{self.module}.{f'{self.owner.name}.' if self.owner else ''}{self.name}"


_trees: dict[str, ast.Module] = {}


def tree_of(module: str) -> ast.Module:
    if module not in _trees:
        path = ROOT.parent.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        _trees[module] = ast.parse(path.read_text(encoding="utf-8"))
    return _trees[module]


def find(module: str, name: str) -> Thing | None:
    """What a module means by a name, wherever in the package it is defined."""
    body = tree_of(module).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef | Function) and node.name == name:
            return Thing(module, name, node, ast.get_docstring(node) or "")
        if isinstance(node, ast.Assign | ast.AnnAssign) and name in names_of(node):
            return Thing(module, name, node, literal(following))
    for imported in ast.walk(tree_of(module)):
        if isinstance(imported, ast.ImportFrom):
            for alias in imported.names:
                source = absolute(module, imported)
                if (alias.asname or alias.name) == name and source is not None:
                    return find(source, alias.name)
    return None


def names_of(node: ast.Assign | ast.AnnAssign) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [one.id for one in targets if isinstance(one, ast.Name)]


def literal(node: ast.stmt | None) -> str:
    """The documentation below an assignment."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return textwrap.dedent(node.value.value)
    return ""


def absolute(module: str, node: ast.ImportFrom) -> str | None:
    """The module of the package that something is imported from; None when it is not of the package."""
    if node.level == 0:
        found = node.module or ""
    else:
        package = module if (ROOT.parent.joinpath(*module.split("."))).is_dir() else module.rpartition(".")[0]
        base = package.split(".")[: len(package.split(".")) - node.level + 1]
        found = ".".join([*base, *([node.module] if node.module else [])])
    return found if found.split(".")[0] == "flask_hubspot_hitl" else None


def public_names(module: str) -> list[str]:
    listed = getattr(importlib.import_module(module), "__all__", None)
    if listed is not None:
        return [name for name in listed if not name.startswith("_")]
    found: list[str] = []
    for node in tree_of(module).body:
        if isinstance(node, ast.ClassDef | Function):
            found.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found += names_of(node)
        elif isinstance(node, ast.ImportFrom) and node.level:
            found += [alias.name for alias in node.names if alias.asname == alias.name]
    return [name for name in found if not name.startswith("_")]


def things() -> Iterator[Thing]:
    """Everything public, once, and the public methods of classes."""
    seen: set[str] = set()
    for module in [*PUBLIC, *ENTRIES]:
        for name in ENTRIES.get(module) or public_names(module):
            thing = find(module, name)
            assert thing is not None, f"{module}.{name} is not defined in the package"
            if str(thing) in seen:
                continue
            seen.add(str(thing))
            yield thing
            if isinstance(thing.node, ast.ClassDef):
                yield from methods(thing)


def methods(thing: Thing) -> Iterator[Thing]:
    assert isinstance(thing.node, ast.ClassDef)
    for node in thing.node.body:
        if isinstance(node, Function) and (not node.name.startswith("_") or node.name in SPECIAL):
            # what a constructor takes may stand below the class's own words
            doc = ast.get_docstring(node) or (thing.doc if node.name in SPECIAL else "")
            yield Thing(thing.module, node.name, node, doc, thing.node)


# Parameters ----------------------------------------------------------------------------------------------


def parameters(node: ast.AST) -> list[str]:
    """What is given to a function, or to the constructor that a dataclass or a TypedDict gets."""
    if isinstance(node, Function):
        args = node.args
        many = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
        return [one.arg for one in many if one is not None and one.arg not in ("self", "cls")]
    if isinstance(node, ast.ClassDef) and is_made_of_fields(node):
        return [name for one in node.body if isinstance(one, ast.AnnAssign) for name in names_of(one)]
    return []


def is_made_of_fields(node: ast.ClassDef) -> bool:
    told = " ".join(map(ast.unparse, [*node.decorator_list, *node.bases]))
    return "dataclass" in told or "TypedDict" in told


def documented(doc: str, field: str = "param") -> set[str]:
    return {name for names in re.findall(rf"^:{field} ([^:]+):", doc, re.MULTILINE) for name in names.split(", ")}


def undocumented(thing: Thing) -> list[str]:
    return [f"{thing}: no :param {name}:" for name in parameters(thing.node) if name not in documented(thing.doc)]


def invented(thing: Thing) -> list[str]:
    if isinstance(thing.node, ast.ClassDef) and not is_made_of_fields(thing.node):
        given = {name for method in methods(thing) if method.name in SPECIAL for name in parameters(method.node)}
    elif isinstance(thing.node, ast.ClassDef | Function) and thing.name not in SPECIAL:
        given = set(parameters(thing.node))
    else:
        return []
    return [f"{thing}: there is no parameter {name}" for name in documented(thing.doc) - given]


# What is raised ------------------------------------------------------------------------------------------


def exception(module: str, node: ast.expr | None) -> type[BaseException] | None:
    """The exception class that an expression names, if it names one."""
    node = node.func if isinstance(node, ast.Call) else node
    if not isinstance(node, ast.Name | ast.Attribute):
        return None
    try:
        found = eval(ast.unparse(node), {**vars(flask_hubspot_hitl), **vars(importlib.import_module(module))})
    except (AttributeError, NameError):
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def told(thing: Thing) -> set[type[BaseException]]:
    """The exceptions that a function documents."""
    named = [exception(thing.module, ast.parse(name, mode="eval").body) for name in documented(thing.doc, "raises")]
    return {one for one in named if one is not None}


def raised(module: str, node: ast.AST, owner: ast.ClassDef | None, seen: set[int]) -> set[type[BaseException]]:
    """The exceptions that leave a function, as far as calls by name show it."""
    if id(node) in seen or not isinstance(node, Function):
        return set()
    seen = seen | {id(node)}
    return {one for statement in node.body for one in leaving(module, statement, owner, seen)}


def leaving(module: str, node: ast.AST, owner: ast.ClassDef | None, seen: set[int]) -> set[type[BaseException]]:
    if isinstance(node, ast.ClassDef | ast.Lambda | Function):
        return set()
    found: set[type[BaseException]] = set()
    if isinstance(node, ast.Try):
        caught = tuple(handled(module, node))
        body = {one for part in node.body for one in leaving(module, part, owner, seen)}
        found |= {one for one in body if not issubclass(one, caught)}
        rest: list[ast.AST] = [*node.handlers, *node.orelse, *node.finalbody]
    else:
        rest = list(ast.iter_child_nodes(node))
    if isinstance(node, ast.Raise) and (named := exception(module, node.exc)) is not None:
        found.add(named)
    if isinstance(node, ast.Call) and (called := callee(module, node.func, owner)) is not None:
        found |= told(called) or raised(called.module, called.node, called.owner, seen)
    return found | {one for part in rest for one in leaving(module, part, owner, seen)}


def handled(module: str, node: ast.Try) -> Iterator[type[BaseException]]:
    for handler in node.handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        for kind in kinds:
            yield BaseException if kind is None else exception(module, kind) or BaseException


def callee(module: str, node: ast.expr, owner: ast.ClassDef | None) -> Thing | None:
    """The function that is called, if its name alone tells which."""
    found: Thing | None = None
    if isinstance(node, ast.Name):
        found = find(module, node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        if node.value.id in ("self", "cls"):
            body = owner.body if owner is not None else []
            inner = next((one for one in body if isinstance(one, Function) and one.name == node.attr), None)
            return None if inner is None else Thing(module, node.attr, inner, ast.get_docstring(inner) or "", owner)
        for imported in ast.walk(tree_of(module)):
            if isinstance(imported, ast.ImportFrom) and (source := absolute(module, imported)) is not None:
                for alias in imported.names:
                    inside = f"{source}.{alias.name}"
                    if (alias.asname or alias.name) == node.value.id and is_module(inside):
                        found = find(inside, node.attr)
    if found is not None and isinstance(found.node, ast.ClassDef):
        return next((one for one in methods(found) if one.name == "__init__"), None)
    return found if found is not None and isinstance(found.node, Function) else None


def is_module(name: str) -> bool:
    path = ROOT.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def unannounced(thing: Thing) -> list[str]:
    if not isinstance(thing.node, Function):
        return []
    found = raised(thing.module, thing.node, thing.owner, set())
    return [f"{thing}: no :raises {one.__name__}:" for one in found if not issubclass(one, tuple(told(thing)))]


# The rest ------------------------------------------------------------------------------------------------


def is_property(node: Function) -> bool:
    return any("property" in ast.unparse(one) for one in node.decorator_list)


def unreturned(thing: Thing) -> list[str]:
    """What is returned is told, in the first line where that says it all."""
    node = thing.node
    if not isinstance(node, Function) or node.name in SPECIAL or is_property(node):
        return []
    returns = ast.unparse(node.returns) if node.returns is not None else "None"
    if returns in ("None", "NoReturn") or thing.doc.startswith("Return") or ":returns:" in thing.doc:
        return []
    return [f"{thing}: no :returns:"]


def unplain(thing: Thing) -> list[str]:
    """Everything is documented; a function's first line is one imperative sentence."""
    if not thing.doc:
        return [f"{thing}: no documentation"]
    if not isinstance(thing.node, Function) or thing.name in SPECIAL or is_property(thing.node):
        return []
    first = thing.doc.splitlines()[0]
    verb = re.match(r"[A-Z][a-z]+", first)
    if verb is None or verb[0] in NO_VERBS or not first.endswith("."):
        return [f"{thing}: the first line is no imperative sentence: {first}"]
    return []


CHECKS = (undocumented, invented, unannounced, unreturned, unplain)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_what_a_host_can_import_is_documented(check: object) -> None:
    assert callable(check)
    problems = [problem for thing in things() for problem in check(thing)]

    assert problems == []


def test_members_of_enumerations_are_documented() -> None:
    problems = []
    for thing in things():
        if isinstance(thing.node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in thing.node.bases):
            body = thing.node.body
            for node, following in zip(body, [*body[1:], None], strict=True):
                if isinstance(node, ast.Assign) and not literal(following):
                    problems.append(f"{thing}.{names_of(node)[0]}")

    assert problems == []


def test_the_check_sees_the_verbs_fixtures_values_and_signals() -> None:
    found = {str(thing) for thing in things()}

    assert {
        "flask_hubspot_hitl.extension.HubSpotHITL.__init__",
        "flask_hubspot_hitl.extension.HubSpotHITL.start",
        "flask_hubspot_hitl.domain.Handoff",
        "flask_hubspot_hitl.signals.operator_message",
        "flask_hubspot_hitl.errors.HubSpotUnavailable.__init__",
        "flask_hubspot_hitl.botpress.chat.bridge.ChatBridge.user_message",
        "flask_hubspot_hitl.testing.fixtures.hitl_app",
        "flask_hubspot_hitl.testing.strategies.webhook_payloads",
        "flask_hubspot_hitl.hubspot.signature.check",
    } <= found


BAD = '''
def bare(given): return given
def partly(given, *, more, **rest):
    """Take things.

    :param given: the first.
    :param other: of another function.
    """
def raising():
    """Fail."""
    if helper():
        pass
def helper():
    try:
        raise KeyError("caught")
    except LookupError:
        pass
    raise ValueError("not caught")
def noun():
    """The thing."""
'''


def test_the_check_fails_for_what_is_not_documented(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "flask_hubspot_hitl.testing.waiting"
    monkeypatch.setitem(_trees, name, ast.parse(BAD))
    found = [find(name, one) for one in ("bare", "partly", "raising", "noun")]

    problems = {
        problem.removeprefix(f"{name}.")
        for thing in found
        if thing is not None
        for check in CHECKS
        for problem in check(thing)
    }

    assert problems == {
        "bare: no :param given:",
        "bare: no documentation",
        "partly: no :param more:",
        "partly: no :param rest:",
        "partly: there is no parameter other",
        "raising: no :raises ValueError:",
        "noun: the first line is no imperative sentence: The thing.",
    }
