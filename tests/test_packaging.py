"""What a wheel holds, what an import loads, and that imports only point down the ladder."""

from __future__ import annotations

import ast
import importlib
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from importlib.metadata import requires, version
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "flask_hubspot_hitl"

BRIDGES = ("flask_hubspot_hitl.simulator", "flask_hubspot_hitl.testing", "flask_hubspot_hitl.botpress")


def test_importing_the_package_loads_only_the_core() -> None:
    code = "import sys, flask_hubspot_hitl; print(*sorted(n for n in sys.modules if 'hubspot_hitl' in n))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = done.stdout.split()
    assert "flask_hubspot_hitl.extension" in loaded
    assert not [name for name in loaded if name.startswith(BRIDGES)]


def test_every_module_says_what_it_is_for() -> None:
    modules = {*PACKAGE.rglob("*.py"), *(ROOT / "example_app").glob("*.py")} - {PACKAGE / "_version.py"}
    for path in sorted(modules):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"


def test_the_handlers_of_the_example_fit_on_a_page() -> None:
    assert len((ROOT / "example_app" / "handlers.py").read_text(encoding="utf-8").splitlines()) < 60


def test_the_examples_own_tests_use_the_kit_and_nothing_else() -> None:
    """No helper and no fixture of this project's tests: a host could have written them."""
    tests = ast.parse((ROOT / "tests" / "test_example_app.py").read_text(encoding="utf-8"))
    nodes = list(ast.walk(tests))
    asked = {argument.arg for node in nodes if isinstance(node, ast.FunctionDef) for argument in node.args.args}
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert not [node for node in froms if node.level or str(node.module).startswith("tests")]
    kit = {str(node.module) for node in froms if str(node.module).startswith("flask_hubspot_hitl")}
    assert kit == {"flask_hubspot_hitl", "flask_hubspot_hitl.testing", "flask_hubspot_hitl.testing.fixtures"}
    ours = ast.parse((ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"))
    fixtures = {node.name for node in ours.body if isinstance(node, ast.FunctionDef) and node.decorator_list}
    assert {"make_app", "serve", "stand"} <= fixtures
    assert not asked & fixtures


def test_versions_and_python_agree() -> None:
    setup = ConfigParser(interpolation=None)
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    tools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    target = tools["tool"]["ruff"]["target-version"].removeprefix("py3")
    assert setup["options"]["python_requires"] == f">=3.{target}"
    assert setup["mypy"]["python_version"] == f"3.{target}"


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="setuptools leaves comments out of an sdist's setup.cfg")
def test_each_run_time_dependency_has_a_lower_bound_its_reason_and_is_tested_with_it() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    parts = text.partition("install_requires =\n")[2], text.partition("[options.extras_require]\n")[2]
    lines = [*parts[0].partition("include_package_data")[0].splitlines()]
    lines += [line for line in parts[1].partition("\ntest =\n")[0].splitlines() if not line.endswith(" =")]
    bounds = []
    for before, line in pairwise(["", *lines]):
        if line.startswith("    ") and not line.strip().startswith("#"):
            assert before.strip().startswith("#"), f"{line.strip()}: why not an older one?"
            name, bound = line.strip().split(">=")
            bounds.append(f"{name.partition('[')[0]}=={bound}")
    assert len(bounds) > 10
    told = subprocess.run([sys.executable, ROOT / ".ci" / "lowest.py"], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines() == bounds
    unbound = [one for one in requires("Flask-HubSpot-HITL") or () if "<" in one.partition(";")[0] or ">=" not in one]
    assert unbound == []


def test_a_wheel_holds_all_that_is_needed(tmp_path: Path) -> None:
    """Built from a copy, without network; setuptools makes wheels by itself since 70.1, before with ``wheel``."""
    major, minor = (int(number) for number in version("setuptools").split(".")[:2])
    if (major, minor) < (70, 1):
        _check_build_folder(tmp_path)
        return
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, str(_copy(tmp_path / "copy"))], check=True, capture_output=True, cwd=tmp_path)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        _check({name for name in archive.namelist() if ".dist-info" not in name})


def test_an_sdist_holds_what_its_own_tests_need(tmp_path: Path) -> None:
    """``make test-dist`` runs them."""
    copy = _copy(tmp_path / "copy")
    code = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, cwd=copy)
    [sdist] = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()}
    assert {"tests/conftest.py", "docs/conf.py", ".ci/run", "Makefile"} <= wanted
    ours = {name for name in wanted if ".egg-info" not in name}
    assert ours <= held, f"missing: {sorted(ours - held)}"


def _check_build_folder(tmp_path: Path) -> None:
    """What ``build_py`` collects is what a wheel would hold."""
    copy = _copy(tmp_path / "copy")
    code = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-W", "ignore", "-c", code, "-q", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(command, check=True, capture_output=True, cwd=copy)
    _check({str(path.relative_to(tmp_path / "lib")) for path in (tmp_path / "lib").rglob("*") if path.is_file()})


def _copy(target: Path) -> Path:
    """The sources, without what git ignores: an older build must not help this one."""
    target.mkdir()
    for path in ROOT.iterdir():
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, target)
    ignored = shutil.ignore_patterns("__pycache__", "node_modules", "_build")
    for name in ("flask_hubspot_hitl", "example_app", "tests", "docs", ".ci"):
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    return target


def _check(held: set[str]) -> None:
    wanted = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in (".py", ".html", ".css", ".js", ".typed")
    }
    assert "flask_hubspot_hitl/py.typed" in wanted
    assert wanted <= held, f"missing: {sorted(wanted - held)}"
    assert {name.split("/")[0] for name in held} == {"flask_hubspot_hitl"}, "tests and example app stay out"


def test_the_entry_point_is_the_group_of_commands() -> None:
    """Flask loads it for every ``flask`` command of every app in the environment: a wrong name breaks them all."""
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    [(name, _, target)] = [config["options.entry_points"]["flask.commands"].strip().partition(" = ")]
    module, _, attribute = target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    assert (found.name, name) == ("hubspot-hitl", "hubspot-hitl")
    assert target == "flask_hubspot_hitl.cli:group", "as hosts may have it in scripts of their own"
