"""What HubSpot's side has to be like: compared, planned, and carried out."""
