"""Changing JSON in place: whatever a person's file looks like, what is not ours in it stays byte for byte."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_hubspot_hitl.hubspot import project
from flask_hubspot_hitl.hubspot.project.document import NESTING, Document, Unreadable
from flask_hubspot_hitl.hubspot.project.profiles import filled, used

from .project_commands import APP, WEBHOOKS, Json

BASE = "https://bot.example.test/hubspot"
SCOPES = ("oauth", "conversations.read", "conversations.write", "files.read")
WANTED = project.Wanted(base_urls=(BASE, "https://old.example.test/hubspot"), scopes=SCOPES)
PROJECT = {"name": "mine", "srcDir": "src", "platformVersion": "2026.09"}
EVENTS: list[Json] = project.webhooks_file("")["config"]["subscriptions"]["hubEvents"]

plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
anything = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)
their_keys = st.dictionaries(st.text(min_size=1).map(lambda text: f"their {text}"), anything, max_size=3)
their_texts = st.lists(st.text().map(lambda text: f"their {text}"), max_size=3)


class Person:
    """Writes JSON in a way of their own; ``pattern`` is what may come of it: only what is ours, and additions."""

    def __init__(self, random: Random, ours: set[str], grows: set[str]) -> None:
        self.random = random
        self.ours = ours
        self.grows = grows
        self.text = ""
        self.pattern = ""

    def say(self, text: str) -> None:
        self.text += text
        self.pattern += re.escape(text)

    def blank(self) -> None:
        kinds = ("", "", " ", "\n", "\t", "\r\n    ", "\n  ", "  \n\n ")
        self.say(self.random.choice(kinds))

    def string(self, text: str) -> str:
        spelled = json.dumps(text, ensure_ascii=self.random.random() < 0.5)
        return spelled.replace("/", "\\/") if self.random.random() < 0.3 else spelled

    def write(self, value: Any, path: str = "") -> None:
        if path in self.ours:
            self.text += self.string(value) if isinstance(value, str) else json.dumps(value)
            self.pattern += "[^,{}]*?"
        elif isinstance(value, dict | list):
            self.parts(value, path)
        else:
            self.say(self.string(value) if isinstance(value, str) else json.dumps(value))

    def parts(self, value: Any, path: str) -> None:
        is_object = isinstance(value, dict)
        self.say("{" if is_object else "[")
        items: list[tuple[Any, Any]] = list(value.items()) if is_object else list(enumerate(value))
        if is_object:
            self.random.shuffle(items)
        grown = "(?s:.*?)" if path in self.grows else ""
        if not items and grown:
            self.text += self.random.choice(("", " ", "\n"))
            self.pattern += grown
        for number, (key, one) in enumerate(items):
            self.say("," if number else "")
            self.blank()
            if is_object:
                self.say(self.string(key))
                self.blank()
                self.say(":")
                self.blank()
            self.write(one, f"{path}.{key}" if is_object else f"{path}[{self.name(one)}]")
            self.pattern += grown if number == len(items) - 1 else ""
            self.blank()
        self.say("}" if is_object else "]")

    def name(self, one: Any) -> str:
        return str(one.get("subscriptionType")) + str(one.get("propertyName")) if isinstance(one, dict) else ""


@st.composite
def app_files(draw: st.DrawFn) -> Json:
    auth: Json = {
        "type": draw(st.sampled_from(["oauth", "static"])),
        "redirectUrls": draw(
            st.permutations([*draw(their_texts), *draw(st.sampled_from([[], [*WANTED.redirect_urls]]))])
        ),
        "requiredScopes": draw(
            st.permutations([*draw(their_texts), *draw(st.lists(st.sampled_from(SCOPES), unique=True))])
        ),
        **draw(st.fixed_dictionaries({}, optional={"optionalScopes": their_texts})),
        **draw(their_keys),
    }
    config = {
        "name": "Theirs",
        "description": "Theirs",
        "distribution": "marketplace",
        "auth": auth,
        **draw(their_keys),
    }
    return {"uid": "theirs", "type": "app", "config": config, **draw(their_keys)}


@st.composite
def webhooks_files(draw: st.DrawFn) -> Json:
    events = [{**one, "active": draw(st.booleans()), **draw(their_keys)} for one in EVENTS if draw(st.booleans())]
    others = [{"subscriptionType": f"their {text}"} for text in draw(st.lists(st.text(), max_size=2))]
    subscriptions = {"hubEvents": draw(st.permutations([*events, *others])), **draw(their_keys)}
    given = {"targetUrl": draw(st.text(max_size=9) | st.just(WANTED.target_url)), "maxConcurrentRequests": 3}
    config = {"settings": {**given, **draw(their_keys)}, "subscriptions": subscriptions, **draw(their_keys)}
    return {"uid": "theirs_too", "type": "webhooks", "config": config, **draw(their_keys)}


def merged_app(before: Json) -> Json:
    """What is to come of it, worked out in another way."""
    auth = dict(before["config"]["auth"])
    auth["type"] = "oauth"
    for key, wanted in (("redirectUrls", WANTED.redirect_urls), ("requiredScopes", SCOPES)):
        auth[key] = [*auth[key], *(one for one in wanted if one not in auth[key])]
    auth = {**auth, **{key: auth.get(key, []) for key in ("optionalScopes", "conditionallyRequiredScopes")}}
    return {**before, "config": {**before["config"], "auth": auth}}


def merged_webhooks(before: Json) -> Json:
    config = before["config"]
    events = config["subscriptions"]["hubEvents"]
    ours = {(one["subscriptionType"], one.get("propertyName")) for one in EVENTS}
    known = {(one["subscriptionType"], one.get("propertyName")) for one in events}
    mended = [
        {**one, "active": True} if (one["subscriptionType"], one.get("propertyName")) in ours else one for one in events
    ]
    added = [one for one in EVENTS if (one["subscriptionType"], one.get("propertyName")) not in known]
    return {
        **before,
        "config": {
            **config,
            "settings": {**config["settings"], "targetUrl": WANTED.target_url},
            "subscriptions": {**config["subscriptions"], "hubEvents": [*mended, *added]},
        },
    }


OURS = {".config.auth.type", ".config.settings.targetUrl"} | {
    f".config.subscriptions.hubEvents[{one['subscriptionType']}{one.get('propertyName')}].active" for one in EVENTS
}
GROWS = {".config.auth", ".config.auth.redirectUrls", ".config.auth.requiredScopes", ".config.subscriptions.hubEvents"}


@settings(max_examples=50, deadline=None)
@given(app=app_files(), webhooks=webhooks_files(), seed=st.integers(0, 2**32))
def test_what_is_not_ours_stays_byte_for_byte(app: Json, webhooks: Json, seed: int) -> None:
    random = Random(seed)
    files, patterns = {"hsproject.json": json.dumps(PROJECT).encode()}, {}
    for path, value in ((APP, app), (WEBHOOKS, webhooks)):
        person = Person(random, OURS, GROWS)
        person.blank()
        person.write(value)
        person.blank()
        files[path], patterns[path] = person.text.encode(), person.pattern
        assert json.loads(person.text) == value
    files["src/app/cards/card-hsmeta.json"] = b'{"uid":"card",  "type":"card"}'
    folder = project.Folder(Path("mine"), files)
    changed = project.changes(folder, WANTED)
    assert changed.keys() <= {APP, WEBHOOKS}
    after = folder.with_files(changed)
    for path, merged in ((APP, merged_app(app)), (WEBHOOKS, merged_webhooks(webhooks))):
        text = after.files[path].decode()
        assert json.loads(text) == merged
        assert re.fullmatch(patterns[path], text), text
    assert project.changes(after, WANTED) == {}


# Reading -------------------------------------------------------------------------------------------------


@given(anything, st.sampled_from([None, 0, 3]))
def test_it_reads_what_python_reads(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    document = Document(text)
    assert document.value == value
    assert text[document.root.start : document.root.end] == text


@given(st.text(alphabet='{}[]":,0123456789.eE+-truefalsn \n\\u/*#\ufeff', max_size=12))
def test_it_refuses_what_is_no_json(text: str) -> None:
    try:
        known = json.loads(text, parse_constant=lambda word: json.loads(word + "!"))
    except ValueError:
        with pytest.raises(Unreadable):
            Document(text)
    else:
        assert Document(text).value == known


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"{}\n// end", "comment in line 2"),
        (b'{\n"a": 1,\n/* b */ "c": 2}', "comment in line 3"),
        (b'{"a": 1,}', "line 1, column 9"),
        (b'{"a": NaN}', "line 1, column 7"),
        (b"{'a': 1}", "line 1, column 2"),
        (b'{"a" 1}', "line 1, column 6"),
        (b'{"a": "\n"}', "line 1, column 8"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b"[" * (NESTING + 2), "nested too deeply"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(raw: bytes, why: str) -> None:
    with pytest.raises(Unreadable, match=re.escape(why)):
        Document.of(raw)


def test_a_key_that_is_there_twice_is_known_and_the_last_counts() -> None:
    document = Document('{"a": 1, "a": 2}')
    assert (document.twice, document.value) == (["a"], {"a": 2})


def test_removing_takes_the_comma_along() -> None:
    for text, index, left in (
        ("[1]", 0, "[]"),
        ("[ 1 , 2 ]", 0, "[ 2 ]"),
        ("[ 1 , 2 ]", 1, "[ 1 ]"),
        ("[\n 1,\n 2,\n 3\n]", 1, "[\n 1,\n 3\n]"),
    ):
        document = Document(text)
        document.remove((index,))
        assert document.text == left


def test_what_is_added_looks_like_its_neighbours() -> None:
    document = Document('{\r\n\t"a": [\r\n\t\t1\r\n\t]\r\n}')
    document.append(("a",), 2)
    document.put(("b",), {"c": []})
    assert document.text == '{\r\n\t"a": [\r\n\t\t1,\r\n\t\t2\r\n\t],\r\n\t"b": {\r\n\t\t"c": []\r\n\t}\r\n}'


# Profiles ------------------------------------------------------------------------------------------------


def test_variables_are_filled_in_as_hubspot_does() -> None:
    have = {"port": 8000, "on": True, "host": "a.example", "odd": [], "again": "${port}"}
    value = {"a": "${port}", "b": ["${on}", "http://${host}:${port}/${on}"], "${host}": None, "c": "${odd} ${none}"}
    assert filled(value, have) == {
        "a": 8000,
        "b": [True, "http://a.example:8000/true"],
        "${host}": None,
        "c": "${odd} ${none}",
    }
    assert filled("${again}", have) == "${port}"
    assert set(used(value)) == {"port", "on", "host", "odd", "none"}
