"""Set HubSpot up for a deployment: compare, plan, and carry out."""
