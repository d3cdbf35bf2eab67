"""The engine: it claims lanes, runs their tasks, tries again, and gives up. It knows no handoff."""
