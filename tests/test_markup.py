"""HTML as HubSpot's editor, mails, documents and sheets make it: no words meet, in ``html`` and in ``text``."""

from __future__ import annotations

import re
import time
from html import escape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_hubspot_hitl.hubspot.content import parse_message
from flask_hubspot_hitl.hubspot.markup import MARKUP_LIMIT, clean_html, html_to_text

_NAMES = (
    "a abbr b big cite code del em font i img ins kbd label mark o:p q s samp small span strike strong sub sup tt u"
)
INLINE = frozenset(f"{_NAMES} tt u var wbr".split())

HUBSPOT = [
    ("<div>Hi Rosa, I can <b>fix</b> that</div>", "Hi Rosa, I can fix that"),
    ("<div>one</div><div><br></div><div>two</div>", "one\n\ntwo"),
    ('<p style="margin:0">one</p><p style="margin:0">two</p>', "one\ntwo"),
    ("<ul><li>one</li><li>two</li></ul>", "- one\n- two"),
    ("<ul>\n<li><p>one</p></li>\n<li><p>two</p></li>\n</ul>", "- one\n- two"),
    ("<ol><li>one</li><li>two</li></ol>after", "1. one\n2. two\nafter"),
    ('<ol start="3"><li>three</li><li>four</li><li value="9">nine</li><li>ten</li></ol>',
     "3. three\n4. four\n9. nine\n10. ten"),
    ("<ul><li>one<ul><li>inner</li><li>inner two</li></ul></li><li>two</li></ul>",
     "- one\n  - inner\n  - inner two\n- two"),
    ("<ol><li>one<ol><li>inner</li></ol></li><li>two</li></ol>", "1. one\n  1. inner\n2. two"),
    ("<ul><li>one</li><ul><li>badly nested</li></ul><li>two</li></ul>", "- one\n  - badly nested\n- two"),
    ("<blockquote>you said</blockquote>I say", "> you said\nI say"),
    ("<blockquote><p>one</p><p>two</p></blockquote><p>mine</p>", "> one\n> two\nmine"),
    ('<span style="font-size:18px">Big</span> <span style="color:#f00">red</span>', "Big red"),
    ('<a href="https://x.test/a">here</a> and <a href="mailto:a@x.test">a@x.test</a>',
     "here (https://x.test/a) and a@x.test"),
    ('<div>See<img src="https://x.hubspotusercontent.net/i.png" alt="i">this</div>',
     "See[image: https://x.hubspotusercontent.net/i.png]this"),
    ("<div>one<br>two<br/>three</div>", "one\ntwo\nthree"),
    ("<div>one<br></div><div>two</div>", "one\ntwo"),
    ("<h1>Title</h1>text<h3>Sub</h3>more", "Title\ntext\nSub\nmore"),
    ("<div>a&nbsp;b &amp; c</div>", "a b & c"),
    ("<div><u>under</u><i>ital</i><sub>2</sub></div>", "underital2"),
]  # fmt: skip
MAIL = [
    ('<p class="MsoNormal">Dear Ana,<o:p></o:p></p><p class="MsoNormal"><o:p>&nbsp;</o:p></p><p class="MsoNormal">Bye'
     "<o:p></o:p></p>", "Dear Ana,\nBye"),
    ("<!--[if gte mso 9]><xml><w:View>Normal</w:View></xml><![endif]--><p>one</p>", "one"),
    ('<div dir="ltr">yes<br></div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">On Monday Ana wrote:'
     '<br></div><blockquote class="gmail_quote" style="margin:0"><div>is it?</div></blockquote></div>',
     "yes\n\nOn Monday Ana wrote:\n> is it?"),
    ('<blockquote type="cite"><blockquote type="cite">first</blockquote>second</blockquote>third',
     "> > first\n> second\nthird"),
    ('<table border="0" cellpadding="0"><tbody><tr><td><p>Ana Ruiz</p><p>Sales</p></td></tr></tbody></table>',
     "Ana Ruiz\nSales"),
    ("<table><tr><td>Phone</td><td><a href='tel:+34911222333'>+34911222333</a></td></tr></table>",
     "Phone | +34911222333"),
    ("<table><tr><td></td><td>Total</td><td></td></tr></table>", "| Total"),
    ("<table><tr><td><table><tr><td>in</td><td>ner</td></tr></table></td><td>outer</td></tr></table>",
     "in | ner | outer"),
    ("<div>one</div><hr><div>two</div>", "one\ntwo"),
    ("<center>middle</center>after", "middle\nafter"),
    ("<font face='Arial'>one</font><div><font>two</font></div>", "one\ntwo"),
    ("<address>Street 1<br>City</address>Country", "Street 1\nCity\nCountry"),
    ("<pre>-- \nAna\n  Ruiz</pre>done", "--\nAna\n  Ruiz\ndone"),
    ('<style>p{color:red}</style><p>one</p><p>two</p>', "one\ntwo"),
    ("<html><head><title>Mail</title></head><body><p>one</p></body></html>", "Mail\none"),
]  # fmt: skip
SHEETS = [
    ("<google-sheets-html-origin><style>td{}</style><table xmlns='x' cellspacing='0' dir='ltr' border='1'><colgroup>"
     "<col width='100'/><col width='100'/></colgroup><tbody><tr style='height:21px;'><td style='x' "
     'data-sheets-value=\'{"1":3,"3":10}\'>10</td><td>50</td></tr><tr><td>20</td><td>60</td></tr></tbody></table>',
     "10 | 50\n20 | 60"),
    ("<table><thead><tr><th>Month</th><th>Sum</th></tr></thead><tbody><tr><td>Jan</td><td>5</td></tr></tbody>"
     "<tfoot><tr><td>All</td><td>5</td></tr></tfoot></table>", "Month | Sum\nJan | 5\nAll | 5"),
    ("<table border=0 width=128><col width=64 span=2><tr height=19><td height=19 class=xl65 align=right>10"
     "</td><td class=xl65 align=right>50</td></tr></table>", "10 | 50"),
    ("<table><tr><td align='left'><font face='Calibri'>A</font></td><td><b>B</b></td></tr></table>", "A | B"),
    ("<table><tr><td><p class=MsoNormal>10<o:p></o:p></p></td><td><p class=Mso>50<o:p></o:p></p></td></tr></table>",
     "10 | 50"),
    ("<table><tr><td colspan=2>Wide</td></tr><tr><td>a</td><td>b</td></tr></table>", "Wide\na | b"),
    ("<table><tr><td>a</td><td></td><td>c</td></tr></table>", "a | | c"),
    ("<table><tr><td></td><td></td></tr><tr><td>x</td></tr></table>", "x"),
    ("<table><caption>Prices</caption><tr><td>1</td><td>2</td></tr></table>after", "Prices\n1 | 2\nafter"),
    ("before<table><tr><td>1</td></tr></table>after", "before\n1\nafter"),
    ("<table><tr><td>a<br>b</td><td>c</td></tr></table>", "a\nb | c"),
    ("<table><tr><td><ul><li>x</li><li>y</li></ul></td><td>z</td></tr></table>", "- x\n- y | z"),
    ("<td>10</td><td>50</td>", "10 50"),
    ("<tr><td>10</td><td>50</td></tr><tr><td>20</td></tr>", "10 50\n20"),
    ("<TABLE><TR><TD>10<TD>50<TR><TD>20</TABLE>", "10 | 50\n20"),
]  # fmt: skip
DOCUMENTS = [
    ('<b id="docs-internal-guid-1" style="font-weight:normal;"><p dir="ltr"><span>one</span></p><ul><li dir="ltr" '
     'aria-level="1"><p dir="ltr" role="presentation"><span>item</span></p></li></ul></b>', "one\n- item"),
    ("<dl><dt>Term</dt><dd>Meaning</dd><dt>Next</dt><dd>Other</dd></dl>", "Term\nMeaning\nNext\nOther"),
    ("<section><h2>Head</h2><article>body</article></section><footer>foot</footer>", "Head\nbody\nfoot"),
    ("<details><summary>More</summary>hidden</details>", "More\nhidden"),
    ("<figure><img src='https://x.test/i.png'><figcaption>A cat</figcaption></figure>",
     "[image: https://x.test/i.png]\nA cat"),
    ("<nav>one</nav><main>two</main><aside>three</aside>", "one\ntwo\nthree"),
    ("<ul><li><input type='checkbox'>done</li><li>open</li></ul>", "- done\n- open"),
    ("<p>one<p>two<p>three", "one\ntwo\nthree"),
    ("<li>alone</li><li>again</li>", "- alone\n- again"),
    ("<pre><code>def f():\n    return 1</code></pre>", "def f():\n    return 1"),
    ("<a href='https://x.test'><div>one</div><div>two</div></a>", "one\ntwo\n(https://x.test)"),
    ("<form><fieldset><legend>Who</legend>Ana</fieldset></form>", "Who\nAna"),
    ("<ol><li><ul><li>inner</li></ul></li></ol>", "- inner"),
]  # fmt: skip
FRAGMENTS = [*HUBSPOT, *MAIL, *SHEETS, *DOCUMENTS]


class Words(HTMLParser):
    """The words of some HTML, by a rule of its own: every tag but inline ones parts words."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.parts: list[str] = []
        self.skips = 0
        self.feed(markup)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.parts += [] if tag in INLINE else [" "]
        self.skips += tag == "style"

    def handle_endtag(self, tag: str) -> None:
        self.parts += [] if tag in INLINE else [" "]
        self.skips -= tag == "style"

    def handle_data(self, data: str) -> None:
        self.parts += [] if self.skips else [data]

    @property
    def found(self) -> list[str]:
        return "".join(self.parts).split()


def is_within(words: list[str], text: str) -> bool:
    """Whether the words stand in the text in their order, each by itself."""
    rest = iter(re.sub(r"\[image: [^]]*\]", "", text).split())
    return all(word in rest for word in words)


def test_there_are_sixty() -> None:
    assert len({markup for markup, _ in FRAGMENTS}) == len(FRAGMENTS) >= 60


@pytest.mark.parametrize(("markup", "text"), FRAGMENTS)
def test_no_words_meet(markup: str, text: str) -> None:
    words = Words(markup).found
    assert html_to_text(markup) == text
    assert is_within(words, text)
    assert Words(clean_html(markup)).found == words
    assert clean_html(clean_html(markup)) == clean_html(markup)
    assert html_to_text(clean_html(markup)) == text or "tel:" in markup


word = st.text("abcxyz019<&é中", min_size=1, max_size=4)
cell = st.builds(
    lambda words, shape: shape.format("<br>".join(map(escape, words))),
    st.lists(word, min_size=1, max_size=3),
    st.sampled_from(["{}", "<p>{}</p>", "<div>{}</div>", "<b>{}</b>", " {} ", "<ul><li>{}</li></ul>", "<p></p>{}"]),
)
table = st.builds(
    lambda rows, ends, header: (
        "<table>"
        + "".join(
            f"<tr>{''.join(f'<{header}>{one}' + (f'</{header}>' if ends else '') for one in row)}"
            + ("</tr>" if ends else "")
            for row in rows
        )
        + "</table>"
    ),
    st.lists(st.lists(cell, min_size=1, max_size=4), min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from(["td", "th"]),
)
items = st.recursive(
    cell,
    lambda inner: st.builds(
        lambda kind, some: f"<{kind}>{''.join(f'<li>{one}</li>' for one in some)}</{kind}>",
        st.sampled_from(["ul", "ol"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


@given(st.lists(table | items | cell, min_size=1, max_size=4))
def test_words_of_any_table_and_list_stay_apart(parts: list[str]) -> None:
    markup = "<h2>head</h2>".join(parts)
    words = Words(markup).found
    assert Words(clean_html(markup)).found == words
    assert is_within(words, html_to_text(markup))


@given(st.lists(st.lists(word, min_size=1, max_size=5), min_size=1, max_size=5))
def test_a_row_is_a_line(rows: list[list[str]]) -> None:
    markup = "".join(f"<tr>{''.join(f'<td><p>{escape(one)}</p></td>' for one in row)}</tr>" for row in rows)
    assert html_to_text(f"<table>{markup}</table>") == "\n".join(" | ".join(row) for row in rows)


@pytest.mark.parametrize(
    "markup",
    [
        f"<p>{'word ' * 30_000}</p>",
        f"<div><p>{'word ' * 30_000}",
        "word" * 50_000,
        f"<p style='{'x' * 150_000}'>word</p>",
        f"<p title='{'x' * 150_000}'>word</p>",
        "<div>" * 30_000 + "word",
        f"{'<b></b>' * 20_000}word",
        f"<!--{'x' * 150_000}-->word",
        f"<style>{'x' * 150_000}</style>word",
        f"<p>word &{'amp;' * 40_000}</p>",
        "a < b " * 20_000 + "word",
    ],
)
def test_what_is_too_long_is_cut_and_never_to_nothing(markup: str) -> None:
    raw = {"id": "m1", "conversationsThreadId": "1", "createdAt": 1, "text": "", "richText": markup}
    for text in (html_to_text(markup), clean_html(markup), parse_message(raw).text):
        assert "word" in text or "a" in text
        assert len(text) <= MARKUP_LIMIT * 5


@pytest.mark.parametrize("piece", ["<table><tr><td>", "<ul><li>", "<!--", "<style>", "<blockquote>", "<pre> ", "<td>"])
@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_hostile_markup_costs_little(piece: str, size: int) -> None:
    started = time.thread_time()
    html_to_text(piece * (size // len(piece)))
    html_to_text(f"<pre>{' ' * size}")
    assert time.thread_time() - started < 8
