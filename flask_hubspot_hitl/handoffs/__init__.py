"""What happens to a handoff, whoever asks for it: the host, HubSpot, or a timer."""
