"""What others wrote or play, used to check us: HubSpot's own libraries, and a scripted HTTP peer."""
