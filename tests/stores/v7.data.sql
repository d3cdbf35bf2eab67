-- Schema 7 knows no machine, and nobody who was silent, of its handoffs from before.

UPDATE hitl_meta SET value = '7' WHERE name = 'schema_version';
