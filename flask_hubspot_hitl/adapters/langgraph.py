"""Answer LangGraph's ``interrupt`` with live agents: a node asks for a human, and gets what was said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from weakref import WeakValueDictionary

from flask import Flask

from ..domain import Author, Handoff, Message
from ..errors import HITLError, LedgerUnavailable
from ..extension import HubSpotHITL
from ..handoffs import verbs
from ..runtime import Runtime, get_runtime, off_of
from ..signals import conversation_completed, handoff_failed

ASKED = "flask_hubspot_hitl"
"""Key of the value that a node is interrupted with."""
INTERRUPT = "langgraph_interrupt"
"""Key of the interrupt's id in the attributes of the handoff that answers it."""

Json = dict[str, Any]
Deliver = Callable[[str, Any, str], object]
Lock = Callable[[str], AbstractContextManager[Any]]


def ask_a_human(**how: Any) -> Json:
    """Return what a node is to be interrupted with: ``said = interrupt(ask_a_human(title="…", contact="+34…"))``.

    The node runs again from its beginning when the humans are done, as all of LangGraph's do: what it does before that
    line it does twice. ``interrupt`` returns ``{"reason": …, "messages": [{"role": "user" or "operator", "name": the
    agent's or None, "content": text}, …]}`` then. The reason is a value of :class:`CloseReason`, and ``detail`` has the
    further words for it where there are any: the host's, or ours. It is ``failed`` where no handoff came about, as in
    an app without live agents, or it failed; ``error`` says why.

    :param how: keywords of :meth:`HubSpotHITL.start`, as JSON can hold them.
    """
    return {ASKED: how}


class GraphHandoffs:
    """Run one graph for an app's conversations, and let humans answer its interrupts.

    Each conversation is a thread of the graph's, so the graph needs a checkpointer, in production one that lasts.

    :param app: the Flask app, with the extension on it.
    :param hitl: the extension.
    :param graph: a compiled graph.
    :param deliver: called as ``deliver(conversation_id, result, key)`` with what the graph gave once the humans were
        done. It may raise, and is called again later then; it gets the same ``key`` again only for the same handoff.
    :param config: makes a conversation's config; by default its id is the ``thread_id``.
    :param lock: makes a context in which no other run of the same conversation begins, in any process that shares the
        checkpointer; by default it holds within one process. LangGraph itself keeps two runs of a thread not apart.
    """

    def __init__(
        self,
        app: Flask,
        hitl: HubSpotHITL,
        graph: Any,
        deliver: Deliver,
        *,
        config: Callable[[str], Json] = lambda conversation_id: {"configurable": {"thread_id": conversation_id}},
        lock: Lock | None = None,
    ) -> None:
        self._app = app
        self._hitl = hitl
        self._graph = graph
        self._deliver = deliver
        self._config = config
        self._lock = lock or _Locks()
        conversation_completed.connect(self._ended, app, weak=False)
        handoff_failed.connect(self._ended, app, weak=False)

    @property
    def _runtime(self) -> Runtime:
        return get_runtime(self._app)

    def run(self, conversation_id: str, value: Any, *, text: str | None = None, message_id: str | None = None) -> Any:
        """Run one turn of the bot's, and start a handoff if the graph asks for a human.

        Give the user's messages to ``hitl.send`` first, as ever. While the graph waits for humans it is not run, and
        the message is theirs: one that comes while the graph is still busy with the one before finds no handoff in
        ``hitl.send``, and one that is open when its turn comes.

        :param value: the graph's input.
        :param text: the user's message, for ``hitl.send`` where the graph is not run with ``value``. None: that
            message reaches nobody then.
        :param message_id: the host's own name of the message, the same as ``hitl.send`` was given.
        :returns: what the graph gave; None: humans have the conversation, either since before, and ``text`` with it,
            or because this turn asked for them.
        :raises LedgerUnavailable: the handoff or the text could not be stored; the next call tries again.
        :raises NotConfigured: the app has no settings. Where live agents are switched off the graph is told so.
        :raises HITLError: what ``start`` raised, where the graph was told so and asked again at once.
        :raises ValueError: the same, or what ``hitl.send`` raised.
        :raises TypeError: the same.
        """
        with self._lock(conversation_id):
            while self._is_with_humans(conversation_id):
                if text is None or self._hitl.send(conversation_id, text, message_id=message_id):
                    return None
                # they have ended since we looked
            return self._hand_over(conversation_id, self._graph.invoke(value, self._config(conversation_id)))

    def _is_with_humans(self, conversation_id: str) -> bool:
        """Do what is due to the graph for what happened before, and return whether humans have the conversation."""
        asked = self._asked(conversation_id)
        if asked is not None:
            answer = self._answering(conversation_id, asked[0])
            if answer is None:
                self._hand_over(conversation_id, None)  # it was cut off between the interrupt and the start
            elif answer.is_open:
                return True
            else:
                self._go_on(answer)  # the humans have ended, and their signal is still to come, or to come again
            if self._asked(conversation_id) is not None:
                return True
        return self._hitl.get(conversation_id) is not None

    def _asked(self, conversation_id: str) -> tuple[str, Json] | None:
        """Return the id of the interrupt that waits for a human, and how the handoff is to be started."""
        for one in self._graph.get_state(self._config(conversation_id)).interrupts:
            if isinstance(one.value, dict) and isinstance(one.value.get(ASKED), dict):
                return str(one.id), one.value[ASKED]
        return None

    def _answering(self, conversation_id: str, interrupt_id: str) -> Handoff | None:
        """Return the handoff that was begun for an interrupt, open or not; the host may have begun newer ones."""
        return next((one for one in self._handoffs(conversation_id) if _answers(one, interrupt_id)), None)

    def _handoffs(self, conversation_id: str) -> list[Handoff]:
        """Return the conversation's handoffs that the graph has asked for, the newest first."""
        off = off_of(self._app)
        if off is not None and off.is_wanted:
            return []
        return [one for one in verbs.all_of(self._runtime, conversation_id) if INTERRUPT in one.attributes]

    def _hand_over(self, conversation_id: str, result: Any) -> Any:
        """Start a handoff if the graph waits for one, and let the graph go on where none comes about."""
        failed: Exception | None = None
        while (asked := self._asked(conversation_id)) is not None:
            interrupt_id, how = asked
            try:
                attributes = {**(how.get("attributes") or {}), INTERRUPT: interrupt_id}
                self._hitl.start(conversation_id, **{**how, "attributes": attributes})
            except LedgerUnavailable:
                raise
            except (HITLError, TypeError, ValueError) as error:  # else wrong arguments would fail for every message
                if failed is not None:
                    raise  # the graph asks again and again
                failed = error
                result = self._resume(conversation_id, interrupt_id, "failed", error=str(error))
            else:
                return None
        return result

    def _ended(self, _app: Flask, *, handoff: Handoff, **_extra: Any) -> None:
        conversation_id = handoff.conversation_id
        is_ours = INTERRUPT in handoff.attributes
        if not is_ours and not self._handoffs(conversation_id):
            return  # the graph may not even know the conversation
        with self._lock(conversation_id):
            if is_ours:
                self._go_on(handoff)
            elif (asked := self._asked(conversation_id)) is not None:
                answer = self._answering(conversation_id, asked[0])
                if answer is not None:
                    self._go_on(answer)  # it ended before, and had to wait for this one

    def _go_on(self, handoff: Handoff) -> None:
        """Resume the graph once: the signal may come again, and LangGraph would answer its next question with it.

        The graph does not go on while humans have the conversation again: the end of that handoff brings us back here.
        """
        conversation_id = handoff.conversation_id
        asked = self._asked(conversation_id)
        if asked is not None and self._hitl.get(conversation_id) is not None:
            return
        if asked is None:
            result = self._graph.get_state(self._config(conversation_id)).values
        elif _answers(handoff, asked[0]):
            said = verbs.transcript_of(self._runtime, handoff.id)
            if handoff.reason:
                result = self._resume(conversation_id, asked[0], handoff.reason, said, detail=handoff.detail)
            else:
                result = self._resume(conversation_id, asked[0], "failed", said, error=handoff.detail)
        else:
            return  # it asks the next question already
        result = self._hand_over(conversation_id, result)
        if result is not None:
            self._deliver(conversation_id, result, handoff.id)

    def _resume(
        self,
        conversation_id: str,
        interrupt_id: str,
        reason: str,
        messages: Sequence[Message] = (),
        **more: str | None,
    ) -> Any:
        from langgraph.types import Command

        said: Json = {"reason": str(reason), "messages": [_said(one) for one in messages]}
        said |= {name: text for name, text in more.items() if text is not None}
        return self._graph.invoke(Command(resume={interrupt_id: said}), self._config(conversation_id))


class _Locks:
    """One lock for each conversation, within this process, for as long as somebody holds or wants it."""

    def __init__(self) -> None:
        self._all: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._own = threading.Lock()

    def __call__(self, name: str) -> _Lock:
        with self._own:
            return self._all.setdefault(name, _Lock())


class _Lock:
    """A lock that a weak reference can be had of; whoever holds it may take it again, as an inline dispatcher does."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _answers(handoff: Handoff, interrupt_id: str) -> bool:
    return handoff.attributes.get(INTERRUPT) == interrupt_id


def _said(message: Message) -> Json:
    role = "operator" if message.author is Author.OPERATOR else "user"
    name = message.operator.name if message.operator else None
    return {"role": role, "name": name, "content": message.text_with_choices}
