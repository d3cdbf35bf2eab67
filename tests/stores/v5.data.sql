-- Schema 5 has two more tables' worth of what was erased, which is empty here.

UPDATE hitl_meta SET value = '5' WHERE name = 'schema_version';
