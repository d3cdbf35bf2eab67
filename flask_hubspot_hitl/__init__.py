"""Flask-HubSpot-HITL."""
