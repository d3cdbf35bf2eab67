"""The story of a handoff with a Botpress bot, once for each bridge: user, bot, agent, and back to the bot.

All over HTTP: the user through this app's page or the bot's own channel, the agent through the stand-in's routes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import closing
from typing import Any

from .story import Agent, Missed, Side, User, until

TEXT = "My order 1815 has not come. ☎"
REPLY = "I am looking into it."
PICTURE = "parcel.png"
PIXEL = base64.b64encode(
    base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
).decode()
CANCELLED = "( The user has ended the session. )"


class Bot(Side):
    """The bot and its own channel, through the stand-in's control routes."""

    def do(self, what: str, **body: Any) -> Any:
        """Have the bot, or the user of its channel, do something."""
        return self.call("POST", f"/_sim/{what}", json=body)

    def said(self, text: str) -> dict[str, Any] | None:
        """The message of its channel that holds the text."""
        found: list[dict[str, Any]] = self.call("GET", "/_sim/messages")
        return next((one for one in reversed(found) if text in str(one["payload"].get("text", ""))), None)

    def has_file(self, kind: str) -> bool:
        """Whether the channel has a message with a file of a kind."""
        return any(kind in one["payload"] for one in self.call("GET", "/_sim/messages"))

    def told(self, session: dict[str, Any], route: str) -> dict[str, Any] | None:
        """The newest call to ``route`` about a session of the older HITL agent."""
        sessions = self.call("GET", "/_sim/hitl-api/sessions")
        calls = next(one["received"] for one in sessions if one["session"] == session["session"])
        return next((one for one in reversed(calls) if one["kind"] == route), None)


def play(bridge: str, chat: str, desk: str, bot: str) -> Iterator[str]:
    """Play a bridge's story; yields a line for each step when it was seen. Raises :class:`Missed`."""
    with closing(User(chat)) as user, closing(Agent(desk)) as agent, closing(Bot(bot)) as botpress:
        if bridge == "chat":
            yield from _chat(user, agent, botpress)
        elif bridge == "studio":
            yield from _studio(agent, botpress)
        else:
            yield from _hitl_api(agent, botpress)


def _chat(user: User, agent: Agent, bot: Bot) -> Iterator[str]:
    user.call("GET", "/")
    user.say("human please")
    until("bot", lambda: user.sees("Connecting you…", speaker="bot"))
    yield "bot        it answers on the page, and calls for a human"
    thread = until("started", agent.thread)
    until("started", lambda: user.sees("escalated", speaker="system"))
    yield f"started    the conversation is in the inbox, thread {thread['id']}"
    until("note", lambda: agent.sees("human please", "COMMENT"))
    yield "note       the agent sees what was said before"
    name = _join(agent)
    until("assigned", lambda: user.sees("joined", speaker="system"))
    yield f"assigned   the user is told that {name} joined, and so is the bot"
    user.say(TEXT, file=("order.txt", b"1 teapot", "text/plain"))
    read = until("text", lambda: agent.sees(TEXT, "MESSAGE"))
    if not read["attachments"]:
        raise Missed("text: the user's attachment is missing")
    yield "text       the agent sees what the user writes and attaches"
    agent.act("reply", text=REPLY)
    seen = until("reply", lambda: user.sees(REPLY, speaker="agent"))
    if seen["name"] != name or bot.said(TEXT) or bot.said(REPLY):
        raise Missed("reply: it is not signed, or the bot has heard of it")
    yield "reply      the user sees what the agent writes; the bot hears nothing of it"
    agent.act("close")
    until("completed", lambda: user.sees("Welcome back", speaker="bot"))
    yield "completed  the bot is told, and welcomes the user back"
    user.say("thanks")
    until("bot", lambda: user.sees("You said: thanks", speaker="bot"))
    if agent.sees("thanks", "MESSAGE"):
        raise Missed("bot: the message went to the agents too")
    yield "bot        it answers again, and the agents are left in peace"


def _studio(agent: Agent, bot: Bot) -> Iterator[str]:
    def says(text: str) -> bool:
        return bool(bot.do("studio/turn", conversationId="conv_01STUDIO", text=text)["handled"])

    if says("human please"):
        raise Missed("bot: the gate is closed before any handoff")
    thread = until("started", agent.thread)
    until("started", lambda: bot.said("escalated"))
    yield f"started    the bot's snippet has called, thread {thread['id']}"
    until("note", lambda: agent.sees("human please", "COMMENT"))
    yield "note       the agent sees what was said before"
    name = _join(agent)
    until("assigned", lambda: bot.said("joined"))
    yield f"assigned   the user is told in the bot's channel that {name} joined"
    if not says(TEXT):
        raise Missed("text: the gate let it through to the bot")
    until("text", lambda: agent.sees(TEXT, "MESSAGE"))
    yield "text       the agent sees what the user writes, and the bot is silent"
    agent.act("reply", text=REPLY)
    until("reply", lambda: bot.said(f"{name}: {REPLY}"))
    agent.act("reply", attachments=[{"name": PICTURE, "contentType": "image/png", "content": PIXEL}])
    until("picture", lambda: bot.has_file("imageUrl"))
    yield "reply      the user sees what the agent writes and attaches"
    agent.act("close")
    until("completed", lambda: bot.said("The human agent closed the conversation."))
    yield "completed  the user is told that the bot goes on"
    if says("thanks") or not bot.said("You said: thanks"):
        raise Missed("bot: it does not answer")
    yield "bot        it answers again"


def _hitl_api(agent: Agent, bot: Bot) -> Iterator[str]:
    asked = {"userId": "user_01A", "name": "Ada Lovelace", "email": "+14155550123", "title": "Refund"}
    asked["description"] = "userId: user_01A\nemail: +14155550123"
    bot.do("hitl-api/ping")
    session = bot.do("hitl-api/escalate", **asked)
    first = until("started", agent.thread)
    yield f"started    the bot's HITL agent has called, thread {first['id']}"
    bot.do("hitl-api/say", session=session["session"], text=TEXT)
    until("text", lambda: agent.sees(TEXT, "MESSAGE"))
    yield "text       the agent sees what the user writes"
    name = _join(agent)
    until("assigned", lambda: bot.told(session, "agent-assigned"))
    yield f"assigned   the bot is told that {name} joined"
    agent.act("reply", text=REPLY)
    until("reply", lambda: bot.told(session, "message-from-agent"))
    agent.act("reply", attachments=[{"name": PICTURE, "contentType": "image/png", "content": PIXEL}])
    until("picture", lambda: (bot.told(session, "message-from-agent") or {}).get("messageType") == "image")
    yield "reply      the bot gets what the agent writes and attaches"
    agent.act("close")
    until("completed", lambda: bot.told(session, "stop-hitl"))
    yield "completed  the bot is told that it goes on"
    session = bot.do("hitl-api/escalate", **asked)
    second = until("again", lambda: _other(agent, first["id"]))
    bot.do("hitl-api/say", session=session["session"], text="hello again")
    until("again", lambda: agent.sees("hello again", "MESSAGE"))
    yield f"again      the same user, thread {second['id']}"
    bot.do("hitl-api/end", session=session["session"])
    until("ended", lambda: agent.sees(CANCELLED, "MESSAGE"))
    until("ended", lambda: (agent.thread() or {}).get("status") == "CLOSED")
    yield "ended      the user has left: the agent reads it, and the thread is closed"


def _join(agent: Agent) -> str:
    """The first agent takes the newest conversation; their name."""
    operator = agent.call("GET", "/_sim/agents")[0]
    agent.act("assign", actorId=operator["id"])
    return str(operator["name"])


def _other(agent: Agent, known: str) -> dict[str, Any] | None:
    thread = agent.thread()
    return thread if thread and thread["id"] != known else None
