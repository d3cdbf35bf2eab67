"""What the desk and the chat do for people: finding, keys, files, pictures, a server that is away, and long lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .browser_helpers import NAME, Site, Watch, attach, expect, shot, wait_for
from .test_beginnings import allow
from .test_browser import AGENT, COLLEAGUE, call_somebody, choose, publish, row, said, say
from .test_browser_looks import PIXEL, crowd

if TYPE_CHECKING:
    from playwright.sync_api import Page

SLACK = 4
"""How much longer than a person may wait a busy machine may take; the figures are printed."""
FIRST_PAINT_MS, TYPING_MS = 1000, 100

SEEN_FOCUS = """() => {
  const node = document.activeElement;
  const shown = node.matches("input.hidden, .tabs input") ? node.closest("label") : node;
  const box = shown.getBoundingClientRect();
  const inView = box.top >= -1 && box.bottom <= innerHeight + 1 && box.left >= -1 && box.right <= innerWidth + 1;
  return [getComputedStyle(shown).outlineStyle !== "none" && inView, node.outerHTML.slice(0, 100)];
}"""


def tab_to(page: Page, selector: str, *, most: int = 40) -> None:
    """Press Tab until something has the focus; on the way all that has it shows it."""
    for _ in range(most):
        page.keyboard.press("Tab")
        shows, what = page.evaluate(SEEN_FOCUS)
        assert shows, f"has the focus, and nobody sees it: {what}"
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"Tab does not lead to {selector}")


def test_the_whole_story_by_keyboard_alone(site: Site, watch: Watch) -> None:
    window = watch.context()
    chat, desk = watch.open(site.chat.url, window), watch.open(site.desk.url, window)
    expect(desk.locator("#live")).to_have_text("Live")
    expect(chat.locator("#greeting")).to_be_visible()
    chat.bring_to_front()
    expect(chat.locator("#state")).to_have_text("Our bot is answering")
    tab_to(chat, "textarea")
    chat.keyboard.type("I want a human")
    chat.keyboard.press("Enter")
    expect(chat.locator("#human [name=contact]")).to_be_focused()
    chat.keyboard.press("Enter")
    expect(chat.locator("#state")).to_have_text("Waiting for our team …")
    expect(chat.get_by_label("Message", exact=True)).to_be_focused()
    chat.keyboard.type("Where is my order?")
    chat.keyboard.press("Enter")

    desk.bring_to_front()
    expect(row(desk)).to_be_visible()
    tab_to(desk, "#threads button")
    desk.keyboard.press("Enter")
    expect(desk.locator("#title")).to_have_text(NAME)
    expect(said(desk, "Where is my order?")).to_be_visible()
    expect(desk.locator("#messages .summary .by")).to_contain_text("Summary by")
    tab_to(desk, "[data-verb=assign]")
    desk.keyboard.press("Enter")
    expect(said(desk, f"{AGENT} took this")).to_be_visible()
    tab_to(desk, "#text")
    desk.keyboard.type("On its way.")
    desk.keyboard.press("Enter")
    expect(said(desk, "On its way.").locator(".receipt")).to_have_text(f"Read by {NAME}")
    desk.keyboard.press("Escape")
    desk.keyboard.press("n")
    desk.keyboard.type("A friend of the house.")
    desk.keyboard.press("Enter")
    expect(said(desk, "A friend of the house.")).to_have_class("note ")
    desk.keyboard.press("Escape")
    desk.keyboard.press("e")
    expect(said(desk, f"{AGENT} closed this")).to_be_visible()

    chat.bring_to_front()
    expect(said(chat, "On its way.")).to_have_class("agent")
    expect(said(chat, "completed")).to_be_visible()
    chat.keyboard.type("thanks")
    chat.keyboard.press("Enter")
    expect(said(chat, "You are welcome!")).to_have_class("bot")
    assert "friend of the house" not in chat.content()


def test_one_of_two_hundred_is_found(site: Site, watch: Watch) -> None:
    crowd(site, 200)
    late = publish(site, "I wait since yesterday", "late", "Late Larsson", timestamp="2026-01-02T03:04:05.006Z")
    desk = watch.open(site.desk.url)
    counts = desk.locator("#filters b")
    expect(counts).to_have_text(["197", "193", "2", "4"])
    rows = desk.locator("#threads button")
    assert rows.count() < 40, "only what is in view is drawn"
    assert rows.first.evaluate("(node) => node.parentElement.ariaSetSize") == "197"

    desk.get_by_label("Order").select_option("waiting")
    expect(rows.first).to_contain_text("Late Larsson")
    desk.evaluate("document.activeElement.blur()")
    desk.keyboard.press("/")
    search = desk.get_by_label("Search")
    expect(search).to_be_focused()
    desk.keyboard.type("since yesterday")
    expect(rows).to_have_count(1)
    desk.keyboard.press("Enter")
    expect(rows.first).to_be_focused()
    desk.keyboard.press("Enter")
    expect(desk.locator("#title")).to_have_text("Late Larsson")
    expect(desk.locator("#facts")).to_contain_text(late["conversationsThreadId"])
    search.fill("nothing has this")
    expect(desk.locator("#empty")).to_contain_text("No conversation here has “nothing has this” in it.")
    shot(desk, "desk-nothing-found")
    search.press("Escape")
    expect(counts.first).to_have_text("197")
    desk.get_by_label("Order").select_option("latest")
    for name, count in (("Mine", 2), ("Unassigned", 193), ("Closed", 4)):
        desk.locator("#filters label", has_text=name).click()
        expect(rows.first).to_have_attribute("tabindex", "0")
        wait_for(lambda c=count: rows.first.evaluate("(n) => n.parentElement.ariaSetSize") == str(c), desk, name)  # type: ignore[misc]
    owners = desk.locator("#threads .meta > :first-child").all_inner_texts()
    assert set(owners) == {f"closed · {one}" for one in ("Unassigned", AGENT, COLLEAGUE)}


CHOSEN, FOCUSED = "#threads [aria-current]", "#threads button:focus"


def row_at(desk: Page, selector: str) -> tuple[int, int, int]:
    """A row's place among all, and by how many pixels it is above what is seen of the list, and below it."""
    script = """(selector) => {
      const node = document.querySelector(selector), list = document.getElementById("threads");
      const [box, around] = [node.getBoundingClientRect(), list.getBoundingClientRect()];
      const [above, below] = [Math.ceil(box.top - around.top), Math.floor(box.bottom - around.bottom)];
      return [Number(node.parentElement.ariaPosInSet), Math.min(0, above), Math.max(0, below)];
    }"""
    place, above, below = desk.evaluate(script, selector)
    return place, above, below


def test_the_chosen_row_stays_in_view(site: Site, watch: Watch) -> None:
    crowd(site, 200)
    desk = watch.open(site.desk.url)
    expect(desk.locator("#threads button").first).to_be_visible()
    for place in range(1, 41):
        desk.keyboard.press("j")
        assert row_at(desk, CHOSEN) == (place, 0, 0)
    assert desk.evaluate("document.getElementById('threads').scrollTop") > 1000
    for place in range(39, 29, -1):
        desk.keyboard.press("k")
        assert row_at(desk, CHOSEN) == (place, 0, 0)
    desk.locator(CHOSEN).focus()
    for key, place in (("ArrowDown", 31), ("PageDown", 39), ("End", 196), ("Home", 1)):
        desk.keyboard.press(key)
        assert row_at(desk, FOCUSED) == (place, 0, 0)
    desk.mouse.move(100, 600)
    desk.mouse.wheel(0, 9000)  # the row with the focus is not drawn any more; the next key goes on from the chosen one
    expect(desk.locator("#threads")).to_be_focused()
    desk.keyboard.press("ArrowDown")
    assert row_at(desk, FOCUSED) == (31, 0, 0)


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
def test_names_stand_where_names_stand(site: Site, watch: Watch, direction: str) -> None:
    for number, name in enumerate(("Ana Ruiz", "يوسف الخطيب")):
        publish(site, "مرحبا", f"k{number}", name)
    desk = watch.open(site.desk.url)
    desk.evaluate("(dir) => { document.documentElement.dir = dir; }", direction)
    names = desk.locator("#threads strong bdi")
    expect(names).to_have_count(2)
    script = """([selector, edge]) => [...document.querySelectorAll(selector)].map((node) => {
      const text = document.createRange();
      text.selectNodeContents(node);
      return Math.round(text.getBoundingClientRect()[edge]);
    })"""
    edge = "left" if direction == "ltr" else "right"
    assert len(set(desk.evaluate(script, ["#threads strong bdi", edge]))) == 1
    titles = set()
    for name in names.all_inner_texts():
        choose(desk, name)
        titles |= set(desk.evaluate(script, ["#title bdi", edge]))
    assert len(titles) == 1
    shot(desk, f"desk-names-{direction}")


def test_deleting_for_good_looks_dangerous_and_asks(site: Site, watch: Watch) -> None:
    publish(site, "Hello", "ana", "Ana Ruiz")
    desk = watch.open(site.desk.url)
    choose(desk, "Ana Ruiz")
    desk.locator("#more summary").click()
    delete = desk.get_by_role("button", name="Delete for good")
    red, other = (
        desk.locator(one).evaluate("(node) => getComputedStyle(node).color")
        for one in ("[data-verb=purge]", "[data-verb=archive]")
    )
    assert red != other
    shot(desk, "desk-more")
    delete.click()
    asked = desk.get_by_role("dialog")
    expect(asked).to_contain_text("can't be undone")
    expect(asked.get_by_role("button", name="Keep it")).to_be_focused()
    shot(desk, "desk-delete")
    desk.keyboard.press("Escape")
    expect(asked).to_have_count(0)
    desk.keyboard.press("Escape")
    assert site.hubspot.threads()[0]["purged"] is False
    choose(desk, "Ana Ruiz")
    desk.locator("#more summary").click()
    delete.click()
    asked.get_by_role("button", name="Delete for good").click()
    expect(desk.locator("#facts")).to_contain_text("Deleted")
    assert site.hubspot.threads()[0]["purged"] is True


def test_a_machine_gets_a_conversation_which_is_moved(site: Site, watch: Watch) -> None:
    publish(site, "Hello", "ana", "Ana Ruiz")
    desk = watch.open(site.desk.url)
    choose(desk, "Ana Ruiz")
    desk.get_by_label("Owner").select_option(label="Customer agent")
    expect(desk.locator("#messages")).to_contain_text("Customer agent took this")
    desk.locator("#more summary").click()
    desk.get_by_label("Move to").select_option(label="Help Desk")
    expect(desk.locator("#messages")).to_contain_text("moved this to Help Desk")
    expect(desk.locator("#facts")).to_contain_text("Help Desk")
    (thread,) = site.hubspot.threads()
    assert (thread["assignedTo"], thread["inboxId"]) == ("L-77", "700200999")


def test_links_pictures_and_dropped_files(site: Site, watch: Watch, tmp_path: Path) -> None:
    window = watch.context()
    chat, desk = watch.open(site.chat.url, window), watch.open(site.desk.url, window)
    call_somebody(chat)
    text = "See https://acme.test/a(b)?x=1, mailto:a@acme.test or tel:+34911222333. Not javascript:alert(1) or http://"
    say(chat, text)
    choose(desk)
    for page in (chat, desk):
        links = said(page, "See https").locator("p a")
        expect(links).to_have_text(["https://acme.test/a(b)?x=1", "mailto:a@acme.test", "tel:+34911222333"])
        assert links.first.get_attribute("href") == "https://acme.test/a(b)?x=1"
        assert {"noopener", "noreferrer"} <= set((links.first.get_attribute("rel") or "").split())
        assert said(page, "See https").locator("p").inner_text() == text

    drop(desk, "#messages", "parcel.png", "image/png", PIXEL)
    expect(desk.locator("#chosen")).to_contain_text("parcel.png")
    expect(desk.get_by_label("Message", exact=True)).to_be_focused()
    desk.keyboard.press("Enter")
    ours = chat.locator("#messages .agent .picture img")
    for picture in (desk.locator("#messages .outgoing .picture img"), ours):
        expect(picture).to_have_attribute("alt", "parcel.png")
        wait_for(lambda p=picture: p.evaluate("(node) => node.complete && node.naturalWidth === 1"), desk, "it")  # type: ignore[misc]
    assert (ours.get_attribute("src") or "").startswith("/pictures/")
    drop(desk, "#messages", "fake.png", "image/png", "bm90IGEgcGljdHVyZQ==")
    desk.keyboard.press("Enter")
    for page in (chat, desk):  # what only calls itself a picture is a file
        expect(page.locator("#messages a.file").filter(has_text="fake.png")).to_be_visible()
    watch.complaints[:] = [one for one in watch.complaints if "404" not in one]
    drop(desk, "#inbox", "beside.txt", "text/plain", "eA==")
    expect(desk.locator("#chosen li")).to_have_count(0)
    assert desk.url.startswith(site.desk.url)
    shot(chat, "chat-pictures")
    shot(desk, "desk-pictures")


def drop(page: Page, selector: str, name: str, kind: str, content: str) -> None:
    """Drop a file on something; ``content`` is base64."""
    script = """async ([selector, name, type, content]) => {
      const bytes = Uint8Array.from(atob(content), (one) => one.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], name, { type }));
      const target = document.querySelector(selector);
      for (const what of ["dragenter", "dragover", "drop"]) {
        target.dispatchEvent(new DragEvent(what, { dataTransfer, bubbles: true, cancelable: true }));
      }
    }"""
    page.evaluate(script, [selector, name, kind, content])


def test_a_line_of_the_wire_is_copied_for_the_shell(site: Site, watch: Watch) -> None:
    window = watch.context()
    window.grant_permissions(["clipboard-read", "clipboard-write"])
    publish(site, "Hello", "ana", "Ana Ruiz")
    site.hubspot._http.get(f"{site.desk.url}/crm/v3/objects/contacts", timeout=30)
    desk = watch.open(site.desk.url, window)
    choose(desk, "Ana Ruiz")
    desk.get_by_text("Everything", exact=True).click()
    unauthorized = desk.locator("#lines .pill", has_text="401")
    expect(unauthorized).to_have_class("pill bad")
    desk.locator("#lines summary").filter(has_text="POST").first.click()
    desk.get_by_role("button", name="Copy as cURL").click()
    expect(desk.locator("#notice")).to_contain_text("Copied")
    copied = desk.evaluate("navigator.clipboard.readText()")
    assert copied.startswith((f"curl -X POST '{site.desk.url}", f"curl -X POST {site.desk.url}"))
    assert "Bearer $HUBSPOT_ACCESS_TOKEN" in copied
    desk.get_by_role("button", name="Dismiss").click()
    expect(desk.locator("#notice-strip")).to_be_hidden()


ON_TOP = """(node) => {
  const box = node.getBoundingClientRect();
  return node.contains(document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2));
}"""


def test_while_the_server_is_away_it_is_said_and_covers_nothing(site: Site, watch: Watch) -> None:
    publish(site, "Hello", "ana", "Ana Ruiz")
    window = watch.context()
    desk = watch.open(site.desk.url, window)
    choose(desk, "Ana Ruiz")
    watch.outage = True
    window.set_offline(True)
    expect(desk.locator("#away")).to_be_visible()
    expect(desk.locator("#live")).to_have_text("Reconnecting …")
    say(desk, "Are you there?")
    expect(desk.locator("#notice")).to_contain_text("does not answer")
    send = desk.get_by_role("button", name="Send")
    assert send.evaluate(ON_TOP)
    expect(desk.get_by_label("Message", exact=True)).to_have_value("Are you there?")
    shot(desk, "desk-away")
    window.set_offline(False)
    expect(desk.locator("#live")).to_have_text("Live")
    expect(desk.locator("#away")).to_be_hidden()
    desk.get_by_label("Message", exact=True).press("Enter")
    expect(said(desk, "Are you there?")).to_have_count(1)
    expect(desk.locator("#notice-strip")).to_be_hidden()


def test_after_a_sleep_the_desk_connects_anew(site: Site, watch: Watch) -> None:
    window = watch.context()
    window.clock.install()
    desk = watch.open(site.desk.url, window)
    streams: list[str] = []
    desk.on("request", lambda one: streams.extend([one.url] * one.url.endswith("/live")))
    expect(desk.locator("#live")).to_have_text("Live")
    window.clock.fast_forward("08:00:00")
    wait_for(lambda: streams, desk, "a stream of its own")
    expect(desk.locator("#live")).to_have_text("Live")
    publish(site, "Good morning", "ana", "Ana Ruiz")
    expect(row(desk, "Ana Ruiz")).to_be_visible()


@pytest.mark.slow
def test_a_new_start_of_the_server_is_said(site: Site, watch: Watch) -> None:
    publish(site, "Hello", "ana", "Ana Ruiz")
    desk = watch.open(site.desk.url)
    choose(desk, "Ana Ruiz")
    watch.outage = True
    site.desk.stop()
    expect(desk.locator("#away")).to_be_visible()
    site.desk.start()
    expect(desk.locator("#live")).to_have_text("Live")
    expect(desk.locator("#notice")).to_contain_text("was started anew")
    expect(desk.locator("#choose")).to_be_visible()


FIRST = """() => {
  const look = () => {
    if (!document.querySelector("#threads li") || (location.search && !document.querySelector("#messages li"))) return;
    watching.disconnect();
    requestAnimationFrame(() => setTimeout(() => { window.firstPaint = performance.now(); }));
  };
  const watching = new MutationObserver(look);
  watching.observe(document, { childList: true, subtree: true });
  window.slowest = 0;
  new PerformanceObserver((list) => {
    const keys = list.getEntries().filter((one) => one.name.startsWith("key"));
    window.slowest = Math.max(window.slowest, ...keys.map((one) => one.duration));
  }).observe({ type: "event", durationThreshold: 16, buffered: true });
}"""


def test_thousands_of_conversations_and_messages_are_quick(site: Site, watch: Watch) -> None:
    site.hubspot.control("POST", "threads", {"count": 2000, "messages": 1})
    [long] = site.hubspot.control("POST", "threads", {"count": 1, "messages": 5000})["ids"]
    window = watch.context()
    window.add_init_script(f"({FIRST})()")
    desk = watch.open(f"{site.desk.url}/?thread={long}", window)
    wait_for(lambda: desk.evaluate("window.firstPaint"), desk, "the first rows and messages")
    first = desk.evaluate("window.firstPaint")
    expect(said(desk, "Message 5000 of")).to_be_visible()
    assert desk.locator("#messages li").count() < 250
    assert desk.locator("#threads li").count() < 40
    box = desk.get_by_label("Message", exact=True)
    box.focus()
    for word in ("the quick ", "brown fox ", "jumps over ", "the lazy dog "):
        publish(site, word, "news", "Ana Ruiz")  # news come while one types
        desk.keyboard.type(word, delay=15)
    desk.get_by_label("Search").focus()
    desk.keyboard.type(f"message 4999 {long}", delay=15)  # the number alone may be in another's id
    expect(desk.locator("#threads li")).to_have_count(1)
    desk.keyboard.press("Escape")
    expect(desk.locator("#filters b").first).to_have_text("2,002")
    desk.keyboard.type("x", delay=15)
    slowest = desk.evaluate("window.slowest")
    print(f"first paint {first:.0f} ms, slowest key {slowest:.0f} ms")
    assert first < FIRST_PAINT_MS * SLACK
    assert slowest < TYPING_MS * SLACK


def test_a_long_conversation_can_be_read_to_its_beginning(site: Site, watch: Watch) -> None:
    [long] = site.hubspot.control("POST", "threads", {"count": 1, "messages": 700})["ids"]
    desk = watch.open(f"{site.desk.url}/?thread={long}")
    expect(said(desk, "Message 700 of")).to_be_in_viewport()
    expect(desk.locator("#newest")).to_be_hidden()
    log = desk.locator("#log")
    for _ in range(40):
        before = first_in_view(desk)
        log.evaluate("(node) => node.scrollBy(0, -3000)")
        wait_for(lambda b=before: first_in_view(desk) < b or first_in_view(desk) == 1, desk, "earlier ones")  # type: ignore[misc]
        assert desk.locator("#messages li").count() < 250
        if first_in_view(desk) == 1:
            break
    wait_for(lambda: desk.locator("#messages li p").first.inner_text().startswith("Message 1 of"), desk, "the first")
    publish(site, "Elsewhere", "news", "Ana Ruiz")
    expect(row(desk, "Ana Ruiz")).to_be_visible()
    assert first_in_view(desk) < 20, "news elsewhere move nothing"
    desk.get_by_role("button", name="Newest messages").click()
    expect(said(desk, "Message 700 of")).to_be_in_viewport()
    expect(desk.locator("#newest")).to_be_hidden()


def first_in_view(desk: Page) -> int:
    """The number of the uppermost message that is seen."""
    script = """() => {
      const log = document.getElementById("log");
      const seen = [...log.querySelectorAll("li p")].find((one) => one.closest("li").offsetTop + 20 >= log.scrollTop);
      return Number(/Message (\\d+)/.exec(seen.textContent)[1]);
    }"""
    found: int = desk.evaluate(script)
    return found


def test_the_first_view_of_the_chat_greets_and_invites(site: Site, watch: Watch) -> None:
    chat = watch.open(site.chat.url)
    expect(chat.locator("#greeting")).to_contain_text("Hello!")
    expect(chat.locator("#messages li")).to_have_count(0)
    box = chat.get_by_label("Message", exact=True)
    ground, around = (
        chat.locator(one).evaluate("(node) => getComputedStyle(node).backgroundColor") for one in ("textarea", "body")
    )
    assert ground != around, "it does not look like a hole in the page"
    expect(box).to_be_enabled()
    attach(chat, "order.txt", b"1 teapot")
    say(chat, "hours")
    expect(said(chat, "Monday")).to_be_visible()
    expect(chat.locator("#messages a.file")).to_have_text("order.txt")


def test_a_contact_is_added_by_hand(site: Site, watch: Watch) -> None:
    settings = watch.open(f"{site.desk.url}/settings")
    form = settings.locator("#contact")
    form.get_by_label("First name").fill("Ana <b>")
    form.get_by_role("button", name="Add contact").click()
    expect(settings.locator("#notice")).to_have_text("A contact needs a phone number or an e-mail address.")
    form.get_by_label("Phone").fill("+34611222333")
    form.get_by_role("button", name="Add contact").click()
    expect(settings.locator("#contacts > li").first).to_contain_text("+34611222333")
    expect(settings.locator("#contacts > li").first).to_contain_text("Ana <b>")
    expect(settings.locator("#notice")).to_be_hidden()
    form.get_by_label("E-mail").fill("ana@example.test")
    settings.keyboard.press("Enter")
    expect(settings.locator("#contacts > li").first).to_contain_text("ana@example.test")


def test_an_agent_begins_a_conversation(site: Site, watch: Watch) -> None:
    desk = watch.open(site.desk.url)
    expect(desk.locator("#live")).to_have_text("Live")
    expect(desk.get_by_role("button", name="New conversation")).to_have_count(0)
    allow(site.hubspot)
    desk.get_by_role("button", name="New conversation").click()
    desk.get_by_label("To", exact=True).fill("nobody@example.test")
    desk.get_by_label("First message").fill("Your parcel is here")
    desk.get_by_role("button", name="Begin").click()
    expect(desk.locator("#notice")).to_contain_text("no contact has this")
    desk.get_by_role("button", name="New conversation").click()
    expect(desk.get_by_label("First message")).to_have_value("Your parcel is here")
    desk.get_by_label("To", exact=True).fill("rosa@example.test")
    desk.get_by_role("button", name="Begin").click()
    expect(desk.locator("#title")).to_have_text("Rosa Vidal")
    expect(said(desk, "Your parcel is here")).to_be_visible()
    expect(said(desk, "Your parcel is here").locator(".receipt")).to_contain_text("Not delivered")
    watch.complaints[:] = [one for one in watch.complaints if "400" not in one]
