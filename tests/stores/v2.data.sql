-- What schema 2 added to the store of schema 1, and an event whose receivers are half through.

UPDATE hitl_meta SET value = '2' WHERE name = 'schema_version';
INSERT INTO hitl_channel (app_id, channel_id, webhook_url, updated_at) VALUES ('3131', '100458', 'http://127.0.0.1:9/hubspot/webhook', 1789900000000);
INSERT INTO hitl_channel_account (portal_id, account_id, channel_id, inbox_id, name, identifier, authorized, updated_at) VALUES
  ('424242', '880011', '100458', '700200300', 'Our assistant', '{"type":"CHANNEL_SPECIFIC_OPAQUE_ID","value":"0123456789abcdef-700200300"}', 1, 1789900000000);
INSERT INTO hitl_bridge (bridge, key, value, updated_at) VALUES ('chat', 'user:rosa', '{"conversation":"c1"}', 1789900000000);
INSERT INTO hitl_lane ("key", due_at, owner, fence, wake, failures, gap) VALUES ('in:424242:6300112299', 1899900080000, NULL, 2, 2, 1, 0);
INSERT INTO hitl_event (id, dedupe_key, lane, sort_at, topic, portal_id, thread_id, handoff_id, payload, progress, state, starts, attempts, received_at, done_at, error) VALUES
  (5, 'in:half', 'in:424242:6300112299', 1789900090000, 'signal', '424242', '6300112299', NULL, NULL, '{"plan":[{"signal":"installation_added","portal_id":"424242"}]}', 0, 0, 0, 1789900090000, NULL, 'a receiver failed');
INSERT INTO hitl_receipt (event_id, receiver, verdict, starts, attempts, error) VALUES
  (2, '0:operator_message:bot:handler', 'dead', 0, 12, 'RuntimeError'),
  (5, '0:installation_added:bot:first', 'accepted', 0, 1, NULL), (5, '0:installation_added:bot:second', NULL, 1, 2, 'OSError');
