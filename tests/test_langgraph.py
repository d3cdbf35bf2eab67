"""A real LangGraph graph whose node asks for a human: answered once, whatever is cut off or comes again."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypedDict

import pytest
from flask import Flask

from flask_hubspot_hitl import HubSpotHITL, conversation_completed
from flask_hubspot_hitl.adapters.langgraph import GraphHandoffs, ask_a_human
from flask_hubspot_hitl.clock import ManualClock

from .conftest import MakeApp
from .helpers import HubSpot, Recorder
from .story import PHONE, Story

Record = Callable[[Flask], Recorder]
langgraph_graph = pytest.importorskip("langgraph.graph", reason="langgraph is not installed")


class Talk(TypedDict):
    question: str
    answer: str


class Bot:
    """A graph of one node, and what its host was given to deliver."""

    def __init__(self, story: Story, contact: str) -> None:
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
                self.said.append(interrupt(ask_a_human(contact=contact, name="Rosa", title=question)))
            heard = "; ".join(one["content"] for said in self.said[-1:] for one in said["messages"])
            return {"question": question, "answer": f"{question}: {heard or 'by myself'}"}

        plan = langgraph_graph.StateGraph(Talk)
        plan.add_node("node", node)
        plan.add_edge(langgraph_graph.START, "node")
        plan.add_edge("node", langgraph_graph.END)
        self.graph = plan.compile(checkpointer=InMemorySaver())
        with story.app.app_context():
            self.handoffs = GraphHandoffs(story.app, HubSpotHITL(), self.graph, self.deliver)

    def deliver(self, conversation_id: str, result: Any, key: str) -> None:
        if self.fails:
            self.fails -= 1
            raise ConnectionError
        self.delivered.append((conversation_id, result["answer"], key))

    def ask(self, question: str) -> Any:
        with self.story.app.app_context():
            found = self.handoffs.run("c1", {"question": question, "answer": ""})
        return found and found["answer"]

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
    bot.graph.invoke({"question": "a human", "answer": ""}, {"configurable": {"thread_id": "c1"}})
    assert not story.is_active()
    assert bot.ask("hello?") is None
    assert story.is_active()
    bot.humans("Here I am")
    assert [answer for _, answer, _ in bot.delivered] == ["a human: Here I am"]


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


def test_where_no_handoff_comes_about_the_graph_goes_on(story: Story) -> None:
    bot = Bot(story, "+34900000000")
    assert bot.ask("a human") == "a human: by myself"
    assert bot.said[0]["reason"] == "failed"
    assert "contact" in bot.said[0]["error"]
    assert not story.is_active()


def test_the_documents_example_runs_as_pasted(story: Story) -> None:
    page = (Path(__file__).parents[1] / "docs" / "langgraph.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", page, re.MULTILINE)
    pasted: dict[str, Any] = {"__name__": "pasted"}
    exec(compile(textwrap.dedent(block), "langgraph.rst", "exec"), pasted)
    delivered: list[tuple[str, str]] = []
    settings = {key: value for key, value in story.app.config.items() if key.startswith(("HUBSPOT_HITL_", "SECRET"))}
    app = pasted["create_app"](lambda *told: delivered.append(told), {**settings, "TESTING": True})
    story.app, story.state = app, app.extensions["hubspot_hitl"]
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
