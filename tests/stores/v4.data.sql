-- Schema 4 holds no more than schema 3.

UPDATE hitl_meta SET value = '4' WHERE name = 'schema_version';
