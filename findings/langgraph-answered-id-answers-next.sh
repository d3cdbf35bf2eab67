#!/usr/bin/env bash
# LangGraph takes the id of an interrupt that was answered already as the answer to the one that waits now.
set -euo pipefail

version=1.2.24
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat <<TEXT
Version:  langgraph $version, Command(resume={interrupt id: value}).
Expected: each interrupt has an id of its own, so the same answer sent twice (a webhook that is repeated, say) answers
          nothing the second time, or is refused.
Seen:     a node that asks twice: the second answer with the first one's id is given to the second question. An id that
          never was is not refused either: the graph goes on waiting. Once nothing waits, an answer runs nothing.
Hint:     before resuming, compare the id with those in get_state(config).interrupts, under a lock of your own.

TEXT

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "langgraph==$version"

cat > "$work/check.py" <<'PYTHON'
from typing import TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt


class Talk(TypedDict):
    said: list


def ask(state):
    return {"said": [interrupt("first?"), interrupt("second?")]}


plan = StateGraph(Talk)
plan.add_node("ask", ask)
plan.add_edge(START, "ask")
plan.add_edge("ask", END)
graph = plan.compile(checkpointer=InMemorySaver())
config = {"configurable": {"thread_id": "talk"}}

graph.invoke({"said": []}, config)
(first,) = graph.get_state(config).interrupts
graph.invoke(Command(resume={first.id: "to the first"}), config)
(second,) = graph.get_state(config).interrupts
print("waits now:", second.value, "| an id of its own:", first.id != second.id)
graph.invoke(Command(resume={"0" * 32: "to nobody"}), config)
(waiting,) = graph.get_state(config).interrupts
print("after an id that never was, waits:", waiting.value)
result = graph.invoke(Command(resume={first.id: "to the first, again"}), config)
print("said:", result["said"])
again = graph.invoke(Command(resume={first.id: "once more"}), config)
print("said once nothing waits:", again["said"])

assert second.value == "second?" and first.id != second.id
assert waiting.value == "second?"
assert result["said"] == ["to the first", "to the first, again"]
assert again["said"] == result["said"]
PYTHON
"$work/venv/bin/python" "$work/check.py"
