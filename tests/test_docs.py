"""The pages of the project: they render without a warning, facts say how they are known, and what is cited exists."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from docutils import nodes
from docutils.core import publish_doctree

import flask_hubspot_hitl
from flask_hubspot_hitl import cli

ROOT = Path(__file__).parents[1]
STRICT = {"report_level": 2, "halt_level": 5, "syntax_highlight": "none", "_disable_config": True, "warning_stream": ""}
FOR_SPHINX = {"index", "reference", "control"}
"""Pages that only Sphinx understands; ``make docs`` fails on a warning."""
PAGES = sorted(path for path in [*ROOT.glob("*.rst"), *(ROOT / "docs").glob("*.rst")] if path.stem not in FOR_SPHINX)
FACTS = ("hubspot", "botpress")
FOLDERS = ("flask_hubspot_hitl", "tests", "example_app")
TEXT = {".py", ".js", ".html", ".css", ".sql", ".lua", ".golden"}
TOOLS = [ROOT / name for name in ("setup.cfg", "pyproject.toml", "Makefile", ".ci/run")]
CITED = re.compile(r"docs/(?:hubspot|botpress|rules)\.rst")
SECTIONS = re.compile(r"docs/(hubspot|botpress)\.rst(?: \(|: )([^()]+)\)")
RULES = re.compile(r"docs/rules\.rst ([A-M][0-9]*(?:, [A-M][0-9]*)*)\b")
LINK = re.compile(r"`docs/[\w-]+\.rst <docs/[\w-]+\.rst>`_|``docs/[\w-]+\.rst``")
MARK = re.compile(r"\[(?:spec|docs|run|live|code|reported|inferred)\]")
OPEN_QUESTION = re.compile(r"[Oo]pen question ([0-9]+)")
DEFECT = re.compile(r"\bD[0-9]{2}\b(?!-)")
ELSEWHERE = re.compile(r"facts §?[0-9]|\brules\.md|\bdesign\.md|\bledger\.md|§[0-9]")
"""Citations of pages that a reader of the project does not have."""
TELLING = (nodes.bullet_list, nodes.enumerated_list, nodes.table)


@cache
def tree(path: Path) -> nodes.document:
    """A page as docutils reads it."""
    return publish_doctree(path.read_text(encoding="utf-8"), settings_overrides=STRICT)


@cache
def sections(page: str) -> dict[str, int]:
    """A page's sections by title without number, each with the number of items of its own numbered list."""
    found: dict[str, int] = {}
    for section in tree(ROOT / "docs" / f"{page}.rst").findall(nodes.section):
        title = re.sub(r"^[0-9]+(?:\.[0-9]+)? |^[0-9]+\. ", "", str(section[0].astext()))
        numbered = [one for one in section.children if isinstance(one, nodes.enumerated_list)]
        assert title not in found, f"two sections of {page} are called {title!r}"
        found[title] = len(numbered[0].children) if numbered else 0
    return found


@cache
def rules() -> set[str]:
    """The anchors of the rules: A, B, B1 and so on."""
    named = {name for node in tree(ROOT / "docs" / "rules.rst").findall(nodes.target) for name in node["ids"]}
    named |= {name for node in tree(ROOT / "docs" / "rules.rst").findall(nodes.section) for name in node["ids"]}
    return {name.upper() for name in named if re.fullmatch(r"[a-m][0-9]?", name)}


@cache
def defects() -> set[str]:
    """The numbers of other projects' mistakes."""
    return {row[0].astext() for row in tree(ROOT / "docs" / "defects.rst").findall(nodes.row)}


def missing(text: str) -> Iterator[str]:
    """What a text cites of the docs that is not there, or cites in no known form."""
    flat = re.sub(r"\s+(?:# |// |\* )?", " ", text)
    flat = LINK.sub("", flat)
    for page, titles in SECTIONS.findall(flat):
        for title in titles.split("; "):
            name, _, number = title.rpartition(" ")
            is_item = number.isdecimal() and 1 <= int(number) <= sections(page).get(name, 0)
            if title not in sections(page) and not is_item:
                yield f"docs/{page}.rst has no section {title!r}"
    for found in RULES.findall(flat):
        for rule in found.split(", "):
            if rule not in rules():
                yield f"docs/rules.rst has no rule {rule}"
    for start in (one.start() for one in CITED.finditer(flat)):
        if not (SECTIONS.match(flat, start) or RULES.match(flat, start)):
            yield f"no section is cited in {flat[start : start + 60]!r}"
    for number in OPEN_QUESTION.findall(flat):
        if not 1 <= int(number) <= sections("hubspot")["Unknowns"]:
            yield f"docs/hubspot.rst has no open question {number}"
    for number in DEFECT.findall(flat):
        if number not in defects():
            yield f"docs/defects.rst has no {number}"


def citing() -> list[tuple[str, str]]:
    """Every file of the project that may cite a page, with its text; this one has citations that are wrong."""
    ours = [path for name in FOLDERS for path in sorted((ROOT / name).rglob("*")) if path.suffix in TEXT]
    files = [path for path in [*ours, *TOOLS, *PAGES] if path != Path(__file__)]
    return [(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8")) for path in files]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_page_renders_without_a_warning(path: Path) -> None:
    said = [one.astext() for one in tree(path).findall(nodes.system_message) if one["level"] >= STRICT["report_level"]]
    assert not said
    assert not [line for line in path.read_text(encoding="utf-8").splitlines() if len(line) > 120]
    directives = set(re.findall(r"^ *\.\. (\w[\w-]*)::", path.read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert directives <= {"contents", "list-table", "code-block", "image"}, "plain docutils is enough for these pages"


def test_the_site_has_every_page_and_every_public_name() -> None:
    index = (ROOT / "docs" / "index.rst").read_text(encoding="utf-8")
    listed = set(re.findall(r"^   ([a-z-]+)$", index, flags=re.MULTILINE))
    assert listed == {path.stem for path in (ROOT / "docs").glob("*.rst")} - {"index"}
    reference = (ROOT / "docs" / "reference.rst").read_text(encoding="utf-8")
    shown = set(re.findall(r"^\.\. auto\w+:: \S+?\.(\w+)$", reference, flags=re.MULTILINE))
    assert set(flask_hubspot_hitl.__all__) - {"__version__"} <= shown


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_link_to_a_file_of_the_project_leads_there(path: Path) -> None:
    for reference in tree(path).findall(nodes.reference):
        target, _, anchor = str(reference.get("refuri", "")).partition("#")
        if target and "://" not in target and not target.startswith("mailto:"):
            there = (path.parent / target).resolve()
            assert there.is_file(), target
            assert not anchor or anchor in tree(there).ids, f"{target}#{anchor}"


@pytest.mark.parametrize("page", FACTS)
def test_each_section_of_facts_has_a_source_and_a_mark(page: str) -> None:
    for section in tree(ROOT / "docs" / f"{page}.rst").findall(nodes.section):
        tells = [one for one in section.children if isinstance(one, TELLING)]
        title = section[0].astext()
        if not tells or title.startswith("0. "):
            continue
        fields = {one[0].astext(): one[1].astext() for one in section.findall(nodes.field)}
        assert fields.keys() == {"Source", "Mark"}, title
        assert MARK.fullmatch(fields["Mark"]) or fields["Mark"].startswith("each is open"), title


@pytest.mark.parametrize("page", FACTS)
def test_every_mark_is_one_that_the_page_explains(page: str) -> None:
    text = (ROOT / "docs" / f"{page}.rst").read_text(encoding="utf-8")
    explained = set(re.findall(r"^(\[\w+\]) ", text, flags=re.MULTILINE))
    prose = re.sub(r"``[^`]*``", "", text)
    assert set(re.findall(r"\[[a-z]+\]", prose)) == explained
    assert explained <= {f"[{one}]" for one in ("spec", "docs", "run", "live", "code", "reported", "inferred")}


def test_the_rules_keep_their_anchors() -> None:
    numbers = {"A": 0, "B": 9, "C": 9, "D": 0, "E": 0, "F": 6, "G": 3, "H": 4, "I": 6, "J": 7, "K": 5, "L": 4, "M": 4}
    assert rules() == {*numbers, *(f"{letter}{n + 1}" for letter, most in numbers.items() for n in range(most))}
    named = [re.match(r"[A-M][0-9]?(?=\. )", title) for title in sections("rules")]
    assert {one.group() for one in named if one} == rules(), "each anchor stands at the rule of its name"


def test_each_cited_section_exists() -> None:
    wrong = [f"{name}: {why}" for name, text in citing() for why in missing(text)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "complaints"),
    [
        ("see docs/hubspot.rst (Signing rules), and docs/rules.rst B4.", 0),
        ("a switch (docs/hubspot.rst: Unknowns 20; Threading)", 0),
        ("# docs/hubspot.rst\n    # (Threading; Idempotency)", 0),
        ("Open question 12 both ways (D07, D52)", 0),
        ("(open question 0)", 1),
        ("as D55 does", 1),
        ("docs/hubspot.rst (Signing)", 1),
        ("docs/hubspot.rst (Unknowns 99)", 1),
        ("docs/hubspot.rst (Threading 1)", 1),
        ("docs/botpress.rst (Threading; Studio)", 1),
        ("docs/rules.rst B4, B12", 1),
        ("docs/rules.rst (B4)", 1),
        ("it is in docs/hubspot.rst", 1),
    ],
)
def test_the_check_of_citations_bites(text: str, complaints: int) -> None:
    assert len(list(missing(text))) == complaints


def test_no_page_is_cited_that_a_reader_does_not_have() -> None:
    wrong = [
        f"{name}: {line.strip()}" for name, text in citing() for line in text.splitlines() if ELSEWHERE.search(line)
    ]
    assert not wrong, "\n".join(wrong)


def named_paths() -> set[str]:
    """The files and folders that the page about the architecture names."""
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    return set(re.findall(r"``([\w./-]+(?:/|\.py|\.rst))``", text)) - {"/hubspot/"}


def test_every_path_that_the_architecture_names_exists() -> None:
    assert len(named_paths()) > 30
    below = [ROOT, ROOT / "flask_hubspot_hitl"]
    assert not [one for one in sorted(named_paths()) if not any((folder / one).exists() for folder in below)]


def test_a_webhook_is_followed_to_its_receiver_in_ten_files() -> None:
    text = (ROOT / "docs" / "architecture.rst").read_text(encoding="utf-8")
    listed = text.partition("The files to open for it")[2].partition("Ten;")[0]
    assert len(re.findall(r"``[\w/]+\.py``", listed)) == 10


def test_each_threat_names_a_test_that_is_there() -> None:
    [table] = tree(ROOT / "docs" / "security.rst").findall(nodes.table)
    rows = [list(row.children) for row in table.findall(nodes.row)]
    assert [cell.astext() for cell in rows[0]] == ["Threat", "What stands against it", "Tests"]
    assert len(rows) > 20
    for threat, _, tests in rows[1:]:
        named = [one.astext() for one in tests.findall(nodes.literal)]
        assert named, threat.astext()
        for name in named:
            path, _, function = name.partition("::")
            assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8"), name


HOSTS = {"127.0.0.1:8100", "127.0.0.1:8200"}
"""Where pages may lead to outside of the project: by http on this machine, else by https. Add a host with its link."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_links_to_elsewhere_are_https_and_of_hosts_that_are_known(path: Path) -> None:
    for reference in tree(path).findall(nodes.reference):
        to = urlsplit(str(reference.get("refuri", "")))
        if to.netloc:
            assert to.netloc in HOSTS, to.geturl()
            assert to.scheme == ("http" if to.hostname == "127.0.0.1" else "https"), to.geturl()


def test_a_link_that_leads_nowhere_on_the_site_is_found(tmp_path: Path) -> None:
    """``make docs`` ends with this check."""
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">b</a> <a href="#x">x</a> <a href="https://q">q</a>')
    (tmp_path / "b.html").write_text('<p id="z"><img src="gone.png"><a href="a.rst">a</a><a href="a.html#x">x</a>')
    command = [sys.executable, str(ROOT / ".ci" / "links.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stdout.splitlines() == ["a.html: b.html#y", "b.html: a.rst", "b.html: gone.png"]


TYPED_NOWHERE = {"CONTRIBUTING", "clients", "legacy", "tutorial"}
"""Pages whose commands no test types; they are looked at here."""


def is_there(line: str) -> bool:
    """Tell whether a command names what exists."""
    match [word for word in shlex.split(line) if not re.match(r"[A-Z_]+=", word)]:
        case ["make", target]:
            return re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE) is not None
        case [".venv/bin/python", "-m", "pytest", path, *_]:
            return (ROOT / path).is_file()
        case ["flask", "hubspot-hitl", name, *options]:
            command = cli.group.get_command(click.Context(cli.group), name)
            return command is not None and set(options) <= {text for one in command.params for text in one.opts}
    return False


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_the_code_of_each_page_is_run_by_a_test(path: Path) -> None:
    found = [one for one in tree(path).findall(nodes.literal_block) if one["classes"][1:]]
    if path.stem in TYPED_NOWHERE:
        assert all("shell" in one["classes"] for one in found)
        assert not [line for one in found for line in one.astext().splitlines() if not is_there(line)]
    elif found:
        name = re.compile(rf'"{re.escape(path.stem)}"|\b{re.escape(path.stem)}\.rst"')
        tests = [one for one in (ROOT / "tests").glob("test_*.py") if one != Path(__file__)]
        assert any(name.search(one.read_text(encoding="utf-8")) for one in tests), "no test names this page"
