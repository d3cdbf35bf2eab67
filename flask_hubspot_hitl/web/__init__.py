"""The HTTP door: HubSpot's webhook, and the pages that a person sees."""
