"""The pages of the project: they render without a warning, facts say how they are known, and what is cited exists."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from docutils import nodes
from docutils.core import publish_doctree

ROOT = Path(__file__).parents[1]
STRICT = {"report_level": 2, "halt_level": 5, "syntax_highlight": "none", "_disable_config": True, "warning_stream": ""}
PAGES = sorted([*ROOT.glob("*.rst"), *(ROOT / "docs").glob("*.rst")])
FACTS = ("hubspot", "botpress")
FOLDERS = ("flask_hubspot_hitl", "tests", "example_app")
TEXT = {".py", ".js", ".html", ".css", ".sql", ".lua", ".golden"}
TOOLS = [ROOT / name for name in ("setup.cfg", "pyproject.toml", "Makefile", ".ci/run")]
CITED = re.compile(r"docs/(?:hubspot|botpress|rules)\.rst")
SECTIONS = re.compile(r"docs/(hubspot|botpress)\.rst(?: \(|: )([^()]+)\)")
RULES = re.compile(r"docs/rules\.rst ([A-I][0-9]*(?:, [A-I][0-9]*)*)\b")
LINK = re.compile(r"`docs/\w+\.rst <docs/\w+\.rst>`_|``docs/\w+\.rst``")
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
    return {name.upper() for name in named if re.fullmatch(r"[a-i][0-9]?", name)}


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
    assert directives <= {"contents", "list-table", "code-block"}, "plain docutils is enough for these pages"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_each_link_to_a_file_of_the_project_leads_there(path: Path) -> None:
    for reference in tree(path).findall(nodes.reference):
        target = str(reference.get("refuri", ""))
        assert not target or "://" in target or target.startswith("mailto:") or (path.parent / target).is_file(), target


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
    numbers = {"A": 0, "B": 9, "C": 9, "D": 0, "E": 0, "F": 6, "G": 3, "H": 4, "I": 6}
    assert rules() == {*numbers, *(f"{letter}{n + 1}" for letter, most in numbers.items() for n in range(most))}
    named = [re.match(r"[A-I][0-9]?(?=\. )", title) for title in sections("rules")]
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
