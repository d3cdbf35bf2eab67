-- Schema 1 on PostgreSQL: the first that was released. Never changed: test_migrations.py brings it forward.

CREATE TABLE hitl_blob (
    message_row BIGINT NOT NULL,
    position INTEGER NOT NULL,
    content BYTEA NOT NULL,
    PRIMARY KEY (message_row, position)
);
CREATE TABLE hitl_bucket (
    portal_id TEXT NOT NULL,
    slots TEXT DEFAULT '{}' NOT NULL,
    blocked_until BIGINT DEFAULT '0' NOT NULL,
    pauses INTEGER DEFAULT '0' NOT NULL,
    open_until BIGINT DEFAULT '0' NOT NULL,
    trips INTEGER DEFAULT '0' NOT NULL,
    probe_until BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (portal_id)
);
CREATE TABLE hitl_event (
    id BIGSERIAL NOT NULL,
    dedupe_key TEXT NOT NULL,
    lane TEXT,
    sort_at BIGINT NOT NULL,
    topic TEXT NOT NULL,
    portal_id TEXT,
    thread_id TEXT,
    handoff_id TEXT,
    payload TEXT,
    progress TEXT,
    state INTEGER DEFAULT '0' NOT NULL,
    starts INTEGER DEFAULT '0' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    received_at BIGINT NOT NULL,
    done_at BIGINT,
    error TEXT,
    PRIMARY KEY (id),
    UNIQUE (dedupe_key)
);
CREATE TABLE hitl_handoff (
    seq BIGSERIAL NOT NULL,
    id TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    portal_id TEXT NOT NULL,
    inbox_id TEXT,
    channel_id TEXT NOT NULL,
    account_id TEXT,
    integration_thread_id TEXT NOT NULL,
    thread_id TEXT,
    opening_id TEXT,
    state TEXT NOT NULL,
    sender TEXT,
    recipient TEXT,
    contact TEXT,
    name TEXT,
    title TEXT,
    description TEXT,
    attributes TEXT,
    operator TEXT,
    opened_at BIGINT NOT NULL,
    assigned_at BIGINT,
    closed_at BIGINT,
    reason TEXT,
    detail TEXT,
    status_mark BIGINT,
    assigned_mark BIGINT,
    PRIMARY KEY (seq),
    UNIQUE (id),
    UNIQUE (integration_thread_id)
);
CREATE INDEX hitl_handoff_account ON hitl_handoff (account_id, channel_id, portal_id);
CREATE INDEX hitl_handoff_conversation ON hitl_handoff (conversation_id, seq);
CREATE TABLE hitl_lane (
    key TEXT NOT NULL,
    due_at BIGINT,
    owner TEXT,
    fence BIGINT DEFAULT '0' NOT NULL,
    wake BIGINT DEFAULT '0' NOT NULL,
    failures INTEGER DEFAULT '0' NOT NULL,
    gap INTEGER DEFAULT '0' NOT NULL,
    hung_since BIGINT,
    PRIMARY KEY (key)
);
CREATE TABLE hitl_message (
    id BIGSERIAL NOT NULL,
    handoff_id TEXT NOT NULL,
    author TEXT NOT NULL,
    message_id TEXT NOT NULL,
    hubspot_id TEXT,
    event_id BIGINT,
    text TEXT DEFAULT '' NOT NULL,
    html TEXT,
    attachments TEXT,
    operator TEXT,
    created_at BIGINT NOT NULL,
    status TEXT NOT NULL,
    error TEXT,
    PRIMARY KEY (id),
    UNIQUE (handoff_id, author, message_id)
);
CREATE INDEX hitl_message_hubspot ON hitl_message (handoff_id, hubspot_id);
CREATE TABLE hitl_meta (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (name)
);
CREATE TABLE hitl_receipt (
    event_id BIGINT NOT NULL,
    receiver TEXT NOT NULL,
    verdict TEXT,
    starts INTEGER DEFAULT '0' NOT NULL,
    attempts INTEGER DEFAULT '0' NOT NULL,
    error TEXT,
    PRIMARY KEY (event_id, receiver)
);
CREATE TABLE hitl_thread (
    portal_id TEXT NOT NULL,
    thread_id TEXT NOT NULL,
    handoff_id TEXT NOT NULL,
    PRIMARY KEY (portal_id, thread_id)
);
CREATE TABLE hitl_token (
    portal_id TEXT NOT NULL,
    secret TEXT,
    lease_until BIGINT DEFAULT '0' NOT NULL,
    fence BIGINT DEFAULT '0' NOT NULL,
    PRIMARY KEY (portal_id)
);
CREATE INDEX IF NOT EXISTS hitl_lane_due ON hitl_lane (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS hitl_event_pending ON hitl_event (lane, sort_at, id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS hitl_event_parked ON hitl_event (portal_id, thread_id) WHERE state = 1;
CREATE INDEX IF NOT EXISTS hitl_event_done ON hitl_event (done_at) WHERE state = 2;
CREATE INDEX IF NOT EXISTS hitl_event_dead ON hitl_event (id) WHERE state >= 3;
CREATE UNIQUE INDEX IF NOT EXISTS hitl_handoff_open ON hitl_handoff (conversation_id) WHERE state IN ('starting', 'waiting', 'assigned');
CREATE INDEX IF NOT EXISTS hitl_handoff_starting ON hitl_handoff (portal_id) WHERE state = 'starting';
