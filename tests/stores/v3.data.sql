-- What schema 3 holds beside that of schema 2: lanes of every class, most of which wait for their time.

UPDATE hitl_meta SET value = '3' WHERE name = 'schema_version';
INSERT INTO hitl_lane ("key", due_at, owner, fence, wake, failures, gap) VALUES
  ('receipt:bbbb', NULL, NULL, 4, 4, 0, 0), ('timer:bbbb:assignment-timeout', 1899900080000, NULL, 1, 1, 0, 0),
  ('reconcile:hourly', 1899900080000, NULL, 9, 9, 0, 0), ('prune:', 1899900080000, NULL, 9, 9, 0, 0),
  ('botpress-chat:u1', NULL, NULL, 2, 2, 0, 0);
INSERT INTO hitl_event (id, dedupe_key, lane, sort_at, topic, portal_id, thread_id, handoff_id, payload, progress, state, starts, attempts, received_at, done_at, error) VALUES
  (6, 'timer:bbbb', 'timer:bbbb:assignment-timeout', 0, 'assignment-timeout', '424242', '6300112233', 'bbbb', NULL, NULL, 0, 0, 0, 1789900080000, NULL, NULL),
  (7, 'prune', 'prune:', 0, 'prune', NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 1789900080000, NULL, NULL);
