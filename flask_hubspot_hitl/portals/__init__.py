"""A HubSpot account: how it comes and goes, its tokens, its budget of requests, its client, its channel accounts."""
