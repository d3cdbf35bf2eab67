"""A real LangGraph graph whose node asks for a human: answered once, whatever is cut off or comes again."""

from __future__ import annotations

import re
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypedDict
from unittest.mock import Mock

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, NotConfigured, conversation_completed
from flask_hubspot_hitl.adapters.langgraph import GraphHandoffs, ask_a_human
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .helpers import PATIENCE, HubSpot, Recorder
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]
langgraph_graph = pytest.importorskip("langgraph.graph", reason="langgraph is not installed")


class Talk(TypedDict):
    question: str
    answer: str


class Bot:
    """A graph of one node, and what its host was given to deliver."""

    def __init__(self, story: Story, contact: str | None, *, hitl: HubSpotHITL | None = None, **how: Any) -> None:
        from langgraph.checkpoint.memory import InMemorySaver
        from langgraph.types import interrupt

        self.story = story
        self.delivered: list[tuple[str, str, str]] = []
        self.fails = 0
        self.runs: list[str] = []
        self.said: list[Any] = []

        def node(state: Talk) -> Talk:
            question = state["question"]
            self.runs.append(question)
            for _ in range(question.count("human")):
                self.said.append(interrupt(ask_a_human(contact=contact, name="Rosa", title=question, **how)))
            heard = "; ".join(one["content"] for said in self.said[-1:] for one in said["messages"])
            return {"question": question, "answer": f"{question}: {heard or 'by myself'}"}

        plan = langgraph_graph.StateGraph(Talk)
        plan.add_node("node", node)
        plan.add_edge(langgraph_graph.START, "node")
        plan.add_edge("node", langgraph_graph.END)
        self.graph = plan.compile(checkpointer=InMemorySaver())
        with story.app.app_context():
            self.handoffs = GraphHandoffs(story.app, hitl or HubSpotHITL(), self.graph, self.deliver)

    def deliver(self, conversation_id: str, result: Any, key: str) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        self.delivered.append((conversation_id, result["answer"], key))

    def ask(self, question: str, **fields: Any) -> Any:
        with self.story.app.app_context():
            found = self.handoffs.run("c1", {"question": question, "answer": ""}, **fields)
        return found and found["answer"]

    def cut_off(self, question: str) -> None:
        """Run the graph, and die before the handoff."""
        self.graph.invoke({"question": question, "answer": ""}, {"configurable": {"thread_id": "c1"}})

    def threads(self) -> list[str | None]:
        """Of the handoffs that were opened."""
        return [one["handoff"].thread_id for one in self.story.recorder.of("handoff_started")]

    def humans(self, text: str) -> None:
        """They answer, and end."""
        thread = self.threads()[-1]
        self.story.says(thread, text, at=self.story.now + 1_000)
        self.story.run(2)
        self.story.status(thread, "CLOSED", at=self.story.now)
        self.story.run()


@pytest.fixture
def story(make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record) -> Story:
    app = make_app(clock=clock, dispatcher="inline")
    return Story(app, hubspot, clock, record(app))


@pytest.fixture
def bot(story: Story) -> Bot:
    return Bot(story, PHONE)


def test_humans_answer_an_interrupt_once(bot: Bot, story: Story) -> None:
    assert bot.ask("hello") == "hello: by myself"
    assert bot.ask("a human") is None
    assert story.is_active()
    assert bot.ask("are you there?") is None, "while humans have it the graph is not run"
    bot.fails = 1
    bot.humans("Here I am")
    assert bot.delivered == []
    story.run(60)
    (handoff,) = (one["handoff"] for one in story.recorder.of("conversation_completed"))
    assert bot.delivered == [("c1", "a human: Here I am", handoff.id)]
    assert bot.runs == ["hello", "a human", "a human"], "the node begins anew, once"
    (said,) = bot.said
    assert said["reason"] == "agent"
    assert [(one["role"], one["content"]) for one in said["messages"]] == [("operator", "Here I am")]
    assert bot.ask("bye") == "bye: Here I am"


def test_a_signal_that_comes_again_does_not_answer_the_next_question(bot: Bot, story: Story) -> None:
    assert bot.ask("human or human") is None
    bot.humans("one")
    first, second = bot.threads()
    assert first != second
    assert story.is_active()
    (completed,) = story.recorder.of("conversation_completed")
    with story.app.app_context():
        conversation_completed.send(story.app, **completed)
    assert (bot.delivered, len(bot.threads())) == ([], 2)
    bot.humans("two")
    assert [answer for _, answer, _ in bot.delivered] == ["human or human: two"]


def test_what_was_cut_off_before_the_handoff_is_taken_up_by_the_next_message(bot: Bot, story: Story) -> None:
    bot.cut_off("a human")
    assert not story.is_active()
    assert bot.ask("hello?") is None
    assert story.is_active()
    bot.humans("Here I am")
    assert [answer for _, answer, _ in bot.delivered] == ["a human: Here I am"]


def test_the_message_that_takes_up_what_was_cut_off_goes_to_the_humans(bot: Bot, story: Story) -> None:
    bot.cut_off("a human")
    for _ in range(2):
        assert bot.ask("hello?", text="hello?", message_id="m-1") is None
    assert [text for _, text, _ in story.transcript()] == ["hello?"]
    assert bot.runs == ["a human"]


def test_the_message_that_takes_up_what_was_cut_off_is_answered_where_no_handoff_comes_about(story: Story) -> None:
    bot = Bot(story, "+34900000000")
    bot.cut_off("a human")
    assert bot.ask("hello?", text="hello?") == "hello?: by myself"
    assert bot.runs == ["a human", "a human", "hello?"]


def test_a_message_that_is_quicker_than_the_end_is_answered_behind_it(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    """Nothing is dispatched here before the user writes again."""
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    bot = Bot(story, PHONE)
    assert bot.ask("a human") is None
    story.stop()
    assert bot.ask("and now?") == "and now?: by myself"
    assert bot.runs == ["a human", "a human", "and now?"]
    story.run()
    (handoff,) = (one["handoff"] for one in story.recorder.of("conversation_completed"))
    assert bot.said == [{"reason": "user", "messages": []}]
    assert bot.runs == ["a human", "a human", "and now?"]
    assert bot.delivered[0] == ("c1", "a human: by myself", handoff.id)
    assert {key for _, _, key in bot.delivered} == {handoff.id}, "the same again has the same key"


def test_a_message_that_is_quicker_than_the_end_goes_to_the_humans_that_are_asked_next(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    bot = Bot(story, PHONE)
    assert bot.ask("human or human") is None
    first = story.handoff()
    story.stop()
    assert bot.ask("and now?", text="and now?") is None
    second = story.handoff()
    assert first is not None
    assert second is not None
    assert first.id != second.id
    assert [text for _, text, _ in story.transcript()] == ["and now?"]


def test_a_message_is_answered_when_the_humans_end_before_they_get_it(story: Story) -> None:
    class Ends(HubSpotHITL):
        def send(self, conversation_id: str, *given: Any, **named: Any) -> bool:
            self.stop(conversation_id)
            return super().send(conversation_id, *given, **named)

    bot = Bot(story, PHONE, hitl=Ends())
    assert bot.ask("a human") is None
    assert bot.ask("and now?", text="and now?") == "and now?: by myself"
    assert bot.runs == ["a human", "a human", "and now?"]


def test_the_graph_hears_its_own_humans_and_waits_for_those_that_the_host_asked_next(
    bot: Bot, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bot.ask("a human") is None
    first = story.handoff()
    assert first is not None
    with monkeypatch.context() as patch:
        patch.setattr(bot.graph, "invoke", Mock(side_effect=ConnectionError))  # the model is away
        bot.humans("one")
    story.start()
    story.run(60)
    assert (bot.said, bot.delivered) == ([], []), "the first one's end is told again, and others have it now"
    assert bot.ask("and now?", text="and now?") is None
    assert [text for _, text, _ in story.transcript()] == ["and now?"]
    bot.humans("two")
    assert [[one["content"] for one in said["messages"]] for said in bot.said] == [["one"]]
    assert bot.delivered == [("c1", "a human: one", first.id)]
    assert len(bot.threads()) == 2
    assert bot.ask("bye") == "bye: one"


def test_an_interrupt_that_was_answered_before_the_hosts_own_handoff_gets_no_other(
    make_app: MakeApp, hubspot: HubSpot, clock: ManualClock, record: Record
) -> None:
    app = make_app(clock=clock, dispatcher="external")
    story = Story(app, hubspot, clock, record(app))
    bot = Bot(story, PHONE)
    assert bot.ask("a human") is None
    story.send("for the first")
    story.stop()
    story.start()
    story.stop()
    assert bot.ask("and now?", text="and now?") == "and now?: for the first"
    assert bot.runs == ["a human", "a human", "and now?"]
    assert not story.is_active()
    story.run()
    assert len(bot.said) == 1


def test_a_reason_has_a_detail_and_no_error(bot: Bot, story: Story) -> None:
    assert bot.ask("a human") is None
    story.stop(detail="pressed Back")
    story.run()
    assert bot.said == [{"reason": "user", "messages": [], "detail": "pressed Back"}]


def test_a_handoff_that_fails_later_has_an_error_and_no_detail(story: Story) -> None:
    bot = Bot(story, "+34900000000")
    story.hubspot.chaos(faults=[{"match": ".*", "times": None, "mode": "status", "status": 503}])
    assert bot.ask("a human") is None
    story.hubspot.chaos(faults=[])
    story.run(600)
    (said,) = bot.said
    assert (said["reason"], sorted(said)) == ("failed", ["error", "messages", "reason"])
    assert "contact" in said["error"]


def test_a_conversation_that_the_graph_never_had_is_none_of_its_business(
    bot: Bot, story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bot.graph, "get_state", Mock(side_effect=KeyError))
    story.start()
    story.stop()
    story.run()
    assert "conversation_completed" in story.recorder.names()
    assert "event_dead" not in story.recorder.names()
    assert not bot.graph.get_state.called


@pytest.mark.parametrize("enabled", ["0", None])
def test_without_live_agents_the_graph_answers_where_that_was_wanted(enabled: str | None) -> None:
    app = Flask("off")
    app.config["HUBSPOT_HITL_ENABLED"] = enabled
    HubSpotHITL(app)
    off: Any = SimpleNamespace(app=app)
    bot = Bot(off, PHONE)
    if enabled is None:
        with pytest.raises(NotConfigured):
            bot.ask("hello")
        return
    assert bot.ask("hello") == "hello: by myself"
    assert bot.ask("a human", text="a human") == "a human: by myself"
    bot.cut_off("a human")
    assert bot.ask("hello?", text="hello?") == "hello?: by myself"
    assert [one["reason"] for one in bot.said] == ["failed", "failed"]
    assert all("ENABLED" in one["error"] for one in bot.said)


def test_where_no_handoff_comes_about_the_graph_goes_on(story: Story) -> None:
    bot = Bot(story, "+34900000000")
    assert bot.ask("a human") == "a human: by myself"
    assert bot.said[0]["reason"] == "failed"
    assert "contact" in bot.said[0]["error"]
    assert not story.is_active()


@pytest.mark.parametrize(
    ("contact", "how", "error"),
    [
        (None, {}, "contact"),
        (PHONE, {"history": [7]}, "history"),
        (PHONE, {"attributes": "plan"}, "mapping"),
        (PHONE, {"colour": "red"}, "colour"),
    ],
)
def test_a_start_that_can_never_work_does_not_block_the_conversation(
    story: Story, contact: str | None, how: dict[str, Any], error: str
) -> None:
    bot = Bot(story, contact, **how)
    assert bot.ask("a human") == "a human: by myself"
    (said,) = bot.said
    assert (said["reason"], said["messages"]) == ("failed", [])
    assert error in said["error"]
    assert bot.ask("hello") == "hello: by myself"
    with pytest.raises((ValueError, TypeError), match=error):
        bot.ask("human or human")  # it was told, and asks again at once
    assert bot.ask("bye") == "bye: by myself"
    assert not story.is_active()


def test_a_start_that_can_never_work_does_not_let_the_bot_talk_over_humans(story: Story) -> None:
    """The host has opened a handoff itself, behind what was cut off."""
    bot = Bot(story, None)
    bot.cut_off("a human")
    story.start()
    assert bot.ask("hello?", text="hello?") is None
    assert bot.runs == ["a human", "a human"]
    assert [text for _, text, _ in story.transcript()] == ["hello?"]


def test_what_could_not_be_delivered_is_delivered_behind_a_handoff_of_the_hosts(bot: Bot, story: Story) -> None:
    assert bot.ask("a human") is None
    bot.fails = 1
    bot.humans("Here I am")
    assert bot.delivered == []
    story.start()
    story.run(60)
    assert [answer for _, answer, _ in bot.delivered] == ["a human: Here I am"]


def test_attributes_may_be_none(story: Story) -> None:
    assert Bot(story, PHONE, attributes=None).ask("a human") is None
    assert story.is_active()


def _pasted() -> dict[str, Any]:
    """What the page's example defines."""
    page = (Path(__file__).parents[1] / "docs" / "langgraph.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", page, re.MULTILINE)
    pasted: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(textwrap.dedent(block), "langgraph.rst", "exec"), pasted)
    return pasted


def _create_app(story: Story, pasted: dict[str, Any], delivered: list[tuple[str, str]]) -> Flask:
    """Make the example's app, and let the story go on with it."""
    settings = {key: value for key, value in story.app.config.items() if key.startswith(("HUBSPOT_HITL_", "SECRET"))}
    app: Flask = pasted["create_app"](lambda *told: delivered.append(told), {**settings, "TESTING": True})
    story.app, story.state = app, app.extensions["hubspot_hitl"]
    return app


def test_what_the_user_adds_while_the_graph_thinks_reaches_the_humans_once(story: Story, hubspot: HubSpot) -> None:
    """The page's example, and two requests at once."""
    pasted = _pasted()
    thinks, goes_on, wanted = threading.Event(), threading.Event(), threading.Semaphore(0)
    answer, one_at_a_time = pasted["answer"], threading.RLock()

    def slow(state: dict[str, Any]) -> Any:
        thinks.set()
        assert goes_on.wait(PATIENCE)
        return answer(state)

    @contextmanager
    def lock(_conversation_id: str) -> Iterator[None]:
        wanted.release()
        with one_at_a_time:
            yield

    pasted.update(answer=slow, GraphHandoffs=partial(GraphHandoffs, lock=lock))
    app = _create_app(story, pasted, [])
    answers: dict[str, Any] = {}

    def say(text: str) -> None:
        answers[text] = app.test_client().post("/say/c1", json={"text": text, "phone": PHONE}).json

    requests = [threading.Thread(target=say, args=[text]) for text in ("a human, please", "my order is 4711")]
    try:
        requests[0].start()
        assert thinks.wait(PATIENCE)
        assert wanted.acquire(timeout=PATIENCE)
        requests[1].start()
        assert wanted.acquire(timeout=PATIENCE), "the second has asked hitl.send, and waits for its turn"
    finally:
        goes_on.set()
        for one in requests:
            if one.ident is not None:
                one.join(PATIENCE)
    assert answers == {"a human, please": {"to": "humans"}, "my order is 4711": {"to": "humans"}}
    story.run()
    (thread,) = hubspot.threads()
    texts = [one.get("text") or "" for one in thread["messages"]]
    assert [text for text in texts if "4711" in text] == ["my order is 4711"]
    story.state.close()


def test_the_documents_example_runs_as_pasted(story: Story) -> None:
    delivered: list[tuple[str, str]] = []
    app = _create_app(story, _pasted(), delivered)
    client = app.test_client()

    def say(text: str) -> Any:
        return client.post("/say/c1", json={"text": text, "phone": PHONE}).json

    assert say("hello") == {"to": "bot", "answer": "You said: hello"}
    assert say("a human, please") == {"to": "humans"}
    assert say("it is about my order") == {"to": "humans"}
    story.stop()
    story.run()
    assert delivered == [("c1", "We are back: 1 messages, ended by: user")]
    assert say("thanks") == {"to": "bot", "answer": "You said: thanks"}
    app.extensions["hubspot_hitl"].close()
