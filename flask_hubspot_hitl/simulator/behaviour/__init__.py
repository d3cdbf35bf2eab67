"""What HubSpot does: threads, people, publishing, and the events that follow."""
