"""What drives the stand-in: its switches, its limits, its deliveries, and what it records."""
