-- Schema 6 knows of its handoffs neither when they were taken nor what place was told.

UPDATE hitl_meta SET value = '6' WHERE name = 'schema_version';
