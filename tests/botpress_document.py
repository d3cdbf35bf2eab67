"""Botpress's Chat API and Runtime API as OpenAPI documents, made of what ``docs/botpress.rst`` tells of them.

Botpress publishes none that could be kept beside HubSpot's. Only what the stand-in serves is here; bodies are complete,
so that what does not fit them must be refused.
"""

from __future__ import annotations

from typing import Any

from .helpers import Json

TEXT: Json = {"type": "string"}
WORDS: Json = {"type": "string", "minLength": 1}
FID: Json = {"type": "string", "pattern": r"^[A-Za-z0-9_\-]{1,70}$"}
"""Also slashes, which do not go into a path."""
TAGS: Json = {"type": "object", "additionalProperties": {"type": "string", "maxLength": 500}}
TIME: Json = {"type": "string", "format": "date-time"}
ANY_OBJECT: Json = {"type": "object"}


def record(required: Json, optional: Json | None = None, *, closed: bool = False) -> Json:
    """An object with these properties."""
    more: Json = {"additionalProperties": False} if closed else {}
    return {"type": "object", "required": list(required), "properties": required | (optional or {}), **more}


def typed(kind: str, required: Json, optional: Json | None = None) -> Json:
    """A payload of the Chat API."""
    return record({"type": {"enum": [kind]}, **required}, optional)


PARTS = [
    typed("text", {"text": WORDS}),
    typed("markdown", {"markdown": WORDS}),
    typed("image", {"imageUrl": WORDS}, {"title": WORDS}),
    typed("audio", {"audioUrl": WORDS}, {"title": WORDS}),
    typed("video", {"videoUrl": WORDS}, {"title": WORDS}),
    typed("file", {"fileUrl": WORDS}, {"title": WORDS}),
    typed(
        "location", {"latitude": {"type": "number"}, "longitude": {"type": "number"}}, {"address": TEXT, "title": TEXT}
    ),
]
OPTION = record({"label": WORDS, "value": WORDS})
PAYLOAD: Json = {
    "anyOf": [
        *PARTS,
        typed("choice", {"text": WORDS, "options": {"type": "array", "items": OPTION}}),
        typed("dropdown", {"text": WORDS, "options": {"type": "array", "items": OPTION}}),
        typed("bloc", {"items": {"type": "array", "items": {"anyOf": PARTS}}}),
    ]
}
USER = record({"id": TEXT, "createdAt": TIME, "updatedAt": TIME}, {"name": TEXT, "pictureUrl": TEXT, "profile": TEXT})
CONVERSATION = record({"id": TEXT, "createdAt": TIME, "updatedAt": TIME})
OF_MESSAGE: Json = {"id": TEXT, "createdAt": TIME, "userId": TEXT, "conversationId": TEXT}
MESSAGE = record({**OF_MESSAGE, "payload": PAYLOAD}, {"metadata": ANY_OBJECT})
EVENT = record({**OF_MESSAGE, "payload": ANY_OBJECT})
ERROR: Json = {
    "anyOf": [
        record({"id": TEXT, "code": {"type": "integer"}, "type": TEXT, "message": TEXT}),
        record({"message": TEXT}, closed=True),
    ]
}
META = record({}, {"nextToken": TEXT}, closed=True)
NAMES: Json = {"name": TEXT, "pictureUrl": TEXT, "profile": {"type": "string", "maxLength": 1000}}


def listed(name: str, item: Json) -> Json:
    """A page of a list."""
    return record({name: {"type": "array", "items": item}, "meta": META}, closed=True)


def operation(answer: Json, body: Json | None = None, status: int = 200, query: Json | None = None) -> Json:
    """An operation that answers so when all is well."""
    made: Json = {
        "responses": {
            str(status): {"description": "", "content": {"application/json": {"schema": answer}}},
            "default": {"description": "", "content": {"application/json": {"schema": ERROR}}},
        }
    }
    if body is not None:
        made["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    parameters = [{"name": name, "in": "query", "schema": schema} for name, schema in (query or {}).items()]
    return made | {"parameters": parameters}


def document(prefix: str, paths: Json) -> Json:
    """A whole document; parameters of the paths are ids."""
    made: Json = {}
    for path, item in paths.items():
        names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
        of_path = [{"name": name, "in": "path", "required": True, "schema": FID} for name in names]
        made[prefix + path] = item | {"parameters": of_path}
    return {"openapi": "3.0.3", "info": {"title": "Botpress", "version": "1"}, "paths": made}


PAGE: Json = {"nextToken": {"type": "string", "pattern": "^[0-9]{1,3}$"}}
NOTHING = record({}, closed=True)


def one(name: str, item: Json, **more: Json) -> Json:
    """``{name: item}``."""
    return record({name: item, **more}, closed=True)


def chat(webhook_id: str) -> Json:
    """The Chat API of a bot's integration."""
    made = one("conversation", CONVERSATION)
    someone = one("participant", USER)
    return document(
        f"/chat/{webhook_id}",
        {
            "/users": {"post": operation(one("user", USER, key=TEXT), record({}, {"id": FID, **NAMES}))},
            "/users/get-or-create": {"post": operation(one("user", USER), record({}, NAMES))},
            "/users/me": {
                "get": operation(one("user", USER)),
                "put": operation(one("user", USER), record({}, NAMES)),
            },
            "/conversations": {
                "get": operation(listed("conversations", CONVERSATION), query=PAGE),
                "post": operation(made, record({}, {"id": FID})),
            },
            "/conversations/get-or-create": {"post": operation(made, record({"id": FID}))},
            "/conversations/{conversationId}": {"get": operation(made), "delete": operation(NOTHING)},
            "/conversations/{conversationId}/messages": {"get": operation(listed("messages", MESSAGE), query=PAGE)},
            "/conversations/{conversationId}/participants": {
                "get": operation(listed("participants", USER), query=PAGE),
                "post": operation(someone, record({"userId": FID})),
            },
            "/conversations/{conversationId}/participants/{userId}": {
                "get": operation(someone),
                "delete": operation(NOTHING),
            },
            "/messages": {
                "post": operation(
                    one("message", MESSAGE),
                    record({"conversationId": FID, "payload": PAYLOAD}, {"metadata": ANY_OBJECT}),
                )
            },
            "/messages/{messageId}": {"get": operation(one("message", MESSAGE)), "delete": operation(NOTHING)},
            "/events": {"post": operation(one("event", EVENT), record({"conversationId": FID, "payload": ANY_OBJECT}))},
            "/events/{eventId}": {"get": operation(one("event", EVENT))},
        },
    )


TAGGED: Json = {"tags": TAGS}
RUNTIME_USER = record({"id": TEXT, "createdAt": TIME, "updatedAt": TIME, **TAGGED}, {"name": TEXT, "pictureUrl": TEXT})
RUNTIME_CONVERSATION = record({"id": TEXT, "createdAt": TIME, "updatedAt": TIME, **TAGGED})
DIRECTION: Json = {"enum": ["incoming", "outgoing"]}
RUNTIME_MESSAGE = record(
    {**OF_MESSAGE, "updatedAt": TIME, "type": TEXT, "payload": ANY_OBJECT, "direction": DIRECTION, **TAGGED}
)
NULLABLE: Json = {"type": "string", "nullable": True}
SENT: Json = {"type": {"enum": ["text"]}, "payload": record({"text": WORDS}), "userId": TEXT, "conversationId": FID}


def runtime() -> Json:
    """The Runtime API as a bot sees it."""
    by_id: Any = {"conversationId": TEXT, **PAGE}
    return document(
        "/v1/chat",
        {
            "/messages": {
                "get": operation(listed("messages", RUNTIME_MESSAGE), query=by_id),
                "post": operation(one("message", RUNTIME_MESSAGE), record({**SENT, **TAGGED}), status=201),
            },
            "/conversations": {"get": operation(listed("conversations", RUNTIME_CONVERSATION), query=PAGE)},
            "/conversations/{conversationId}": {"get": operation(one("conversation", RUNTIME_CONVERSATION))},
            "/users": {"get": operation(listed("users", RUNTIME_USER), query=by_id)},
            "/users/{userId}": {
                "get": operation(one("user", RUNTIME_USER)),
                "put": operation(
                    one("user", RUNTIME_USER), record({}, {"name": NULLABLE, "pictureUrl": NULLABLE, **TAGGED})
                ),
            },
        },
    )
