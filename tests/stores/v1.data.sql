-- What a store of schema 1 holds in the middle of a handoff; the same text for both engines.

INSERT INTO hitl_meta (name, value) VALUES ('schema_version', '1'), ('deployment_id', '0123456789abcdef'), ('public_url', 'http://127.0.0.1:9');
INSERT INTO hitl_handoff (seq, id, conversation_id, portal_id, inbox_id, channel_id, account_id, integration_thread_id, thread_id, opening_id, state, sender, recipient, contact, name, title, description, attributes, operator, opened_at, assigned_at, closed_at, reason, detail, status_mark, assigned_mark) VALUES
  (1, 'aaaa', 'c0', '424242', '700200300', '100458', '880011', '0123456789abcdef.1', '6300112232', 'm0', 'closed', '{"type":"HS_EMAIL_ADDRESS","value":"rosa@example.test"}', '{"type":"CHANNEL_SPECIFIC_OPAQUE_ID","value":"acme-700200300"}', '{"phone":null,"email":"rosa@example.test"}', 'Rosa', NULL, NULL, '{}', 'null', 1789000000000, NULL, 1789000100000, 'agent', NULL, 1789000100000, NULL),
  (2, 'bbbb', 'c1', '424242', '700200300', '100458', '880011', '0123456789abcdef.2', '6300112233', 'm1', 'assigned', '{"type":"HS_EMAIL_ADDRESS","value":"rosa@example.test"}', '{"type":"CHANNEL_SPECIFIC_OPAQUE_ID","value":"acme-700200300"}', '{"phone":null,"email":"rosa@example.test"}', 'Rosa', 'Refund', 'A teapot', '{"order":7}', '{"actor_id":"A-987","name":"Noor Haddad","email":null,"avatar":null}', 1789900000000, 1789900060000, NULL, NULL, NULL, NULL, 1789900060000);
INSERT INTO hitl_thread (portal_id, thread_id, handoff_id) VALUES ('424242', '6300112232', 'aaaa'), ('424242', '6300112233', 'bbbb');
INSERT INTO hitl_message (id, handoff_id, author, message_id, hubspot_id, event_id, text, html, attachments, operator, created_at, status, error) VALUES
  (1, 'bbbb', 'operator', 'm2', NULL, 3, 'Which order?', '<p>Which order?</p>', '[]', '{"actor_id":"A-987","name":"Noor Haddad","email":null,"avatar":null}', 1789900070000, 'sent', NULL),
  (2, 'bbbb', 'user', 'u1', NULL, NULL, 'Number seven', NULL, '[]', 'null', 1789900080000, 'queued', NULL);
INSERT INTO hitl_lane ("key", due_at, owner, fence, wake, failures, gap) VALUES
  ('in:424242:6300112233', NULL, NULL, 3, 3, 0, 0), ('out:bbbb', 1789900080000, NULL, 2, 2, 1, 0), ('dead:2', NULL, NULL, 1, 1, 0, 1);
INSERT INTO hitl_event (id, dedupe_key, lane, sort_at, topic, portal_id, thread_id, handoff_id, payload, progress, state, starts, attempts, received_at, done_at, error) VALUES
  (2, 'in:dead', 'in:424242:6300112232', 1789000050000, 'message', '424242', '6300112232', NULL, '{"message":{"id":"m9"}}', NULL, 3, 0, 12, 1789000050000, 1789000060000, 'given up'),
  (3, 'in:done', 'in:424242:6300112233', 1789900070000, 'message', '424242', '6300112233', 'bbbb', NULL, NULL, 2, 0, 0, 1789900070000, 1789900071000, NULL),
  (4, 'out:bbbb:publish:1', 'out:bbbb', 0, 'publish', '424242', NULL, 'bbbb', '{"row":2}', NULL, 0, 0, 0, 1789900080000, NULL, NULL);
INSERT INTO hitl_receipt (event_id, receiver, verdict, starts, attempts, error) VALUES (3, '0:operator_message:bot:handler', 'accepted', 0, 1, NULL);
INSERT INTO hitl_bucket (portal_id, slots, blocked_until, pauses, open_until, trips, probe_until) VALUES ('424242', '{"1789900080":2}', 0, 0, 0, 0, 0);
INSERT INTO hitl_token (portal_id, secret, lease_until, fence) VALUES ('424242', 'gAAAAABrA1qbo7yJnNPWmuvK6vBvfxkLl6bo3r8QRpeLosSOdX4EqbLCOWSqqnXQ-JAncbQ983rmmIP9PDksjwwHF3L4-LQ9Gu6K-dyPUi_fTYXZj8c9TyD1mK3f7tNuLIw9u4L9MKW5yPS1JRkdSYgvr5VRBb8gPajoqpq-u-qLepXNbopTIbu7ldYvV02na2vNhfpRNWCjcW3tA6pqg0yiewTbiDT-SH-pNRiVmvnY50drRSUl6ssfp9A6PLO_UtB1MnYhXAF-WXkiUWQHrdaGY56W4d7G0JlIavyhYZfyrlzqxDsT8v9iS0-dz_F68vfVFjKkMfFmvkd1ZS7TD-EJqRwttVuH5XCvtT7Mb-mcp2ziCx4O046maZVSKbClCjnF9kfyhxI-', 0, 4);
