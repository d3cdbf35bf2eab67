"""The desk and the example app's chat in a real browser: the whole story, restarts, keyboard, phone, hostile texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from . import browser_helpers
from .browser_helpers import NAME, PHONE, Site, Watch, attach, expect, shot, wait_for
from .helpers import Json
from .simulator_helpers import CC, person

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

AGENT, COLLEAGUE = "Noor Haddad", "Teo Lindqvist"
ELSEWHERE = "Not delivered: This chat continued elsewhere."


def say(page: Page, text: str) -> None:
    """Write something and press Enter, on either page."""
    box = page.get_by_label("Message", exact=True)
    box.fill(text)
    box.press("Enter")


def said(page: Page, text: str) -> Locator:
    """What was said, on either page."""
    return page.locator("#messages li").filter(has_text=text)


def call_somebody(chat: Page) -> None:
    """Ask the bot for a person and send the form, which knows who we are already."""
    say(chat, "I want a human")
    chat.get_by_role("button", name="Call somebody").click()
    expect(chat.locator("#state")).to_have_text("Waiting for our team …")


def row(desk: Page, name: str = NAME) -> Locator:
    """The newest conversation with somebody in the desk's list."""
    return desk.locator("#threads button").filter(has_text=name).first


def choose(desk: Page, name: str = NAME) -> None:
    """Open it."""
    row(desk, name).click()
    expect(desk.locator("#title")).to_have_text(name)


def download(link: Locator) -> bytes:
    """The content behind a file's link."""
    with link.page.expect_download() as begun:
        link.click()
    return begun.value.path().read_bytes()


def test_the_whole_story_in_two_tabs(site: Site, watch: Watch) -> None:
    window = watch.context()
    chat, desk = watch.open(site.chat.url, window), watch.open(site.desk.url, window)
    expect(desk.locator("#live")).to_have_text("Live")
    expect(desk.locator("#empty")).to_contain_text("No open conversation")
    expect(chat.locator("#state")).to_have_text("Our bot is answering")
    chat.get_by_role("button", name="What are your hours?").click()
    expect(said(chat, "Monday to Friday")).to_have_class("bot")
    call_somebody(chat)

    expect(row(desk).locator(".badge")).to_have_text("1 unread")
    expect(row(desk).locator("time")).to_have_class("waiting")
    assert desk.title().startswith("(1) Inbox")
    choose(desk)
    expect(row(desk).locator(".badge")).to_have_count(0)
    expect(desk.locator("#messages .note")).to_contain_text("What are your hours?")
    expect(desk.locator("#contact")).to_contain_text(PHONE)
    desk.keyboard.press("a")
    expect(said(chat, f"{AGENT} joined the chat.")).to_have_class("system")
    expect(chat.locator("#state")).to_have_text(f"{AGENT} is answering")
    expect(chat.locator("#face .avatar")).to_have_text("NH")

    attach(chat, "order.txt", b"1 teapot")
    say(chat, "My order 1815 has not come. ☎")
    at_desk = said(desk, "My order 1815 has not come. ☎")
    assert download(at_desk.get_by_role("link", name="order.txt")) == b"1 teapot"
    assert download(said(chat, "My order").get_by_role("link", name="order.txt")) == b"1 teapot"
    desk.keyboard.press("r")
    desk.keyboard.type("I am looking into it, <b>Rosa</b>.")
    desk.keyboard.press("Enter")
    answer = said(chat, "I am looking into it, <b>Rosa</b>.")
    expect(answer).to_have_class("agent")
    expect(answer.locator(".by bdi")).to_have_text(AGENT)
    expect(said(desk, "looking into it").locator(".receipt")).to_have_text(f"Read by {NAME}")  # the page tells
    attach(desk, "receipt.txt", b"on its way")
    desk.get_by_role("button", name="Send").click()
    assert download(chat.get_by_role("link", name="receipt.txt")) == b"on its way"
    desk.get_by_label("Message", exact=True).press("Escape")
    desk.keyboard.press("n")
    desk.keyboard.type("Between us: always right.")
    desk.keyboard.press("Enter")
    expect(said(desk, "Between us")).to_have_class("note ")
    expect(desk.locator("#messages .receipt").last).to_have_text(f"Read by {NAME}")
    colleague = watch.open(site.desk.url)
    colleague.get_by_label("You are").select_option(label=COLLEAGUE)
    choose(colleague)
    keep_the_looks(watch.open(site.chat.url, window), watch.open(colleague.url))
    colleague.get_by_role("button", name="Assign to me").click()
    expect(chat.locator("#state")).to_have_text(f"{COLLEAGUE} is answering")
    expect(desk.get_by_label("Owner")).to_have_value("A-988")
    desk.get_by_role("button", name="Unassign").click()
    expect(chat.locator("#state")).to_have_text("Waiting for our team …")
    assert "Between us" not in chat.content()
    chat.get_by_role("button", name="End chat").click()
    expect(said(desk, "closed this")).to_be_visible()
    expect(chat.locator("#state")).to_have_text("Our bot is answering")

    call_somebody(chat)  # the conversation goes on in another thread, so what is written in the first is refused
    expect(row(desk).locator(".badge")).to_have_text("1 unread")
    desk.keyboard.press("r")
    say(desk, "Are you still there?")
    expect(said(desk, "Are you still there?").locator(".receipt")).to_have_text(ELSEWHERE)
    refused = desk.locator("#lines summary").filter(has_text="PATCH").last
    refused.click()
    expect(desk.locator("#lines pre").filter(has_text='"statusType": "FAILED"').first).to_be_visible()
    replay(desk, chat)
    assert "Are you still there?" not in chat.content()

    choose(desk)
    say(desk, "Here I am again.")
    expect(said(chat, "Here I am again.")).to_have_class("agent")
    desk.get_by_role("button", name="Close", exact=True).click()
    expect(said(chat, "completed")).to_have_class("system")
    say(chat, "hello again")
    expect(said(chat, "Hello!")).to_have_class("bot")
    expect(desk.locator("#title")).to_have_text(NAME)
    desk.keyboard.press("e")
    expect(said(desk, "reopened this")).to_be_visible()
    expect(chat.locator("#state")).to_have_text(f"{AGENT} is answering")


def replay(desk: Page, chat: Page) -> None:
    """Deliver the agent's first message once more from the wire view; the user sees it once."""
    messages = desk.locator("#lines summary").filter(has_text="OUTGOING_CHANNEL_MESSAGE_CREATED")
    before = messages.count()
    messages.first.click()
    desk.get_by_role("button", name="Deliver again").click()
    expect(desk.locator("#notice")).to_have_text("Delivered again: 204")
    expect(messages).to_have_count(before + 1)
    expect(said(chat, "I am looking into it")).to_have_count(1)


def keep_the_looks(chat: Page, desk: Page) -> None:
    """Both pages as they look now, large and small, light and dark; nothing is wider than the screen."""
    expect(desk.locator("#messages .receipt").last).to_be_visible()
    desk.locator("#lines summary").last.click()
    expect(desk.locator("#lines pre").first).to_be_visible()
    for size, (width, height) in browser_helpers.SIZES.items():
        for page in (chat, desk):
            page.set_viewport_size({"width": width, "height": height})
        looks(f"chat-{size}", chat, width)
        looks(f"desk-{size}", desk, width)
    desk.get_by_role("button", name="Contact and wire view").click()
    looks("wire-phone", desk, width)


def looks(name: str, page: Page, width: int) -> None:
    """Keep how a page looks, light and dark."""
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        shot(page, f"{name}-{scheme}")


def api(site: Site, method: str, path: str, body: Json) -> Any:
    """An API call to the stand-in with the preset portal's token."""
    token = site.hubspot.control("GET", "access-token")["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    answer = site.hubspot._http.request(method, site.desk.url + path, json=body, headers=headers, timeout=30)
    assert answer.ok, answer.text
    return answer.json()


@pytest.mark.slow
def test_both_pages_come_back_after_a_restart(site: Site, watch: Watch) -> None:
    site.hubspot.chaos(retry_delays=[0.3] * 100)
    window = watch.context()
    chat, desk = watch.open(site.chat.url, window), watch.open(site.desk.url, window)
    call_somebody(chat)
    choose(desk)
    say(desk, "Good morning")
    expect(said(chat, "Good morning")).to_be_visible()

    watch.outage = True
    site.chat.stop()
    expect(chat.locator("#state")).to_have_text("No connection. Trying again …")
    say(chat, "Did you get this?")
    expect(chat.locator("#problem")).to_contain_text("Please send it again")
    expect(chat.get_by_label("Message", exact=True)).to_have_value("Did you get this?")
    say(desk, "I write while nobody listens")
    site.start_chat()
    expect(chat.locator("#state")).to_have_text(f"{AGENT} is answering")
    expect(said(chat, "I write while nobody listens")).to_have_count(1)
    chat.get_by_label("Message", exact=True).press("Enter")
    expect(said(desk, "Did you get this?")).to_have_count(1)
    expect(chat.locator("#problem")).to_be_hidden()

    site.desk.stop()
    expect(desk.locator("#live")).to_have_text("Reconnecting …")
    site.desk.start()
    site.reset()
    expect(desk.locator("#live")).to_have_text("Live")
    watch.outage = False
    expect(desk.locator("#choose")).to_be_visible()  # the stand-in keeps nothing
    say(chat, "Are you back?")
    choose(desk)
    expect(said(desk, "Are you back?")).to_be_visible()


def publish(site: Site, text: str, key: str, name: str | None = None, **more: Any) -> Json:
    """A message of a stranger's, straight to the stand-in."""
    sender = person(f"{key}@example.test") | ({"name": name} if name else {})
    egg = {"text": text, "messageDirection": "INCOMING", "channelAccountId": "880011", "integrationThreadId": key}
    made: Json = api(site, "POST", f"{CC}/100458/messages", {**egg, "senders": [sender], **more})
    return made


def test_the_desk_by_keyboard(site: Site, watch: Watch) -> None:
    for name in ("Bea", "Cem"):
        publish(site, f"I am {name}", name.lower(), name)
    desk = watch.open(site.desk.url)
    expect(desk.locator("#threads button")).to_have_count(2)
    desk.keyboard.press("Tab")
    expect(desk.locator("#skip")).to_be_focused()
    for name in ("Cem", "Bea"):
        desk.keyboard.press("j")
        expect(desk.locator("#title")).to_have_text(name)
    desk.keyboard.press("k")
    expect(desk.locator("#title")).to_have_text("Cem")
    desk.locator("#skip").focus()
    desk.keyboard.press("Enter")
    box = desk.get_by_label("Message", exact=True)
    expect(box).to_be_focused()
    desk.keyboard.type("jkea")  # in a text they are letters
    expect(box).to_have_value("jkea")
    expect(desk.locator("#facts")).to_contain_text("Open")
    desk.keyboard.press("Escape")
    desk.keyboard.press("j")
    expect(box).to_have_value("")  # each conversation has its own draft
    desk.keyboard.press("k")
    expect(box).to_have_value("jkea")
    expect(desk.locator("#title")).to_have_text("Cem")  # a key is for the conversation that is shown
    for key, seen in (("a", f"{AGENT} took this"), ("u", f"{AGENT} unassigned this"), ("e", f"{AGENT} closed this")):
        desk.keyboard.press(key)
        expect(said(desk, seen)).to_be_visible()
    expect(desk.locator("#threads button")).to_have_count(1)
    desk.keyboard.press("w")
    expect(desk.locator("#panel")).to_be_hidden()
    desk.keyboard.press("w")
    expect(desk.locator("#panel")).to_be_visible()
    desk.keyboard.press("?")
    expect(desk.locator("#help")).to_be_visible()
    desk.get_by_label("Single keys are shortcuts").uncheck()
    desk.keyboard.press("Escape")
    expect(desk.locator("#help")).to_be_hidden()
    desk.keyboard.press("e")
    desk.keyboard.press("Escape")  # back to the inbox; the keys that are off did nothing
    expect(desk.locator("#choose")).to_be_visible()
    assert [thread["status"] for thread in site.hubspot.threads()] == ["OPEN", "CLOSED"]


def test_the_desk_on_a_phone_and_its_trash(site: Site, watch: Watch) -> None:
    publish(site, "wide " * 3 + "w" * 300, "dora", "Dora " + "x" * 80)
    desk = watch.open(site.desk.url, watch.context("phone"))
    parts = {name: desk.locator(f"#{name}") for name in ("inbox", "thread", "panel")}

    def only(shown: str) -> None:
        for name, part in parts.items():
            expect(part).to_be_visible(visible=name == shown)
        assert desk.evaluate("document.documentElement.scrollWidth") <= 390

    only("inbox")
    shot(desk, "inbox-phone-light")
    row(desk, "Dora").click()
    only("thread")
    desk.get_by_role("button", name="Contact and wire view").click()
    only("panel")
    desk.get_by_role("button", name="Back to the conversation").click()
    only("thread")
    desk.go_back()
    only("inbox")
    desk.go_forward()
    only("thread")
    desk.locator("#more summary").click()
    desk.get_by_role("button", name="Move to trash").click()
    expect(desk.locator("#facts")).to_contain_text("In the trash")
    expect(desk.locator("#composer")).to_be_hidden()
    desk.locator("#more summary").click()
    desk.get_by_role("button", name="Take out of the trash").click()
    expect(desk.locator("#facts")).to_contain_text("Open")
    desk.get_by_role("button", name="Back to the inbox").click()
    only("inbox")


CORPUS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<img src=https://elsewhere.test/x.png>",
    '"><svg onload=alert(1)><!--',
    "'><iframe srcdoc='<script>parent.alert(1)</script>'></iframe>",
    "</textarea></title></style><script>alert(1)</script>",
    "<a href=javascript:alert(1)>here</a>",
    "javascript:alert(1)//",
    "<base href=https://elsewhere.test/><link rel=stylesheet href=//elsewhere.test/x.css>",
    "<meta http-equiv=refresh content='0;url=https://elsewhere.test/'>",
    "<math><mi xlink:href='data:x,<script>alert(1)</script>'><style>@import '//elsewhere.test'</style>",
    "{{7*7}}${7*7}<%= 7*7 %>{% raw %}",
    "&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp;",
    "<form action=https://elsewhere.test><button autofocus onfocus=alert(1)>",
    "\u202egnp.exe\u2066 \u200b__proto__ constructor \\u003cscript>",
)

NO_ADDRESS = ("http://[", "javascript:alert(1)", "data:text/html,<script>alert(1)</script>", "//", "\0http://a.test")

ODD = """() => [...document.querySelectorAll("*")].filter((node) =>
  ["IFRAME", "OBJECT", "EMBED", "BASE", "STYLE", "MATH", "MI"].includes(node.tagName.toUpperCase())
  || (node.tagName === "IMG" && !(node.matches("a.picture > img") && new URL(node.src).origin === location.origin))
  || (node.tagName === "SCRIPT" && node.getAttribute("src") === null)
  || (node.tagName === "META" && node.httpEquiv)
  || (node.tagName === "FORM" && node.getAttribute("action"))
  || [...node.attributes].some(({ name, value }) => name.startsWith("on")
    || (name === "style" && !(node.id === "threads" && /^(--(above|below): \\d+px; ?){2}$/.test(value)))
    || (/^(href|src|xlink:href|formaction|srcdoc)$/.test(name) && /^\\s*(javascript|data|vbscript):/i.test(value))
    || (/^(href|src)$/.test(name) && new URL(value, location).hostname === "elsewhere.test"
      && !(node.matches(".bubble p > a[target=_blank][rel~=noopener]") && value.startsWith(node.textContent))))
).map((node) => node.outerHTML.slice(0, 200))"""


def clean(page: Page) -> None:
    """Nothing on a page is what the corpus would make of it."""
    assert page.evaluate(ODD) == []
    assert page.evaluate("location.host") == page.evaluate("new URL(document.baseURI).host")


def texts(page: Page, selector: str) -> list[str]:
    """The texts of elements, exactly."""
    found: list[str] = page.eval_on_selector_all(selector, "nodes => nodes.map((node) => node.textContent)")
    return found


def file_name(text: str) -> str:
    """A hostile name that every file system and browser lets through: without path and control characters."""
    return text.replace("/", "_").replace("\\", "_") + ".txt"


def test_hostile_texts_stay_texts_in_the_chat(site: Site, watch: Watch) -> None:
    site.hubspot.control("PUT", "agents/A-990", {"name": CORPUS[1]})
    chat = watch.open(site.chat.url)
    say(chat, "human")
    chat.get_by_label("Your name").fill(CORPUS[0])
    chat.get_by_role("button", name="Call somebody").click()
    wait_for(lambda: site.hubspot.threads(), chat, "a thread")
    [thread] = site.hubspot.threads()
    site.hubspot.act(thread["id"], "assign", actorId="A-990")
    for number, text in enumerate(CORPUS):
        files = [{"name": file_name(text), "contentType": "text/html", "content": "PHNjcmlwdD4="}]
        site.hubspot.act(thread["id"], "reply", actorId="A-990", text=text, richText=text, attachments=files)
        if number % 5 == 0:
            attach(chat, file_name(text), b"<script>alert(1)</script>")
        say(chat, text)
        expect(chat.get_by_label("Message", exact=True)).to_have_value("")
    expect(chat.locator("#messages li.agent")).to_have_count(len(CORPUS))
    shown = texts(chat, "#messages li.agent .bubble p")
    assert [one.partition("\n[picture not shown")[0] for one in shown] == list(CORPUS)
    assert texts(chat, "#messages li.user .bubble p")[-len(CORPUS) :] == list(CORPUS)
    assert len(texts(chat, "#messages li.agent a.file")) == len(CORPUS)
    assert set(texts(chat, "#messages li.agent .by bdi")) == {CORPUS[1]}
    assert CORPUS[1] in chat.locator("#state").inner_text()
    clean(chat)
    shot(chat, "chat-hostile")

    desk = watch.open(site.desk.url)
    desk.locator("#threads button").click()
    expect(desk.locator("#messages li.outgoing")).to_have_count(len(CORPUS))
    assert texts(desk, "#messages li.outgoing .bubble p") == list(CORPUS)
    wait_for(lambda: set(CORPUS) <= set(texts(desk, "#messages li.incoming .bubble p")), desk, "the user's texts")
    clean(desk)


def test_hostile_texts_stay_texts_at_the_desk_and_on_the_wire(site: Site, watch: Watch) -> None:
    developer = site.hubspot.env()
    for number, text in enumerate(CORPUS):
        site.hubspot.contact(email=f"k{number}@example.test", firstname=text, lastname=text, company=text)
        message = publish(site, text, f"k{number}", text, richText=text)
        thread_id = message["conversationsThreadId"]
        files = [{"name": file_name(text), "contentType": "image/svg+xml", "content": "PHN2Zz4="}]
        links = [{"type": "FILE", "fileId": "1", "name": text, "url": url} for url in (text, *NO_ADDRESS)]
        reply = site.hubspot.act(thread_id, "reply", text=text, richText=text, attachments=files + links)
        receipt = {"statusType": "FAILED", "errorMessage": text}
        api(site, "PATCH", f"{CC}/100458/messages/{reply['id']}", receipt)
        site.hubspot.act(thread_id, "comment", text=text)
    site.hubspot.control("PUT", "agents/A-987", {"name": CORPUS[2]})
    site.hubspot.control("PUT", "agents/A-988", {"name": CORPUS[3]})
    desk = watch.open(site.desk.url)
    rows = desk.locator("#threads button")
    expect(rows).to_have_count(len(CORPUS))
    clean(desk)
    for number in range(len(CORPUS)):
        text = CORPUS[-1 - number]
        rows.nth(number).click()
        expect(desk.locator("#messages li.note")).to_have_count(1)
        wait_for(lambda text=text: text in texts(desk, "#messages li.note p"), desk, "the thread")  # type: ignore[misc]
        assert texts(desk, "#messages .bubble p") == [text] * 3
        for line in desk.locator("#lines > li > details > summary").all()[:4]:
            line.click()
        expect(desk.locator("#lines pre").filter(has_text='"integrationThreadId"').first).to_be_visible()
        clean(desk)
    shot(desk, "desk-hostile")
    query = f"client_id={developer['HUBSPOT_HITL_CLIENT_ID']}&scope=oauth&redirect_uri=https://a.test/&state="
    consent = watch.open(f"{site.desk.url}/oauth/authorize?{query}%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    expect(consent.get_by_role("button", name="Connect app")).to_be_visible()
    clean(consent)
    shot(consent, "consent-desktop-light")
