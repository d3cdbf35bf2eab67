"""The switches: everything HubSpot does on a bad day, and every answer its documentation leaves open.

``POST /_sim/chaos`` and ``--chaos key=value,…`` change them. The defaults are a good day: no limits, channels visible
at once, one delivery after the other. A chance goes from 0 (never) to 1 (always) and is thrown with ``seed``.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..model.errors import ApiError
from ..model.world import JSON
from .switches import boolean, chance, delays, integer, one_of, optional, parse_line, seconds, switch, text

MODES = ("status", "drop", "status_after", "drop_after", "delay")
SIGNATURES = ("v1+v3", "v3", "v1", "wrong")
OUTAGES = (500, 502, 503, 504)


@dataclass
class Fault:
    """One rule: what goes wrong with requests whose ``METHOD /path`` matches, ``times`` times (None = forever).

    ``status`` and ``drop`` happen instead of the request, ``*_after`` once it was carried out; ``delay`` holds the
    answer of a request that was carried out back for ``seconds``. ``body``: ``json``, ``html`` or ``empty``.
    """

    match: str
    times: int | None = None
    mode: str = "status"
    status: int = 503
    retry_after: float | None = None
    seconds: float = 8
    chance: float = 1
    body: str = "json"


def actor(name: str, value: Any) -> str:
    """An actor id."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Z]-\S{1,100}", value):
        raise ApiError.invalid(name, "must be an actor id such as A-987")
    return value


def _faults(name: str, value: Any) -> list[Fault]:
    """A list of rules."""
    if not isinstance(value, list):
        raise ApiError.invalid(name, "must be a list of rules")
    rules = []
    known = {f.name for f in fields(Fault)}
    for item in value:
        if not isinstance(item, dict) or not isinstance(item.get("match"), str) or set(item) - known:
            raise ApiError.invalid(name, f"a rule is an object with `match` and some of {sorted(known)}")
        rule = Fault(**item)
        try:
            re.compile(rule.match)
        except (re.error, RecursionError, OverflowError) as problem:
            raise ApiError.invalid(name, f"bad regular expression: {problem}") from None
        optional(integer())("times", rule.times)
        one_of(*MODES)("mode", rule.mode)
        integer(100, 599)("status", rule.status)
        optional(seconds)("retry_after", rule.retry_after)
        seconds("seconds", rule.seconds)
        chance("chance", rule.chance)
        one_of("json", "html", "empty")("body", rule.body)
        rules.append(rule)
    return rules


@dataclass
class Chaos:
    """All switches with their defaults."""

    seed: int = switch(0, integer(), "what every chance is thrown with; setting it starts them all over")

    # what the webhook feeds do
    deliver: bool = switch(True, boolean, "deliver; false holds everything back until it is true again")
    drop_deliveries: bool = switch(False, boolean, "lose every delivery")
    drop: float = switch(0, chance, "chance that an event is lost for good")
    delay: float = switch(0, seconds, "how long every event waits before it is delivered, in its order")
    reorder: float = switch(0, chance, "chance that an event is held back so that later ones overtake it")
    reorder_seconds: float = switch(0.5, seconds, "how long at most it is held back")
    duplicates: int = switch(0, integer(0, 100), "how often every delivery is repeated at once")
    stale: float = switch(0, chance, "chance that an event comes once more, when newer ones have come")
    stale_seconds: float = switch(3, seconds, "how much later at most")
    lost_answers: float = switch(0, chance, "chance that an attempt counts as failed whatever the host answered")
    bad_signature: float = switch(0, chance, "chance that an attempt is signed with another secret")
    old_timestamp: float = switch(0, chance, "chance that an attempt is signed with a time of six minutes ago")
    delivery_timeout: float = switch(5, seconds, "how long the host may take to answer")
    retry_delays: list[float] = switch(  # noqa: RUF009 - a field
        [0.5, 1, 2, 4, 8, 15, 30, 60, 60, 60], delays, "the pauses before further attempts; then it is given up"
    )
    retry_4xx: bool = switch(True, boolean, "repeat after 400, 401, 403, 404 and 405 too")
    batch_seconds: float = switch(0, seconds, "how long app events are collected into one array")
    mixed_batches: bool = switch(False, boolean, "one array may hold events of several threads and portals")
    signatures: str = switch("v1+v3", one_of(*SIGNATURES), "what the app's feed is signed with")
    channel_signatures: str | None = switch(
        None, optional(one_of(*SIGNATURES)), "what the channel's feed is signed with, if not with the same"
    )

    # what the API does
    faults: list[Fault] = switch([], _faults, "rules for single requests; see Fault")  # noqa: RUF009 - a field
    api_429: float = switch(0, chance, "chance of a 429")
    retry_after: str = switch("either", one_of("either", "always", "never"), "whether such a 429 has Retry-After")
    retry_after_seconds: float = switch(1, seconds, "and what it says")
    api_5xx: float = switch(0, chance, "chance of a 500, 502, 503 or 504 instead of an answer")
    api_5xx_after: float = switch(0, chance, "chance of one although the request was carried out")
    api_drop: float = switch(0, chance, "chance that the connection is cut before the request is carried out")
    api_drop_after: float = switch(0, chance, "chance that it is cut afterwards, without an answer")
    api_slow: float = switch(0, chance, "chance that an answer is held back")
    api_slow_seconds: float = switch(2, seconds, "how long")
    api_423: float = switch(0, chance, "chance of a 423: locked for the moment")
    expire_tokens: float = switch(0, chance, "chance that the access token used has just expired")
    latency: float = switch(0, seconds, "how long every request takes longer")
    rate_limit: int | None = switch(
        None,
        optional(integer(1)),
        "calls per ten seconds and installation, then 429; null announces 110 and refuses none",
    )
    daily_limit: int | None = switch(None, optional(integer(1)), "calls per installation until the next reset")
    search_limit: int | None = switch(None, optional(integer(1)), "CRM searches per second; HubSpot's are 5")
    page_size: int | None = switch(None, optional(integer(1, 1000)), "the longest page of a list")
    revoked: bool = switch(False, boolean, "no token and no refresh token is good any more")
    token_seconds: int = switch(1800, integer(), "how long access tokens live")
    channel_hidden_polls: int = switch(0, integer(), "how many list calls a new channel stays hidden for")
    channel_hidden_seconds: float = switch(0, seconds, "how long a new channel stays hidden")
    search_lag: float = switch(0, seconds, "how long a contact is there before search finds it")
    tier: str = switch("professional", one_of("professional", "starter"), "starter portals may not use custom channels")
    auto_assign: str | None = switch(None, optional(actor), "who gets new threads at once, by a rule of the inbox")
    truncate_at: int | None = switch(None, optional(integer(1)), "texts longer than this are cut and marked TRUNCATED")
    link_key: int = switch(0, integer(), "links to files are signed with it: a new one ends all that were made before")

    # what nobody knows of HubSpot (docs/hubspot.rst: Unknowns)
    signed_uri: str = switch(
        "documented",
        one_of("documented", "raw", "decoded", "no_default_port"),
        "the URI that v3 signs: with twelve escapes decoded, none, all, or without an explicit default port",
    )
    max_channels: int | None = switch(None, optional(integer()), "how many channels an app may have (open question 1)")
    max_accounts: int | None = switch(None, optional(integer()), "how many accounts a channel may have in a portal")
    removed_accounts: str = switch(
        "free", one_of("free", "hold"), "whether an account that was removed still holds its delivery identifier"
    )
    own_publish_events: bool = switch(True, boolean, "conversation.newMessage tells of the app's own publishes")
    notes: str = switch(
        "ok",
        one_of("ok", "refused", "hidden"),
        "whether a thread takes comments; hidden: it does, and shows none",
    )
    tickets: str = switch(
        "ok", one_of("ok", "late"), "late: the threads of help desks have no ticket yet (open question 28)"
    )
    ticket_rule: str | None = switch(None, optional(text), "a rule of the portal's refuses to change this property")
    unassign_value: str = switch("empty", one_of("empty", "null", "missing"), "assignedTo when nobody is assigned")
    assignee_form: str = switch("actor", one_of("actor", "bare"), "assignedTo as A-987 or as 987")
    status_form: str = switch("object", one_of("object", "string"), "message.status in the channel's feed")
    attachment_url: bool | str = switch(
        True,
        one_of(True, False, "private", "gated"),
        "an agent's file comes with a link; private: one that answers 404; gated: one that ends at a log-in page",
    )
    channel_thread_ids: str = switch(
        "given", one_of("given", "empty", "missing"), "channelIntegrationThreadIds in the channel's feed"
    )
    closed_publish: str = switch(
        "reopen", one_of("reopen", "new_thread"), "publishing into a closed thread (open question 5)"
    )
    archived_publish: str = switch(
        "new_thread", one_of("new_thread", "restore", "refuse"), "publishing into an archived thread"
    )
    repeated_publish: str = switch(
        "created", one_of("created", "ok", "conflict"), "a repeated idempotency id: 201 or 200 with the first, or 409"
    )
    remember_publishes_seconds: float | None = switch(None, optional(seconds), "how long such ids are remembered")
    refusal_status: int = switch(400, one_of(400, 403, 404, 409), "what a publish is refused with (open question 7)")
    unknown_contact: str = switch(
        "visitor", one_of("visitor", "reject", "create"), "publishing from an unknown address (open question 8)"
    )
    refresh_token_seconds: int | None = switch(
        None, optional(integer()), "a refresh token that is not used for so long is dead (open question 9)"
    )
    refresh_kills_access: bool = switch(False, boolean, "a refresh ends the access tokens of before")
    lean_v1_tokens: bool = switch(False, boolean, "v1's token answer has the four fields of the guide only")
    oauth_json: bool = switch(False, boolean, "tokens may be asked for in JSON, as HubSpot's alpha client does")
    hapikey: str = switch("ok", one_of("ok", "refused"), "whether a developer key still counts (open question 10)")
    private_apps: str = switch(
        "ok", one_of("ok", "refused"), "whether static tokens work for custom channels (open question 11)"
    )
    journal: str = switch(
        "ok", one_of("ok", "refused", "no_scope"), "the app gets no token for the journal, or one without its scopes"
    )
    journal_gone: int = switch(404, one_of(404, 400, 410, 204), "the journal's answer to an offset that is gone")
    journal_repeats: int = switch(0, integer(0, 100), "how often the journal repeats what it tells")
    staging_seconds: int | None = switch(None, optional(integer()), "how long a staging token lives (open question 12)")
    staging_completes: str = switch(
        "patch", one_of("patch", "redirect"), "what makes the account: the PATCH, or the way back to HubSpot"
    )
    max_text: int | None = switch(
        None, optional(integer()), "the longest text or richText to publish (open question 13)"
    )
    max_attachments: int | None = switch(None, optional(integer()), "the most attachments of a message published")
    max_upload_bytes: int | None = switch(None, optional(integer()), "the largest file to upload")
    clean_html: bool = switch(False, boolean, "what is not harmless is taken out of a published richText")
    sparse_messages: bool = switch(
        False, boolean, "the channel's feed leaves out client, archived and what else is optional (open question 14)"
    )
    identifier_form: str = switch(
        "object", one_of("object", "string"), "channelAccountDeliveryIdentifier in the channel's feed"
    )
    event_prefix: str = switch("conversation", one_of("conversation", "conversations"), "what event types begin with")
    event_type_key: str = switch(
        "subscriptionType", one_of("subscriptionType", "eventType"), "what an event calls its type"
    )
    api_send_echo: bool = switch(
        True,
        boolean,
        "what is sent as an agent by the Conversations API goes out through the channel (open question 16)",
    )
    created_by: str = switch(
        "visitor", one_of("visitor", "integration"), "createdBy of an INCOMING publish (open question 17)"
    )
    messages_order: str = switch("oldest", one_of("oldest", "newest"), "which message a list begins with")
    archive_status: str | None = switch(
        None,
        one_of(None, "CLOSED", "ARCHIVED"),
        "the status event that comes when a thread is archived (open question 19)",
    )
    restored_value: str = switch("false", one_of("false", "False", "FALSE"), "isArchived when a thread is restored")
    contact_precedence: str = switch(
        "associate",
        one_of("associate", "resolved", "identifier"),
        "which wins: associateWithContactId, preResolvedContacts or the sender's identifier (open question 20)",
    )
    feed_ids: str = switch(
        "same", one_of("same", "different"), "whether a message has the same id in both feeds and both APIs"
    )
    echo_outgoing: bool = switch(False, boolean, "an OUTGOING publish comes back through the channel's feed")
    webhooks_refusal: int = switch(
        403, one_of(403, 404, 400), "what the webhooks API answers apps that are not legacy public (open question 21)"
    )
    project_flaws: str = switch(
        "dropped",
        one_of("dropped", "refused"),
        "what a project's upload does with files that can't be read or linked (open question 22)",
    )
    legacy_new_scopes: bool = switch(
        True, boolean, "legacy apps know files.read and files.write beside files (open question 23)"
    )
    hours_set_away: bool = switch(
        True, boolean, "outside of working hours HubSpot says that a user is away (open question 25)"
    )
    away_form: str = switch(
        "away", one_of("away", "empty", "null"), "hs_availability_status of who is away (open question 26)"
    )
    time_zone_form: str = switch(
        "name", one_of("name", "slash"), "hs_standard_time_zone as Europe/Madrid or europe_slash_madrid"
    )
    overnight_hours: str = switch(
        "refused", one_of("refused", "ok"), "working hours that end before they begin (open question 27)"
    )
    team_member_ids: str = switch(
        "user", one_of("user", "object"), "a team member's userId: the user's, or that of the CRM object"
    )
    rotate_refresh_tokens: bool = switch(False, boolean, "every refresh gives a new refresh token and kills the old")

    def __post_init__(self) -> None:
        self._thrown: Counter[tuple[str, str]] = Counter()

    def values(self) -> JSON:
        """All current values, as JSON."""
        return asdict(self)

    def change(self, changes: JSON) -> None:
        """Change some switches, all or none of them. Raises ApiError (400) for an unknown key or a bad value."""
        unknown = sorted(set(changes) - set(CHECKS))
        if unknown:
            raise ApiError.invalid("body", f"unknown switches {unknown}; known are {list(CHECKS)}")
        checked = {name: CHECKS[name](name, value) for name, value in changes.items()}
        for name, value in checked.items():
            setattr(self, name, value)
        if "seed" in checked:
            self._thrown.clear()

    def change_by(self, line: str) -> None:
        """Change switches as the command line names them: ``key=value,key=value``. Raises ApiError (400)."""
        self.change(parse_line(line, CHECKS))

    def throw(self, name: str, what: str) -> float:
        """A number from 0 to 1: the n-th one for a switch and a kind of thing is the same in every run with a seed.

        Kinds are thrown for apart from each other, so that the order in which threads get there doesn't matter.
        """
        key = name, re.sub(r"[0-9a-f-]*[0-9][0-9a-f-]*", "#", what)
        self._thrown[key] += 1
        return random.Random(f"{self.seed}/{'/'.join(key)}/{self._thrown[key]}").random()

    def happens(self, name: str, what: str) -> bool:
        """Whether what a chance switch is named for happens now."""
        likely: float = getattr(self, name)
        return likely > 0 and self.throw(name, what) < likely

    def fault_for(self, method: str, path: str) -> Fault | None:
        """What goes wrong with a request: the first rule that applies (one of its times is used up), else chance."""
        what = f"{method} {path}"
        for number, fault in enumerate(self.faults):
            if fault.times != 0 and re.search(fault.match, what):
                if fault.chance < 1 and self.throw(f"faults.{number}", what) >= fault.chance:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return self._fault_by_chance(what)

    def _fault_by_chance(self, what: str) -> Fault | None:
        if self.happens("api_429", what):
            told = self.retry_after == "always" or (self.retry_after == "either" and self.throw("told", what) < 0.5)
            return Fault(what, status=429, retry_after=self.retry_after_seconds if told else None)
        if self.happens("api_423", what):
            return Fault(what, status=423)
        for name, mode in (("api_5xx", "status"), ("api_5xx_after", "status_after")):
            if self.happens(name, what):
                outage = OUTAGES[int(self.throw("outage", what) * len(OUTAGES))]
                return Fault(what, mode=mode, status=outage, body="html" if outage == 502 else "json")
        for name, mode in (("api_drop", "drop"), ("api_drop_after", "drop_after")):
            if self.happens(name, what):
                return Fault(what, mode=mode)
        return Fault(what, mode="delay", seconds=self.api_slow_seconds) if self.happens("api_slow", what) else None


CHECKS = {f.name: f.metadata["check"] for f in fields(Chaos)}
MEANINGS: Mapping[str, str] = {f.name: f.metadata["meaning"] for f in fields(Chaos)}
