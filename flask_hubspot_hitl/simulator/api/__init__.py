"""HubSpot's API families, as the stand-in answers them."""
